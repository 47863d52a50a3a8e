"""Single edits of mappings against edits of plain lists, and whether they lead everywhere."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from brute_force_spaces import enumerate_structures, is_legal, rows, toy_accelerator, toy_workload
from mapgym.errors import SpecificationError
from mapgym.mapping import Mapping, MappingBatch
from mapgym.mapspace import MapSpace
from random_cases import cases
from single_edits import ALL, FIXED, expected_neighbours


def toy_spaces() -> dict[str, MapSpace]:
    workload, accelerator = toy_workload(), toy_accelerator()
    base = Mapping.trivial(workload, accelerator)
    base.temporal[:] = [[2, 1, 1], [2, 3, 1], [1, 1, 2]]
    spaces = {
        "default": MapSpace(workload, accelerator),
        "no links": MapSpace(workload, toy_accelerator(peer_links=False)),
        "tight": MapSpace(workload, toy_accelerator(capacities=(3, 6))),
        "fan-out on Y only": MapSpace(workload, toy_accelerator(outer=(1, 4))),
        "all axes": MapSpace(toy_workload(2, 2, 1), toy_accelerator(capacities=(3, 5)), ALL),
        "constraints": MapSpace(workload, accelerator, constraints=FIXED),
    }
    for axes in (("tile",), ("parallelism",), ("tile", "order"), ("tile", "parallelism"), ("order", "parallelism")):
        spaces[" and ".join(axes)] = MapSpace(workload, accelerator, axes, base=base)
    return spaces


SPACES = toy_spaces()
every_space = pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)


def members(space: MapSpace) -> MappingBatch:
    batch = enumerate_structures(space.workload, space.accelerator, space.axes, space.base, space.constraints)
    return batch[np.array([is_legal(space.workload, space.accelerator, mapping) for mapping in batch])]


@every_space
def test_neighbours_are_the_single_edits_that_stay_in_the_space(space):
    batch = members(space)
    for mapping in batch[:: max(1, len(batch) // 60)]:
        found = rows(space.neighbors(mapping))
        assert len(set(found)) == len(found)
        assert set(found) == expected_neighbours(space, mapping)


@every_space
def test_neighbours_lead_from_the_base_to_every_mapping(space):
    everything = members(space)
    start = space.base if space.contains(space.base) else everything[0]
    frontier, seen = [start], set(rows(space.canonical(start.batch())))
    while frontier:
        reached = space.neighbors(frontier.pop())
        for mapping, row in zip(reached, rows(reached), strict=True):
            if row not in seen:
                seen.add(row)
                frontier.append(mapping)
    assert seen == set(rows(everything))


@every_space
def test_a_moved_factor_can_be_moved_back(space):
    for mapping in space.sample(np.random.default_rng(0), 5):
        for neighbour in space.neighbors(mapping):
            back = MappingBatch.concatenate([neighbour.batch(), space.neighbors(neighbour)])
            same = (back.temporal == mapping.temporal).all((1, 2)) & (back.spatial == mapping.spatial).all((1, 2))
            assert same.any()


@every_space
def test_random_neighbours_are_neighbours_and_reach_all_of_them(space):
    rng = np.random.default_rng(0)
    for mapping in space.sample(rng, 4):
        expected = set(rows(space.neighbors(mapping)))
        many = MappingBatch.concatenate([mapping.batch()] * (60 * len(expected) + 1))
        found = set(rows(space.random_neighbor(rng, many)))
        assert found == (expected or set(rows(space.canonical(mapping.batch()))))


def test_a_mapping_without_neighbours_stays():
    workload, accelerator = toy_workload(), toy_accelerator()
    orders = {level: ["K", "P", "R"] for level in accelerator.level_names}
    space = MapSpace(workload, accelerator, ("order",), constraints={"orders": orders})
    assert len(space.neighbors(space.base)) == 0
    assert space.random_neighbor(np.random.default_rng(0), space.base.batch()) == space.base.batch()


def test_random_neighbours_leave_their_argument_alone_and_follow_the_seed():
    space = SPACES["default"]
    batch = space.sample(np.random.default_rng(0), 50)
    before = batch.copy()
    first = space.random_neighbor(np.random.default_rng(3), batch)
    assert batch == before
    assert first == space.random_neighbor(np.random.default_rng(3), batch)
    assert first != space.random_neighbor(np.random.default_rng(4), batch)
    assert len(space.random_neighbor(np.random.default_rng(3), batch[:0])) == 0


def test_a_minimum_utilization_holds_for_neighbours():
    space = MapSpace(toy_workload(4, 4, 2), toy_accelerator(), constraints={"min_utilization": 0.5})
    batch = space.sample(np.random.default_rng(0), 200)
    assert (batch.used_macs() >= 4).all()
    for _ in range(5):
        batch = space.random_neighbor(np.random.default_rng(1), batch)
        assert space.contains(batch).all()
    assert space.contains(space.neighbors(batch[0])).all()


def test_neighbours_of_a_mapping_outside_are_refused():
    space = SPACES["tight"]
    outside = Mapping.trivial(space.workload, space.accelerator)
    outside.temporal[[0, 2]] = outside.temporal[[2, 0]]
    with pytest.raises(SpecificationError, match="tile of 24 words exceeds the 3 words of Registers"):
        space.neighbors(outside)


@settings(max_examples=25)
@given(cases(count=1), st.sets(st.sampled_from(ALL), min_size=1), st.integers(0, 2**32 - 1))
def test_walks_through_random_tasks_stay_inside(case, axes, seed):
    space = MapSpace(case.workload, case.accelerator, sorted(axes))
    if not space.contains(space.base):
        return  # the trivial mapping may exceed a capacity of a few words
    rng = np.random.default_rng(seed)
    batch = space.sample(rng, 20)
    for _ in range(4):
        step = space.random_neighbor(rng, batch)
        assert space.contains(step).all()
        assert space.canonical(step) == step
        batch = step
    reachable = rows(space.neighbors(batch[0]))
    assert rows(space.random_neighbor(rng, batch[:1]))[0] in (reachable or rows(space.canonical(batch[:1])))
