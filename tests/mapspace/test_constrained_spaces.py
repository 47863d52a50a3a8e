"""Constrained map spaces against brute force: enumerate everything, keep what a plain reading allows, compare."""

from __future__ import annotations

import functools
import math

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from brute_force_constraints import is_parallel_enough, obeys
from brute_force_spaces import enumerate_structures, is_legal, rows, toy_accelerator, toy_workload
from mapgym.errors import SpecificationError
from mapgym.mapping import MappingBatch
from mapgym.mapspace import MapSpace
from mapgym.mapspace.construction.construction import Construction
from mapgym.mapspace.construction.decision_kernels import COMPLETE, DEAD_END, advance, choices_size, choose
from mapgym.mapspace.keys import KeyEncoding
from mapgym.spec.constraints import Constraints

ALL = ("tile", "order", "parallelism", "bypass")
HARDWARE = {
    "mesh": {"inner": (2, 1), "outer": (2, 2), "capacities": (9, 20)},
    "no links": {"inner": (2, 2), "outer": (1, 1), "capacities": (7, None), "peer_links": False},
    "deep": {"inner": (2, 1), "outer": (4, 1), "capacities": (6, 14)},
    "no inner fan-out": {"inner": (1, 1), "outer": (2, 1), "capacities": (6, 20)},
}
SHAPES = {"mesh": (4, 2, 1), "no links": (2, 3, 2), "deep": (8, 2, 1), "no inner fan-out": (4, 2, 2)}
CASES = {
    "at most": ("mesh", {"factors": {"Memory": {"K": {"temporal": "<=2"}}}}),
    "at least": ("mesh", {"factors": {"Registers": {"K": {"temporal": ">=2"}}}}),
    "at least, where nothing is parallel": (
        "no inner fan-out",
        {"factors": {"Registers": {"K": {"temporal": ">=2"}}}},
    ),
    "range": ("deep", {"factors": {"Buffer": {"K": {"temporal": "2..4"}}, "Memory": {"K": {"temporal": "<=2"}}}}),
    "all at one level": ("mesh", {"factors": {"Buffer": {"P": {"temporal": "all"}}}}),
    "least parallel factor": ("deep", {"factors": {"Buffer": {"K": {"spatial": ">=2"}}}}),
    "on X": ("mesh", {"factors": {"Buffer": {"K": {"spatial_x": 2}}}}),
    "not on X": ("mesh", {"factors": {"Buffer": {"K": {"spatial_x": 1}, "P": {"spatial_y": 1}}}}),
    "most on X": ("no links", {"factors": {"Registers": {"K": {"spatial_x": "<=1"}, "R": {"spatial_y": ">=2"}}}}),
    "sides": ("mesh", {"parallel_x": {"Buffer": ["K"]}, "parallel_y": {"Buffer": ["P"]}}),
    "a given factor on Y": (
        "mesh",
        {"factors": {"Buffer": {"K": {"spatial": 2}}}, "parallel_x": {"Buffer": ["P"]}, "orders": {"Buffer": ["K"]}},
    ),
    "inner part of an order": ("no links", {"orders": {"Memory": ["R", "*"]}}),
    "outer part of an order": ("no links", {"orders": {"Memory": ["*", "P"], "Buffer": ["K", "*"]}}),
    "both ends": ("no links", {"orders": {"Memory": ["R", "*", "P"]}}),
    "spatial order": ("mesh", {"spatial_orders": {"Buffer": ["P", "K"], "Registers": ["*", "K"]}}),
    "kept and bypassed": ("mesh", {"keep": {"Registers": ["Weights"]}, "bypass": {"Buffer": ["outputs"]}}),
    "operands": ("mesh", {"bypass": {"Registers": ["operands"]}, "keep": {"Buffer": ["Inputs"]}}),
    "utilisation": ("deep", {"min_utilization": 0.5, "factors": {"Registers": {"K": {"spatial": "<=1"}}}}),
}


@functools.cache
def everything(hardware: str, axes: tuple[str, ...]) -> MappingBatch:
    return enumerate_structures(toy_workload(*SHAPES[hardware]), toy_accelerator(**HARDWARE[hardware]), axes)


@functools.cache
def is_legal_by_row(hardware: str, axes: tuple[str, ...]) -> list[bool]:
    workload, accelerator = toy_workload(*SHAPES[hardware]), toy_accelerator(**HARDWARE[hardware])
    return [is_legal(workload, accelerator, mapping) for mapping in everything(hardware, axes)]


def expected(space: MapSpace, hardware: str) -> tuple[np.ndarray, np.ndarray]:
    """bool[n] for every mapping there could be: whether it obeys the constraints, and whether it is in the space."""
    task = space.workload, space.accelerator, space.constraints
    batch = everything(hardware, space.axes)
    obedient = np.array([obeys(mapping, *task) for mapping in batch])
    enough = np.array([is_parallel_enough(mapping, *task[1:]) for mapping in batch])
    return obedient, obedient & enough & np.array(is_legal_by_row(hardware, space.axes))


def reachable(construction: Construction) -> tuple[set[bytes], int, bool]:
    """All mappings that the choices lead to, the number of ways there, and whether a way ended nowhere."""
    size = choices_size(construction.task)
    choices, weights = np.empty(size, np.int64), np.empty(size)
    complete, nowhere = [], False
    waiting = [construction.initial_state.copy()]
    while waiting:
        state = waiting.pop()
        count = advance(construction.task, construction.ways, state, choices, weights)
        nowhere |= count == DEAD_END
        if count == COMPLETE:
            complete.append(state)
        for choice in choices[: max(count, 0)].tolist():
            following = state.copy()
            choose(construction.task, following, choice)
            waiting.append(following)
    if not complete:
        return set(), 0, nowhere
    batch = construction.export(np.stack(complete), np.arange(len(complete)))
    return set(rows(construction_form(construction, batch))), len(batch), nowhere


def construction_form(construction: Construction, batch: MappingBatch) -> MappingBatch:
    space = construction.space
    return MapSpace(space.workload, space.accelerator, space.axes, space.constraints).canonical(batch)


def check(hardware: str, constraints: Constraints, axes: tuple[str, ...] = ("tile", "order", "parallelism")) -> None:
    workload, accelerator = toy_workload(*SHAPES[hardware]), toy_accelerator(**HARDWARE[hardware])
    batch = everything(hardware, axes)
    try:
        space = MapSpace(workload, accelerator, axes, constraints)
        construction = space.construction
    except SpecificationError:
        task = workload, accelerator, constraints
        legal = zip(batch, is_legal_by_row(hardware, axes), strict=True)
        assert not any(
            fits and obeys(mapping, *task) and is_parallel_enough(mapping, *task[1:]) for mapping, fits in legal
        )
        return
    obedient, inside = expected(space, hardware)
    np.testing.assert_array_equal(space.contains(batch), inside)
    members = batch[np.flatnonzero(inside)]
    named = set(rows(members))

    counted = 10 ** space.log10_size()
    assert math.isclose(counted, obedient.sum(), rel_tol=1e-9, abs_tol=1e-9)

    found, paths, nowhere = reachable(construction)
    least = space.entries.min_used_macs
    assert named <= found if least > 1 else named == found
    assert paths == len(found)
    assert not nowhere or construction.inexact
    if not len(members):
        return

    rng = np.random.default_rng(0)
    drawn = space.sample(rng, 200)
    assert space.contains(drawn).all()
    assert set(rows(space.canonical(drawn))) <= named
    assert space.decode(space.encode(members)) == members

    keys = KeyEncoding(space)
    if not construction.inexact and space.construction_is_exact:
        assert keys.decode(keys.encode(members)) == members
    assert space.contains(keys.decode(rng.random((20, keys.size)))).all()

    for mapping in members[rng.choice(len(members), min(5, len(members)), replace=False)]:
        around = rows(space.neighbors(mapping))
        assert set(around) <= named
        assert len(set(around)) == len(around)
        assert rows(mapping.batch())[0] not in around
    assert set(rows(space.random_neighbor(rng, drawn))) <= named

    mended, ok = space.repair(members)
    assert ok.all()
    assert mended == members
    others = batch[rng.choice(len(batch), min(100, len(batch)), replace=False)]
    mended, ok = space.repair(others)
    np.testing.assert_array_equal(space.contains(mended), ok)
    if not construction.inexact and space.construction_is_exact:
        assert ok.all()


@pytest.mark.parametrize("name", CASES)
def test_a_constrained_space_is_what_the_constraints_say(name):
    hardware, constraints = CASES[name]
    axes = ("tile", "parallelism", "bypass") if "keep" in constraints else ("tile", "order", "parallelism")
    check(hardware, Constraints.from_dict(constraints), axes)


DIMS = ("K", "P", "R")
LEVELS = ("Registers", "Buffer", "Memory")
KINDS = ("temporal", "temporal", "spatial", "spatial_x", "spatial_y")
LIMITS = (1, 2, 4, "all", "<=1", "<=2", "<=4", ">=2", "2..4")
factor_tables = st.dictionaries(
    st.sampled_from(LEVELS),
    st.dictionaries(
        st.sampled_from(DIMS), st.dictionaries(st.sampled_from(KINDS), st.sampled_from(LIMITS), max_size=2), max_size=2
    ),
    max_size=2,
)
orders = st.dictionaries(
    st.sampled_from(LEVELS),
    st.permutations([*DIMS, "*"]).flatmap(lambda names: st.integers(1, 4).map(lambda count: names[:count])),
    max_size=2,
)
some_dims = st.dictionaries(st.sampled_from(LEVELS), st.lists(st.sampled_from(DIMS), unique=True), max_size=1)


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(sorted(HARDWARE)), factor_tables, orders, orders, some_dims, some_dims, st.sampled_from((0.0, 0.5))
)
def test_random_constraints_are_obeyed(hardware, factors, temporal, spatial, x, y, share):
    constraints = Constraints(
        factors=factors, orders=temporal, spatial_orders=spatial, parallel_x=x, parallel_y=y, min_utilization=share
    )
    check(hardware, constraints)
