"""Folders of results: what we write of our own counts agrees, and whatever is changed in it is found."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
import yaml

from mapgym.errors import SpecificationError
from mapgym.mapping import Mapping
from mapgym.mapspace.space import MapSpace
from mapgym.spec.accelerator import Accelerator
from mapgym.spec.levels import Mac, StorageLevel
from mapgym.spec.workload import Workload, conv2d, matmul
from mapgym.timeloop.results import validate_folder
from timeloop_output import BEFORE_V2, OF_2022, OF_2024, problem, write_results

LAYER = conv2d("layer", C=4, M=8, P=6, Q=3, R=3, S=3, stride=(2, 1))
OUTLINES = {BEFORE_V2: "timeloop-2021", OF_2022: "timeloop-2021", OF_2024: "timeloop-2024"}
AXES = ("tile", "order", "parallelism", "bypass")


def machine(rules: str, *, one_energy: bool = False) -> Accelerator:
    """Three levels with blocks, a limit of bandwidth and energies of actions, and a spread that keeps nothing."""
    energies = {"read": 1.25, "write": 1.25} if one_energy else {"read": 1.25, "write": 2.125, "leak": 0.0078125}
    levels = (
        StorageLevel("RF", 64, 4, 2, action_energies_pj=tuple(energies.items())),
        StorageLevel("Spread", 1, 1, 2, keep_only=(), access_energy_pj=0.0),
        StorageLevel(
            "Buf",
            4096,
            block_size_words=4,
            read_bandwidth_words_per_cycle=4.0,
            action_energies_pj=tuple(energies.items()),
        ),
        StorageLevel("DRAM", None, block_size_words=8, action_energies_pj=(("read", 64.0), ("write", 64.0))),
    )
    mac = Mac("MACC", 8, 2, action_energies_pj=(("mac", 0.75),))
    return Accelerator("machine", levels, mac, fanout_check="cumulative", rules=rules)


def some_mapping(workload: Workload, accelerator: Accelerator, seed: int) -> Mapping:
    return MapSpace(workload, accelerator, AXES).sample(np.random.default_rng(seed), 1)[0]


def written(folder, outline=OF_2024, seed=0, workload=LAYER, **options):
    accelerator = machine(OUTLINES[outline], one_energy=outline == BEFORE_V2)
    return write_results(
        folder, workload, accelerator, some_mapping(workload, accelerator, seed), outline=outline, **options
    )


@pytest.mark.parametrize("outline", OUTLINES)
@pytest.mark.parametrize("seed", range(4))
def test_our_own_counts_agree_in_every_outline(tmp_path, outline, seed):
    written(tmp_path, outline, seed)
    (report,) = validate_folder(tmp_path)
    assert report.error == ""
    assert report.differences == []
    assert report.agrees
    assert report.energy_agrees
    assert report.equal == report.compared
    assert min(report.compared.values()) > 5


@pytest.mark.parametrize("seed", range(4))
def test_an_architecture_says_how_many_there_are_of_what_is_not_printed(tmp_path, seed):
    written(tmp_path, seed=seed)
    (report,) = validate_folder(tmp_path)
    assert any("Spread keeps nothing and is not printed" in note for note in report.notes)
    written(tmp_path, seed=seed, with_architecture=True)
    (report,) = validate_folder(tmp_path)
    assert report.notes == []
    assert report.agrees
    assert report.energy_agrees


@pytest.mark.parametrize("seed", range(4))
def test_the_workload_is_inferred_from_sizes_and_counts(tmp_path, seed):
    written(tmp_path, OF_2022, seed, with_problem=False)
    (report,) = validate_folder(tmp_path)
    assert report.agrees
    assert report.energy_agrees
    assert any("no problem is there" in note and "2*P" in note for note in report.notes)


def test_a_problem_that_only_names_its_shape_is_inferred(tmp_path):
    written(tmp_path)
    (tmp_path / "parsed-processed-input.yaml").write_text("problem: {shape: cnn-layer, C: 4}")
    (report,) = validate_folder(tmp_path)
    assert report.agrees
    assert any("the problem cannot be used" in note for note in report.notes)


def test_what_sizes_cannot_explain_is_asked_for(tmp_path):
    skewed = Workload.from_dict(
        {
            "name": "skewed",
            "dims": {"I": 6, "J": 5, "K": 4},
            "tensors": {
                "A": {"projection": ["I + 3*J"]},
                "B": {"projection": ["K", "J"]},
                "Z": {"projection": ["I", "K"], "output": True},
            },
        }
    )
    written(tmp_path, workload=skewed, with_problem=False)
    (report,) = validate_folder(tmp_path)
    assert "'A'" in report.error
    assert "--problem" in report.error
    assert not report.agrees
    (tmp_path.parent / "given.yaml").write_text(yaml.safe_dump({"problem": problem(skewed)}))
    (report,) = validate_folder(tmp_path, {"problem": tmp_path.parent / "given.yaml"})
    assert report.agrees


def test_without_an_ert_energies_agree_as_far_as_they_are_printed(tmp_path):
    written(tmp_path, OF_2022, with_ert=False)
    stats = tmp_path / "timeloop-model.stats.txt"
    # One energy is printed for all accesses: what differs by action cannot agree, but counts do.
    (report,) = validate_folder(tmp_path)
    assert report.agrees
    assert any("two decimals" in note for note in report.notes)
    assert not report.energy_agrees
    accelerator = machine("timeloop-2021", one_energy=True)
    write_results(tmp_path, LAYER, accelerator, some_mapping(LAYER, accelerator, 0), outline=OF_2022, with_ert=False)
    (report,) = validate_folder(stats)
    assert report.agrees
    assert report.energy_agrees


@pytest.mark.parametrize("label", ["Scalar reads", "Scalar fills", "Scalar updates", "Partition size", "Utilized cap"])
def test_a_count_that_is_changed_is_the_one_that_differs(tmp_path, label):
    written(tmp_path)
    stats = tmp_path / "timeloop-model.stats.txt"
    text = stats.read_text()
    match = list(re.finditer(rf"{label}[^:\n]*: (\d+)\n", text))[-1]
    stats.write_text(f"{text[: match.start(1)]}{int(match[1]) + 1}{text[match.end(1) :]}")
    (report,) = validate_folder(tmp_path)
    assert not report.agrees
    (difference,) = report.differences
    assert difference.place[0] == "DRAM"
    assert difference.place[2].startswith(label)
    assert (int(difference.theirs), difference.ours) == (int(match[1]) + 1, int(match[1]))
    assert difference.why == ""


def test_another_version_explains_what_is_counted_otherwise(tmp_path):
    accelerator = machine("timeloop-2024")
    mapping = some_mapping(LAYER, accelerator, 1)
    older = replace(accelerator, rules="timeloop-2021")
    write_results(tmp_path, LAYER, older, mapping, outline=OF_2022)
    (report,) = validate_folder(tmp_path, rules="timeloop-2025")
    assert report.rules == "timeloop-2025"
    assert report.known_by == "as you have said"
    (found,) = validate_folder(tmp_path)
    assert (found.rules, found.agrees) == ("timeloop-2021", True)
    assert report.differences


def test_several_runs_in_a_folder_and_folders_in_a_folder(tmp_path):
    written(tmp_path / "a", seed=1, run="timeloop-model")
    written(tmp_path / "a", seed=2, run="timeloop-mapper")
    written(tmp_path / "b" / "c", OF_2022, seed=3)
    (tmp_path / "b" / "notes.yaml").write_text("problem: none")
    reports = list(validate_folder(tmp_path))
    assert [report.name for report in reports] == ["a/timeloop-mapper", "a/timeloop-model", "c"]
    assert all(report.agrees for report in reports)


def test_what_a_folder_lacks_lies_in_those_around_it(tmp_path):
    written(tmp_path / "run" / "output", seed=1)
    for name in ("timeloop-model.ERT.yaml", "parsed-processed-input.yaml"):
        (tmp_path / "run" / "output" / name).rename(tmp_path / "run" / name)
    (report,) = validate_folder(tmp_path / "run")
    assert report.agrees
    assert report.energy_agrees
    assert not any("no problem" in note or "no ERT" in note for note in report.notes)
    # Further out than the folder that is named nothing is taken, nor where several files have it.
    (alone,) = validate_folder(tmp_path / "run" / "output")
    assert any("no problem" in note for note in alone.notes)
    for i in range(2):
        (tmp_path / "run" / f"problem{i}.yaml").write_text(
            (tmp_path / "run" / "parsed-processed-input.yaml").read_text()
        )
    (several,) = validate_folder(tmp_path / "run")
    assert any("no problem" in note for note in several.notes)


def test_a_mapping_file_stands_for_a_nest(tmp_path):
    accelerator = machine("timeloop-2024")
    mapping = some_mapping(LAYER, accelerator, 2)
    write_results(tmp_path, LAYER, accelerator, mapping, with_architecture=True)
    (tmp_path / "timeloop-model.map.txt").unlink()
    (report,) = validate_folder(tmp_path)
    assert "does not print the loops of 'Spread'" in report.error
    nodes = []
    for s, name in enumerate(accelerator.level_names):
        x_loops, y_loops = mapping.spatial_sides(s)
        kinds = {"temporal": mapping.temporal_loops(s), "spatial": x_loops + y_loops}
        nodes += [
            {"target": name, "type": kind, "factors": dict(loops), "permutation": [dim for dim, _ in loops]}
            for kind, loops in kinds.items()
        ]
        nodes[-1]["split"] = len(x_loops)
        nodes.append(
            {
                "target": name,
                "type": "bypass",
                "bypass": [t for t, k in zip(mapping.tensors, mapping.keep[s], strict=True) if not k],
            }
        )
    (tmp_path / "timeloop-model.map.yaml").write_text(yaml.safe_dump({"mapping": nodes}))
    (report,) = validate_folder(tmp_path)
    assert (report.error, report.agrees, report.energy_agrees) == ("", True, True)


def test_the_nest_may_be_missing_where_statistics_have_the_loops(tmp_path):
    written(tmp_path, OF_2022)
    (tmp_path / "timeloop-model.map.txt").unlink()
    (report,) = validate_folder(tmp_path)
    assert report.agrees
    stats = tmp_path / "timeloop-model.stats.txt"
    stats.write_text("\n".join(line for line in stats.read_text().splitlines() if " in [0:" not in line))
    (report,) = validate_folder(tmp_path)
    assert "has no loops" in report.error
    assert "--mapping" in report.error


@pytest.mark.parametrize(("printed", "is_equal"), [("1.00", True), ("1", True), ("0.99", False), ("0", False)])
def test_a_share_of_the_speed_is_equal_if_it_gives_the_cycles(tmp_path, printed, is_equal):
    written(tmp_path)
    stats = tmp_path / "timeloop-model.stats.txt"
    text = stats.read_text()
    label = "Bandwidth throttling : 1.00"
    assert label in text
    stats.write_text(text.replace(label, f"Bandwidth throttling : {printed}", 1))
    (report,) = validate_folder(tmp_path)
    assert report.agrees is is_equal


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda text: text[: len(text) // 3], "cut off"),
        (lambda text: text.replace("Size ", "Sighs "), None),
        (lambda text: text.replace("8 (4*2)", "eight"), "Instances is 'eight'"),
        (lambda text: text.replace("Block size           : 4", "Block size           : four"), "'four'"),
        (lambda text: text.replace("=== Buf ===", "=== RF ==="), "names a level twice"),
        (lambda text: text.replace("    Inputs:", "    Inputs (Streamed):", 1), "streams 'Inputs'"),
    ],
)
def test_broken_statistics_get_one_sentence(tmp_path, change, words):
    written(tmp_path)
    stats = tmp_path / "timeloop-model.stats.txt"
    stats.write_text(change(stats.read_text()))
    (report,) = validate_folder(tmp_path)
    if words is None:
        assert report.agrees  # nothing limits the levels then
    else:
        assert words in report.error
        assert str(tmp_path) in report.error
        assert "\n" not in report.error


def test_no_results(tmp_path):
    (tmp_path / "readme.txt").write_text("nothing")
    with pytest.raises(SpecificationError, match="holds no results of Timeloop"):
        list(validate_folder(tmp_path))
    with pytest.raises(SpecificationError, match="there is no such folder"):
        list(validate_folder(tmp_path / "nowhere"))


def test_a_nest_of_another_run_is_refused(tmp_path):
    written(tmp_path)
    nest = tmp_path / "timeloop-model.map.txt"
    nest.write_text(nest.read_text().replace("Buf [", "Other ["))
    (report,) = validate_folder(tmp_path)
    assert "'Buf'" in report.error


def test_matrices_without_a_problem_are_told_apart_by_their_counts(tmp_path):
    square = matmul("square", M=8, K=8, N=8)
    for seed in range(3):
        written(tmp_path / str(seed), OF_2022, seed, workload=square, with_problem=False)
    assert all(report.agrees for report in validate_folder(tmp_path))
