"""Results of sparse hardware: features are read, or inferred from what the counts leave possible."""

from __future__ import annotations

import numpy as np
import pytest

from mapgym.cost import CostModel
from mapgym.errors import SpecificationError
from mapgym.mapping import Mapping
from mapgym.mapspace.space import MapSpace
from mapgym.spec.accelerator import Accelerator
from mapgym.spec.levels import Mac, StorageLevel
from mapgym.spec.workload import matmul
from mapgym.timeloop.reading.sparse import targets_of, with_sparse_optimizations
from mapgym.timeloop.results import validate_folder
from mapgym.timeloop.results.labels import our_figures
from mapgym.timeloop.results.sparse import with_conversions
from mapgym.timeloop.results.sparse_inference import settle
from timeloop_output import write_sparse_results

LAYER = matmul("layer", M=8, K=16, N=4).with_densities({"Inputs": 0.25, "Weights": 0.5})
ENERGIES = (("read", 1.25), ("write", 2.0), ("metadata_read", 0.5), ("metadata_write", 0.75), ("gated_read", 0.125))
FORMATS = {"Buf": {"Inputs": ["B"]}, "DRAM": {"Inputs": ["UOP", "B"]}}


def machine(saving: str | None = None, formats: dict[str, dict[str, list[str]]] | None = None) -> Accelerator:
    formats = formats or {}
    actions = [] if saving is None else [{"type": saving, "target": "Weights", "condition_on": ["Inputs"]}]
    bits = {"metadata_word_bits": 8, "action_energies_pj": ENERGIES}
    levels = (
        StorageLevel("Buf", 1024, formats=formats.get("Buf", {}), actions=actions, **bits),
        StorageLevel("DRAM", formats=formats.get("DRAM", {}), **bits),
    )
    mac = Mac("MACC", action_energies_pj=(("mac_random", 0.75), ("mac_gated", 0.25)))
    return Accelerator("machine", levels, mac, fanout_check="cumulative", rules="timeloop-2024")


def features(saving: str) -> dict[str, object]:
    spaces = {
        name: [
            {"name": tensor, "ranks": [{"format": rank} for rank in ranks], "rank_application_order": "inner-to-outer"}
            for tensor, ranks in of_level.items()
        ]
        for name, of_level in FORMATS.items()
    }
    action = {"type": saving, "options": [{"target": "Weights", "condition_on": ["Inputs"]}]}
    return {
        "targets": [
            {
                "name": "Buf",
                "representation_format": {"data_spaces": spaces["Buf"]},
                "action_optimization": [action],
            },
            {"name": "DRAM", "representation_format": {"data_spaces": spaces["DRAM"]}},
        ]
    }


def a_mapping(seed: int):
    space = MapSpace(LAYER, machine(), ("tile", "order"))
    batch = space.sample(np.random.default_rng(seed), 200)
    # Formats of two ranks take two loops of the inputs at most, of which one is inside of the buffer.
    for i in range(len(batch)):
        mapping = batch[i]
        inputs = [mapping.dims.index(dim) for dim in "MK"]
        inner, outer = ((mapping.temporal[s, inputs] > 1).sum() for s in range(2))
        if inner == 1 and outer == 1:
            return mapping
    raise AssertionError("no such mapping")


@pytest.mark.parametrize("saving", ["gating", "skipping"])
@pytest.mark.parametrize("seed", range(3))
def test_sparse_results_agree_with_and_without_their_features(tmp_path, saving, seed):
    mapping = a_mapping(seed)
    for given in (features(saving), None):
        write_sparse_results(tmp_path / str(given is None), LAYER, machine(saving, FORMATS), mapping, given)
    inferred, read = sorted(validate_folder(tmp_path), key=lambda report: report.name == "False")
    assert read.error == inferred.error == ""
    assert read.differences == []
    assert read.energy_agrees
    assert inferred.agrees
    assert any("no sparse_optimizations" in note for note in inferred.notes)
    assert inferred.compared["counts"] == read.compared["counts"] > 30


def test_temporal_reductions_are_the_share_of_updates_that_happen_rounded_up(tmp_path):
    # 15 reads of partial sums for 16 updates, of which 4 happen: 3.75 are 4, although 3 words are read.
    layer = matmul("dot", M=1, K=16, N=1).with_densities({"Inputs": 0.25})
    actions = [{"type": "gating", "target": "Outputs", "condition_on": ["Inputs"]}]
    level = StorageLevel("DRAM", actions=actions)
    accelerator = Accelerator("flat", (level,), Mac())
    mapping = Mapping.trivial(layer, accelerator)
    cost = CostModel(layer, accelerator, is_canonical=False).evaluate(mapping, detail=True)
    figures = our_figures(accelerator, layer, cost)
    place = ("DRAM", "Outputs", "{} (per-instance)")
    names = ("Algorithmic scalar reads", "Actual scalar reads", "Actual scalar updates", "Temporal reductions")
    assert [figures[place[0], place[1], place[2].format(name)] for name in names] == [15, 3, 4, 4]


def test_formats_of_a_level_are_settled_together():
    choices = {("format", "a", "x"): [0, 1], ("format", "a", "y"): [0, 1]}

    def badness(guess):
        return (0 if guess.value("format", "a", "x") == guess.value("format", "a", "y") == 1 else 1), 0

    assert settle(choices, badness).taken == {("format", "a", "x"): 1, ("format", "a", "y"): 1}


def test_ranks_that_join_loops_are_inferred(tmp_path):
    formats = {"Buf": {"Inputs": ["B@M+K"]}, "DRAM": {"Inputs": ["UOP@M+K", "B@M+K"]}}
    accelerator = machine("gating", formats)
    batch = MapSpace(LAYER, machine(), ("tile", "order")).sample(np.random.default_rng(3), 200)
    inputs = [batch.dims.index(dim) for dim in "MK"]
    for i in range(len(batch)):
        if ((batch[i].temporal[1, inputs] > 1).sum(), (batch[i].temporal[0, inputs] > 1).sum()) == (2, 2):
            write_sparse_results(tmp_path, LAYER, accelerator, batch[i], None)
            break
    (report,) = validate_folder(tmp_path)
    assert report.error == ""
    assert report.is_close


def featured(data):
    """The machine with what sparse_optimizations say of it."""
    return with_conversions(with_sparse_optimizations(machine(), targets_of(data, "in.yaml")))


class TestFeatures:
    def test_ranks(self):
        ranks = [
            {"format": "uop", "payload-word-bits": 0},
            {"format": "B"},
            {"format": "CP", "metadata_word_bits": 14, "flattened-rankIDs": [["K", "M"]]},
        ]
        data = {
            "targets": [{"name": "DRAM", "representation-format": {"data-spaces": [{"name": "A", "ranks": ranks}]}}]
        }
        found = featured(data)
        assert found.levels[1].formats == (("A", ("outer-to-inner", "UOP:8/0", "B", "CP@K+M:14/8")),)

    def test_compute(self):
        found = featured({"targets": [{"name": "MACC", "compute_optimization": [{"type": "gating"}]}]})
        assert found.mac.zero_operands == ("gating",)

    def test_what_is_stored_plain_below_what_is_packed_is_unpacked(self):
        found = featured({"targets": features("gating")["targets"][1:]})
        assert [level.decompression_supported for level in found.levels] == [True, False]

    @pytest.mark.parametrize(
        ("target", "words"),
        [
            ({"name": "Nowhere"}, "there is no such component"),
            ({"name": "Buf", "action_optimization": [{"type": "leaping", "options": [{"target": "A"}]}]}, "'leaping'"),
            ({"name": "MACC", "compute_optimization": [{"type": "leaping"}]}, "'leaping'"),
        ],
    )
    def test_what_is_refused(self, target, words):
        with pytest.raises(SpecificationError) as error:
            featured({"targets": [target]})
        assert words in str(error.value)


def test_choices_are_settled_one_after_the_other():
    choices = {("format", "a"): [0, 1, 2], ("format", "b"): [0, 1], ("format", "c"): [0]}
    tried = []

    def badness(guess):
        tried.append(dict(guess.taken))
        return abs(guess.value("format", "a") - 2) + abs(guess.value("format", "b") - 1), 0

    best = settle(choices, badness)
    assert (best.value("format", "a"), best.value("format", "b"), best.value("format", "c")) == (2, 1, 0)
    assert best.value("format", "d") is None
    assert len(tried) <= 6
