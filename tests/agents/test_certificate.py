"""Certificates in searches and comparisons, and the study of optima."""

from __future__ import annotations

import contextlib
import csv
import json
import math
import os
import signal
import time
from dataclasses import replace

import numpy as np
import pytest

from mapgym.agents.certificate import BEST_KNOWN, Certificate, certify, known_certificate
from mapgym.agents.interruption import Interruption
from mapgym.agents.labels import percent, short_gap
from mapgym.agents.studies.optimum import study as optimum_study
from mapgym.agents.studies.optimum.structure import Structure
from mapgym.cost import CostModel
from mapgym.cost.optimum import find_optimum
from mapgym.evaluation import best_known as store
from mapgym.evaluation.best_known import CERTIFIED, GAP, BestKnown, all_best_known, read_entries, task_key
from mapgym.evaluation.task import Task
from mapgym.mapping import Mapping
from mapgym.mapspace import MapSpace
from mapgym.spec import catalog

TASK = ("paper/bert_attn", "accel_b", "--no-peer-links")
AXES = ("tile", "order", "parallelism")
COMPARE = ("compare", "--agents", "random", "--samples", 50, "--seeds", 1)


def space_of(workload=TASK[0], accelerator=TASK[1], axes=AXES):
    return MapSpace(catalog.workload(workload), replace(catalog.accelerator(accelerator), peer_links=False), axes)


@pytest.fixture
def space():
    return space_of()


@pytest.fixture
def nothing_stored(monkeypatch):
    monkeypatch.setattr(store, "_stored", lambda key: None)


def stored_entry(space, share_proven=1.0):
    """An entry for a task with a random mapping, said to be optimal or proven to a share."""
    mapping = space.sample(np.random.default_rng(0), 1)[0]
    value = float(CostModel(space.workload, space.accelerator).evaluate(mapping).edp)
    return BestKnown(
        key=task_key(space.workload, space.accelerator, space.axes, "edp"),
        workload=space.workload.name,
        accelerator=space.accelerator.name,
        peer_links=False,
        rules=space.accelerator.rules,
        axes=space.axes,
        objective="edp",
        value=value,
        lower_bound=value * share_proven,
        status=CERTIFIED if share_proven == 1.0 else GAP,
        mapping=mapping.to_dict(),
        command="mapgym study optimum",
    )


def make_certificate(value=100.0, lower_bound=100.0, certified=True):
    return Certificate("key", value, lower_bound, certified, "solver", {"levels": [{"level": "Memory"}]}, 7, 0.5)


class TestCertificate:
    def test_how_a_distance_is_said(self):
        certified, gap = make_certificate(), make_certificate(lower_bound=80.0, certified=False)
        assert certified.describe(112.34) == "12.3 % above the certified optimum"
        assert certified.describe(100.0) == certified.describe(100.00005) == "the certified optimum"
        assert gap.describe(100.0) == "at most 25 % above the optimum (proven bound)"
        assert "BELOW the proven bound" in certified.describe(99.0)
        assert "nothing is proven" in make_certificate(lower_bound=0.0, certified=False).describe(5.0)

    def test_how_a_distance_stands_in_a_table(self):
        assert make_certificate().short(112.34) == "12.3 %"
        assert make_certificate().short(None) == "-"
        assert make_certificate(lower_bound=80.0, certified=False).short(100.0) == "<= 25 %"
        assert short_gap(1e-8, certified=True) == "0 %"
        assert short_gap(math.inf, certified=True) == "-"
        assert [percent(share) for share in (0.000123456, 0.9999, 1.234, 23.45)] == [
            "0.0123 %",
            "100 %",
            "123 %",
            "2,345 %",
        ]

    def test_the_solver_proves_an_optimum(self, space, nothing_stored):
        found = certify(space, "edp", 30)
        mapping = Mapping.from_dict(found.mapping, space.workload, space.accelerator)
        assert found.certified
        assert found.gap() <= 1e-6
        assert space.contains(mapping)
        assert CostModel(space.workload, space.accelerator).evaluate(mapping).edp == pytest.approx(
            found.value, rel=1e-9
        )
        assert found.value <= min(
            CostModel(space.workload, space.accelerator).evaluate(space.sample(np.random.default_rng(0), 500)).edp
        )

    def test_a_stored_optimum_is_not_solved_again(self, space, monkeypatch):
        entry = stored_entry(space)
        monkeypatch.setattr(store, "_stored", {entry.key: entry}.get)
        found = certify(space, "edp", 30)
        assert (found.value, found.source, found.seconds) == (entry.value, BEST_KNOWN, None)
        assert known_certificate(space, "edp") == found

    def test_a_stored_gap_is_closed_and_a_stored_bound_is_kept(self, space, monkeypatch):
        entry = stored_entry(space, share_proven=0.01)
        monkeypatch.setattr(store, "_stored", {entry.key: entry}.get)
        found = certify(space, "edp", 30)
        assert found.certified
        assert entry.lower_bound <= found.lower_bound <= found.value <= entry.value

    def test_an_interruption_is_noticed_even_if_it_was_dealt_with(self, ctrl_c):
        before = signal.getsignal(signal.SIGINT)
        with Interruption() as interruption:
            assert not interruption.happened
            try:
                os.kill(os.getpid(), signal.SIGINT)
                time.sleep(5)
            except KeyboardInterrupt:
                pass
        assert interruption.happened
        assert signal.getsignal(signal.SIGINT) is before


class TestSearch:
    def test_json_has_the_proof(self, mapgym, space, nothing_stored):
        status, text, _ = mapgym("search", *TASK, "--samples", 50, "--certify", 30, "--json")
        found = json.loads(text)
        assert status == 0
        assert found["gap"] == pytest.approx(found["edp"] / found["lower_bound_proven"] - 1)
        assert found["gap"] > 0
        assert found["certified"] is False  # the mapping that was found is not the optimum
        optimum = found["optimum"]
        assert optimum["certified"] is True
        assert optimum["value"] == pytest.approx(found["lower_bound_proven"], rel=1e-6)
        Mapping.from_dict(optimum["mapping"], space.workload, space.accelerator)

    def test_json_has_nulls_where_nothing_is_proven(self, mapgym, nothing_stored):
        _, text, _ = mapgym("search", *TASK, "--samples", 50, "--json")
        found = json.loads(text)
        assert [found[key] for key in ("lower_bound_proven", "gap", "certified", "optimum")] == [None] * 4

    def test_a_stored_optimum_is_shown_without_asking(self, mapgym, space, monkeypatch):
        entry = stored_entry(space)
        monkeypatch.setattr(store, "_stored", {entry.key: entry}.get)
        _, text, _ = mapgym("search", *TASK, "--samples", 50, "--json")
        assert json.loads(text)["lower_bound_proven"] == entry.value

    def test_the_distance_is_printed(self, mapgym, nothing_stored):
        _, text, error = mapgym("search", *TASK, "--samples", 50, "--certify", 30)
        assert "% above the certified optimum\n" in text
        assert "certified optimum: EDP " in text
        assert error == ""

    def test_the_exact_agent_always_says_what_it_has_proven(self, mapgym, nothing_stored):
        _, text, _ = mapgym("search", *TASK, "--agent", "exact", "--json")
        found = json.loads(text)
        assert found["certified"] is True
        assert 0 <= found["gap"] <= 1e-6
        assert found["optimum"]["value"] == found["edp"]

    def test_what_the_exact_agent_finds_within_its_seconds_counts(self, mapgym, nothing_stored):
        # No time at all: the solver still finds a mapping, and proves some bound.
        for arguments in (("--seconds", "0.001"), ("--seconds", "5", "-p", "seconds=0")):
            status, text, _ = mapgym("search", *TASK, "--agent", "exact", *arguments, "--json")
            found = json.loads(text)
            assert status == 0
            assert found["edp"] == found["optimum"]["value"]
            assert found["lower_bound_proven"] <= found["edp"]

    def test_an_interrupted_exact_search_gives_its_mapping_and_its_bound(
        self, mapgym, nothing_stored, monkeypatch, ctrl_c
    ):
        def interrupted(*arguments, **options):
            # As the solver does: Ctrl-C becomes an early result.
            with contextlib.suppress(KeyboardInterrupt):
                os.kill(os.getpid(), signal.SIGINT)
                time.sleep(5)
            return replace(find_optimum(*arguments, **options), lower_bound=6e16)

        monkeypatch.setattr("mapgym.agents.search.exact.find_optimum", interrupted)
        status, text, error = mapgym("search", *TASK, "--agent", "exact", "--json")
        found = json.loads(text)
        assert status == 130
        assert found["interrupted"] is True
        assert (found["lower_bound_proven"], found["certified"]) == (6e16, False)
        assert error.startswith("Interrupted")

    def test_a_task_that_cannot_be_treated_is_searched_without_a_certificate(self, mapgym):
        status, text, error = mapgym("search", TASK[0], "accel_b_sparse_md", "--samples", 50, "--certify", 5, "--json")
        assert status == 0
        assert json.loads(text)["gap"] is None
        assert len(error.splitlines()) == 1
        assert "without a certificate" in error

    @pytest.mark.parametrize("seconds", ["0", "-1", "nan", "inf"])
    def test_the_time_must_be_positive(self, mapgym, seconds):
        for command in (("search", *TASK), (*COMPARE, "--workload", TASK[0], "--accelerator", TASK[1], "-o", "out")):
            status, text, error = mapgym(*command, "--certify", seconds)
            assert (status, text) == (2, "")
            assert "--certify is" in error


class TestCompare:
    @pytest.fixture
    def arguments(self, tmp_path):
        layers = f"{TASK[0]},toy/tiny_gemm"
        machines = ("--accelerator", f"{TASK[1]},accel_b_sparse_md", "--no-peer-links")
        return (*COMPARE, "--workload", layers, *machines, "--certify", 30, "-o", tmp_path / "out")

    def test_every_table_has_the_distance_and_unsupported_tasks_go_without(
        self, mapgym, arguments, tmp_path, nothing_stored
    ):
        status, text, error = mapgym(*arguments)
        assert status == 0
        assert f"[certificate 1/4] {TASK[0]} on {TASK[1]}, no links: certified optimum: EDP" in text
        assert "% above the certified optimum, 50 samples" in text
        assert "above optimum" in text
        assert len(error.splitlines()) == 2  # one sentence for each task on accel_b_sparse_md
        rows = list(csv.DictReader((tmp_path / "out" / "summary.csv").read_text().splitlines()))
        first, unsupported = rows[0], next(row for row in rows if row["accelerator"] == "accel_b_sparse_md")
        assert first["optimum_certified"] == "true"
        gap = float(first["best_value"]) / float(first["proven_lower_bound"]) - 1
        assert float(first["gap_to_proven_bound"]) == pytest.approx(gap)
        assert [unsupported[key] for key in ("gap_to_proven_bound", "optimum_certified")] == ["", ""]
        report = (tmp_path / "out" / "summary.md").read_text()
        assert "| above optimum |" in report
        assert "Certified optimum: EDP" in report

    def test_what_was_solved_is_kept(self, mapgym, arguments, tmp_path, monkeypatch, nothing_stored):
        mapgym(*arguments)
        before = (tmp_path / "out" / "summary.csv").read_text()

        def refuse(space, *arguments):
            assert space.accelerator.name == "accel_b_sparse_md", "solved again"
            return certify(space, *arguments)

        monkeypatch.setattr("mapgym.agents.experiment.proof.proofs.certify", refuse)
        status, _, _ = mapgym(*arguments)
        assert status == 0
        assert (tmp_path / "out" / "summary.csv").read_text() == before


class TestStudy:
    @pytest.fixture
    def arguments(self, tmp_path):
        layers = f"{TASK[0]},toy/tiny_bmm,{TASK[0]}"
        return (
            "study",
            "optimum",
            "--networks",
            layers,
            "--accelerators",
            "accel_b,accel_b_sparse_md",
            "--axes",
            "tile,order,parallelism",
            "-o",
            tmp_path / "out",
        )

    def test_a_study_writes_tables_pictures_and_best_known_mappings(self, mapgym, arguments, tmp_path):
        best = tmp_path / "best.yaml"
        status, text, error = mapgym(*arguments, "--update-best-known", best)
        assert (status, error) == (0, "")
        assert "[1/4] paper/bert_attn on accel_b, keep-all: certified optimum: EDP" in text
        folder = tmp_path / "out"
        assert {"optimum.md", "optimum.csv", "time.png", "share.png", "structure.png"} < {
            p.name for p in folder.iterdir()
        }
        rows = list(csv.DictReader((folder / "optimum.csv").read_text().splitlines()))
        assert len(rows) == 4  # a layer that is named twice counts once
        assert rows[0]["certified"] == "true"
        assert "GlobalBuffer: " in rows[0]["stationary"]
        assert next(row for row in rows if row["accelerator"] == "accel_b_sparse_md")["note"]
        entries = read_entries(best.read_text())
        assert {entry.accelerator for entry in entries} == {"accel_b"}
        space = space_of()
        entry = next(entry for entry in entries if entry.workload == TASK[0])
        assert entry.certified
        assert space.contains(entry.to_mapping(space.workload, space.accelerator))
        assert entry.command.startswith("mapgym study optimum")

    def test_a_study_continues(self, mapgym, arguments, tmp_path, monkeypatch):
        mapgym(*arguments)
        report = (tmp_path / "out" / "optimum.csv").read_text()
        monkeypatch.setattr(optimum_study, "_solve", None)
        status, text, _ = mapgym(*arguments)
        assert status == 0
        assert text.count("was there already") == 4
        assert (tmp_path / "out" / "optimum.csv").read_text() == report

    def test_an_interrupted_study_says_how_to_continue(self, mapgym, arguments, monkeypatch):
        solve, solved = optimum_study._solve, []

        def interrupted(*arguments):
            if solved:
                raise KeyboardInterrupt
            solved.append(1)
            return solve(*arguments)

        monkeypatch.setattr(optimum_study, "_solve", interrupted)
        status, _, error = mapgym(*arguments)
        assert status == 130
        assert "Interrupted: 1 of 4 tasks are finished and kept" in error

    def test_an_entry_gives_way_only_to_one_that_says_more(self, space, tmp_path):
        file = tmp_path / "best.yaml"
        task = Task(space.workload, space.accelerator, space.axes, "edp")

        def join(value, lower_bound, certified):
            found = make_certificate(value, lower_bound, certified)
            outcome = optimum_study.Outcome(task.key, 1.0, 1.0, 1.0, found, "", "mapgym", "0")
            changed = optimum_study.update_best_known(file, {task: outcome})
            return changed, read_entries(file.read_text())[0].value

        assert join(120.0, 50.0, False) == (1, 120.0)
        assert join(130.0, 60.0, False) == (0, 120.0)
        assert join(110.0, 50.0, False) == (1, 110.0)
        assert join(100.0, 100.0, True) == (1, 100.0)
        assert join(99.0, 50.0, False) == (0, 100.0)


class TestStructure:
    def test_a_mapping_by_hand(self):
        layer, machine = catalog.workload("toy/tiny_gemm"), catalog.accelerator("accel_b")
        mapping = Mapping.from_dict(
            {
                "levels": [
                    {"level": "MainMemory", "temporal": {"M": 4, "P": 2}, "order": ["M", "P"]},
                    {"level": "GlobalBuffer", "spatial_x": {"C": 4}, "keep": ["Weights", "Outputs"]},
                    {"level": "RegisterFile", "temporal": {"P": 2}, "spatial_x": {"C": 2}},
                ]
            },
            layer,
            machine,
        )
        structure = Structure.of(mapping, layer, machine)
        # M is the innermost loop above both levels: it leaves the Inputs where they are, and the buffer keeps none.
        assert structure.stationary == {"RegisterFile": "Inputs", "GlobalBuffer": "none"}
        assert structure.parallel == {"RegisterFile": {"C": 2}, "GlobalBuffer": {"C": 4}}
        assert structure.bypassed == {"RegisterFile": (), "GlobalBuffer": ("Inputs",)}

    def test_without_loops_everything_stays(self):
        layer, machine = catalog.workload("toy/tiny_gemm"), catalog.accelerator("accel_a")
        dims = {dim: bound for dim, bound in zip(layer.dims, layer.bounds, strict=True) if bound > 1}
        levels = [{"level": name} for name in ("MainMemory", "GlobalBuffer")]
        mapping = Mapping.from_dict({"levels": [*levels, {"level": "PrivateBuffer", "temporal": dims}]}, layer, machine)
        assert set(Structure.of(mapping, layer, machine).stationary.values()) == {"all"}


def test_every_stored_optimum_is_used_for_its_task():
    for entry in all_best_known()[:5]:
        space = MapSpace(
            catalog.workload(entry.workload),
            replace(catalog.accelerator(entry.accelerator), peer_links=entry.peer_links, rules=entry.rules),
            entry.axes,
        )
        found = known_certificate(space, entry.objective)
        assert found is not None
        assert (found.value, found.certified) == (entry.value, entry.certified)
