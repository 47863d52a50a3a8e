"""The stored best mappings: each is what it says, and it is found for its task and for no other."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

import mapgym.envs_config
from mapgym.cost import CostModel, lower_bound
from mapgym.envs import MapSpaceEnv, MapSpaceVectorEnv
from mapgym.evaluation import best_known as store
from mapgym.evaluation.best_known import (
    CERTIFIED,
    GAP,
    BestKnown,
    all_best_known,
    best_known,
    read_entries,
    task_key,
    to_text,
)
from mapgym.mapping import Mapping
from mapgym.mapspace import MapSpace
from mapgym.spec import catalog
from mapgym.spec.constraints import Constraints
from mapgym.spec.rules import RULE_SETS

FILE = Path(mapgym.envs_config.__path__[0]) / "best_known.tsv"
KEEP_ALL = ("tile", "order", "parallelism")
TASK = ("toy/tiny_gemm", "tiny")
CONSTRAINED = Constraints.from_dict({"min_utilization": 0.5})


def groups() -> dict[str, list[BestKnown]]:
    """The stored entries by everything but the layer."""
    found: dict[str, list[BestKnown]] = {}
    for entry in all_best_known():
        name = f"{entry.accelerator}-{entry.rules}-{len(entry.axes)}-{entry.objective}-{entry.peer_links}"
        found.setdefault(name, []).append(entry)
    return found


GROUPS = groups()


def task_of(entry: BestKnown) -> MapSpace:
    accelerator = replace(catalog.accelerator(entry.accelerator), peer_links=entry.peer_links, rules=entry.rules)
    return MapSpace(catalog.workload(entry.workload), accelerator, entry.axes)


def made_up(space: MapSpace, objective: str = "edp", status: str = CERTIFIED) -> BestKnown:
    """An entry for a task: the trivial mapping, said to be optimal."""
    mapping = Mapping.trivial(space.workload, space.accelerator)
    value = float(CostModel(space.workload, space.accelerator).evaluate(mapping).objective(objective))
    return BestKnown(
        key=task_key(space.workload, space.accelerator, space.axes, objective),
        workload=space.workload.name,
        accelerator=space.accelerator.name,
        peer_links=space.accelerator.peer_links,
        rules=space.accelerator.rules,
        axes=space.axes,
        objective=objective,
        value=value,
        lower_bound=value * (0.5 if status == GAP else 1.0),
        status=status,
        mapping=mapping.to_dict(),
        command="mapgym study optimum",
    )


@pytest.fixture
def space() -> MapSpace:
    return MapSpace(catalog.workload(TASK[0]), catalog.accelerator(TASK[1]))


@pytest.fixture
def stored(space, monkeypatch) -> BestKnown:
    """Makes one made-up entry the whole content of the file."""
    entry = made_up(space, status=GAP)
    monkeypatch.setattr(store, "_stored", {entry.key: entry}.get)
    return entry


class TestFile:
    @pytest.mark.parametrize("name", sorted(GROUPS))
    def test_mappings_are_in_their_spaces_and_cost_what_is_said(self, name):
        for entry in GROUPS[name]:
            space = task_of(entry)
            mapping = entry.to_mapping(space.workload, space.accelerator)
            assert space.contains(mapping), entry
            value = CostModel(space.workload, space.accelerator).evaluate(mapping).objective(entry.objective)
            assert value == pytest.approx(entry.value, rel=1e-9), entry
            assert entry.key == task_key(space.workload, space.accelerator, entry.axes, entry.objective), entry
            assert best_known(space, entry.objective) is entry

    @pytest.mark.parametrize("name", sorted(GROUPS))
    def test_proven_bounds_are_between_the_simple_bound_and_the_value(self, name):
        for entry in GROUPS[name]:
            space = task_of(entry)
            simple = lower_bound(space.workload, space.accelerator).objective(entry.objective)
            assert simple * (1 - 1e-9) <= entry.lower_bound <= entry.value, entry
            assert entry.status in (CERTIFIED, GAP)
            assert entry.gap <= 1e-6 or not entry.certified, entry

    def test_it_is_what_the_writer_writes(self):
        assert to_text(all_best_known()) == FILE.read_text()

    def test_a_line_is_an_entry_of_columns(self):
        lines = [line for line in FILE.read_text().splitlines() if not line.startswith("#")]
        rows = list(csv.reader(lines, delimiter="\t", quoting=csv.QUOTE_NONE))
        entries = all_best_known()
        assert [(row[0], float(row[8])) for row in rows] == [(entry.key, entry.value) for entry in entries]

    def test_more_freedom_is_never_worse(self):
        values = {(e.workload, e.accelerator, e.peer_links, e.rules, e.objective, e.axes): e for e in all_best_known()}
        for task, entry in values.items():
            wider = values.get((*task[:-1], (*KEEP_ALL, "bypass")))
            if wider is not None:
                assert wider.lower_bound <= entry.value * (1 + 1e-9)


class TestKey:
    def test_names_do_not_count(self, space):
        renamed = MapSpace(
            replace(space.workload, name="mine"),
            replace(space.accelerator, name="mine", mac=replace(space.accelerator.mac, name="unit")),
        )
        assert store.key_of(renamed, "edp") == store.key_of(space, "edp")

    def test_the_order_of_the_axes_and_the_kind_of_a_number_do_not_count(self, space):
        level = replace(space.accelerator.levels[-1], access_energy_pj=800)
        machine = replace(space.accelerator, levels=(*space.accelerator.levels[:-1], level))
        same = replace(machine, levels=(*machine.levels[:-1], replace(level, access_energy_pj=800.0)))
        assert task_key(space.workload, machine, KEEP_ALL, "edp") == task_key(
            space.workload, same, KEEP_ALL[::-1], "edp"
        )

    def test_everything_else_counts(self, space):
        layer, machine = space.workload, space.accelerator
        first = machine.levels[0]
        keys = [
            task_key(layer, machine, KEEP_ALL, "edp"),
            task_key(layer, machine, KEEP_ALL, "energy"),
            task_key(layer, machine, KEEP_ALL[:2], "edp"),
            task_key(layer, replace(machine, peer_links=not machine.peer_links), KEEP_ALL, "edp"),
            task_key(layer, replace(machine, fanout_check="cumulative"), KEEP_ALL, "edp"),
            *(
                task_key(layer, replace(machine, rules=rules), KEEP_ALL, "edp")
                for rules in RULE_SETS
                if rules != machine.rules
            ),
            task_key(layer, replace(machine, mac=replace(machine.mac, energy_pj=7.5)), KEEP_ALL, "edp"),
            task_key(
                layer, replace(machine, levels=(replace(first, capacity_words=3), *machine.levels[1:])), KEEP_ALL, "edp"
            ),
            task_key(replace(layer, bounds=(2 * layer.bounds[0], *layer.bounds[1:])), machine, KEEP_ALL, "edp"),
            task_key(layer.with_densities({layer.tensors[0].name: 0.5}), machine, KEEP_ALL, "edp"),
        ]
        assert len(set(keys)) == len(keys)

    def test_a_space_with_constraints_or_with_another_base_is_a_task_of_its_own(self, space):
        layer, machine = space.workload, space.accelerator
        assert store.key_of(MapSpace(layer, machine, constraints=CONSTRAINED), "edp") is None
        other = space.sample(np.random.default_rng(0), 20)
        base = next(mapping for mapping in other if mapping != Mapping.trivial(layer, machine))
        assert store.key_of(MapSpace(layer, machine, ("order",), base=base), "edp") is None
        # With every axis searched the base says nothing.
        assert store.key_of(MapSpace(layer, machine, (*KEEP_ALL, "bypass"), base=base), "edp") is not None


class TestEntries:
    def test_text_and_entries_are_two_forms_of_the_same(self, space):
        entries = [made_up(space, objective, status) for objective, status in (("edp", CERTIFIED), ("energy", GAP))]
        read = read_entries(to_text(reversed(entries)))
        # Empty loops are left out of the text, which a mapping does not mind.
        assert [replace(entry, mapping={}) for entry in read] == [replace(entry, mapping={}) for entry in entries]
        task = (space.workload, space.accelerator)
        assert [entry.to_mapping(*task).to_text() for entry in read] == [Mapping.trivial(*task).to_text()] * 2

    def test_rules_are_written(self, space):
        for rules in RULE_SETS:
            machine = space.accelerator.counted_by(rules)
            entry = made_up(MapSpace(space.workload, machine, space.axes))
            text = to_text([entry])
            (found,) = read_entries(text)
            assert (found.key, found.rules, to_text([found])) == (entry.key, rules, text)
            with pytest.raises(ValueError, match="the rules"):
                read_entries(text.replace(f"\t{rules}\t", "\ttimeloop-1\t"))

    @settings(max_examples=50, deadline=None)
    @given(st.integers(0, 10**6))
    def test_any_mapping_survives(self, seed):
        machine = catalog.accelerator("tiny")
        space = MapSpace(catalog.workload("toy/tiny_conv"), machine, (*KEEP_ALL, "bypass"))
        mapping = space.sample(np.random.default_rng(seed), 1)[0]
        entry = replace(made_up(space), mapping=mapping.to_dict())
        (read,) = read_entries(to_text([entry]))
        assert read.to_mapping(space.workload, machine).to_dict() == mapping.to_dict()

    def test_a_level_that_keeps_nothing_stays_so(self, space):
        bypassing = Mapping.trivial(space.workload, space.accelerator)
        bypassing.keep[:-1] = False
        entry = replace(made_up(space), mapping=bypassing.to_dict())
        read = read_entries(to_text([entry]))[0]
        assert read.to_mapping(space.workload, space.accelerator).to_text() == bypassing.to_text()

    def test_a_gap_is_relative_to_the_lower_bound(self, space):
        entry = made_up(space, status=GAP)
        assert entry.gap == pytest.approx(1.0)
        assert not entry.certified

    def test_an_unknown_task_has_no_entry(self, stored, space):
        assert best_known(space, "edp") is stored
        assert best_known(space, "energy") is None
        assert best_known(MapSpace(space.workload, space.accelerator, constraints=CONSTRAINED), "edp") is None


class TestEnvironment:
    def finished(self, env: gym.Env) -> dict:
        env.reset(seed=0)
        over = False
        while not over:
            _, _, over, _, info = env.step(int(np.flatnonzero(env.unwrapped.action_masks())[0]))
        return info

    def test_the_last_info_has_the_gap_to_the_proven_bound(self, stored):
        info = self.finished(MapSpaceEnv(*TASK))
        assert info["gap"] == pytest.approx(info["edp"] / stored.lower_bound - 1)

    def test_an_unknown_task_has_no_gap(self, stored):
        assert self.finished(MapSpaceEnv(*TASK, objective="energy"))["gap"] == -1

    def test_the_vector_twin_says_the_same_and_only_where_it_is_known(self, stored):
        other = "toy/tiny_conv"
        env = MapSpaceVectorEnv(6, workload=[TASK[0], other], accelerator=TASK[1])
        _, infos = env.reset(seed=1)
        known = catalog.workload(TASK[0])
        tasks = [task.workload for task in env.tasks()]
        assert len(set(tasks)) == 2
        gaps = {}
        while len(gaps) < 6:
            over_before = set(gaps)
            _, _, over, _, infos = env.step(infos["action_mask"].argmax(axis=1))
            for i in np.flatnonzero(over):
                if i not in over_before:
                    gaps[i] = infos["gap"][i]
                    if gaps[i] >= 0:
                        assert gaps[i] == pytest.approx(infos["edp"][i] / stored.lower_bound - 1)
        assert [gaps[i] >= 0 for i in range(6)] == [task == known for task in tasks]
