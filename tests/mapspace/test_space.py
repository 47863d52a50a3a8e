"""The map space against an enumeration of toy spaces: membership, sampling, size, codes, canonical form."""

from __future__ import annotations

import math
import pickle
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from brute_force_spaces import enumerate_structures, is_legal, rows, toy_accelerator, toy_workload
from mapgym.cost import CostModel
from mapgym.errors import SpecificationError
from mapgym.mapping import Mapping, MappingBatch
from mapgym.mapspace import MapSpace
from mapgym.spec.constraints import Constraints
from random_cases import cases

ALL = ("tile", "order", "parallelism", "bypass")


def spread_base(workload, accelerator) -> Mapping:
    """A base with factors at every level, spatial loops on both mesh sides and orders that are not ascending."""
    base = Mapping.trivial(workload, accelerator)
    base.temporal[:] = [[1, 1, 1], [1, 3, 2], [1, 1, 1]]
    base.spatial[:] = [[2, 1, 1], [2, 1, 1], [1, 1, 1]]
    base.order[:] = [2, 1, 0]
    base.spatial_order[:] = [1, 2, 0]
    base.spatial_split[:] = [3, 2, 0]  # K is on X at the registers, on Y at the buffer
    return base


def toy_spaces() -> dict[str, MapSpace]:
    """Spaces that differ in every way that an enumeration has to follow; each small enough for one."""
    workload, small, mesh = toy_workload(), toy_workload(2, 2, 1), toy_accelerator()
    flat = toy_accelerator(outer=(1, 4), capacities=(9, None))
    roomy = toy_accelerator(capacities=(6, None))
    base = spread_base(workload, roomy)
    fixed = {"Registers": {"K": {"spatial": 2}}, "Memory": {"P": {"temporal": 3}}}
    spaces = {
        "default": MapSpace(workload, mesh),
        "no links": MapSpace(workload, toy_accelerator(peer_links=False)),
        "fan-out on Y only": MapSpace(workload, flat),
        "tight": MapSpace(workload, toy_accelerator(capacities=(3, 6))),
        "cumulative": MapSpace(workload, toy_accelerator(fanout_check="cumulative")),
        "all axes": MapSpace(small, toy_accelerator(capacities=(3, 5)), ALL),
        "keep only": MapSpace(small, toy_accelerator(inner_keeps=("Weights",)), ALL),
        "fixed factors": MapSpace(workload, mesh, constraints={"factors": fixed}),
        "fixed order": MapSpace(workload, mesh, constraints={"orders": {"Buffer": ["R", "K", "P"], "Memory": ["P"]}}),
        "parallel dims": MapSpace(workload, mesh, constraints={"parallel_dims": ["P", "R"]}),
        "parallel dims by level": MapSpace(workload, mesh, constraints={"parallel_dims": {"Buffer": ["K"]}}),
    }
    for axes in (("tile",), ("order",), ("parallelism",), ("bypass",), ("tile", "order"), ("tile", "parallelism")):
        spaces[f"only {' and '.join(axes)}"] = MapSpace(workload, roomy, axes, base=base)
    spaces["only order and parallelism"] = MapSpace(workload, roomy, ("order", "parallelism"), base=base)
    return spaces


SPACES = toy_spaces()
every_space = pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)


def structures_of(space: MapSpace) -> MappingBatch:
    return enumerate_structures(space.workload, space.accelerator, space.axes, space.base, space.constraints)


def legal_of(space: MapSpace) -> MappingBatch:
    batch = structures_of(space)
    return batch[np.array([is_legal(space.workload, space.accelerator, mapping) for mapping in batch])]


@every_space
def test_contains_exactly_the_legal_mappings(space):
    batch = structures_of(space)
    expected = np.array([is_legal(space.workload, space.accelerator, mapping) for mapping in batch])
    assert expected.sum() > 0
    np.testing.assert_array_equal(space.status(batch) == 0, expected)
    np.testing.assert_array_equal(space.contains(batch), expected)
    assert space.contains(batch[int(np.argmax(expected))]) is True


@every_space
def test_contains_nothing_of_a_larger_space_that_the_enumeration_does_not_have(space):
    larger = enumerate_structures(space.workload, space.accelerator, ("tile", "order", "parallelism"), space.base)
    inside = set(rows(legal_of(space)))
    canonical = rows(space.canonical(larger))
    np.testing.assert_array_equal(space.contains(larger), [row in inside for row in canonical])


@every_space
def test_samples_are_in_the_space_and_reach_all_of_it(space):
    expected = set(rows(legal_of(space)))
    rng = np.random.default_rng(0)
    missing = set(expected)
    for _ in range(30):
        batch = space.sample(rng, 100 * len(expected))
        assert space.contains(batch).all()
        assert (space.status(batch) == 0).all()
        found = set(rows(space.canonical(batch)))
        assert found <= expected
        missing -= found
        if not missing:
            break
    assert not missing


@every_space
def test_size_counts_what_the_enumeration_finds(space):
    count = len(structures_of(space))
    assert space.log10_size() == pytest.approx(math.log10(count), abs=1e-10)


@every_space
def test_codes_are_distinct_and_decode_to_the_canonical_form(space):
    batch = structures_of(space)
    codes = space.encode(batch)
    assert codes.shape == (len(batch), len(space.nvec))
    assert len(space.code_names) == len(space.nvec)
    assert (codes >= 0).all()
    assert (codes < space.nvec).all()
    assert len({tuple(code) for code in codes.tolist()}) == len(batch)
    assert space.decode(codes) == batch
    np.testing.assert_array_equal(space.encode(batch[0]), codes[0])


@every_space
def test_every_code_decodes_to_a_mapping_of_the_enumeration(space):
    expected = set(rows(structures_of(space)))
    rng = np.random.default_rng(1)
    codes = rng.integers(space.nvec, size=(5000, len(space.nvec)))
    decoded = space.decode(codes)
    assert set(rows(decoded)) <= expected
    assert space.decode(space.encode(decoded)) == decoded


@every_space
def test_structures_are_canonical_already(space):
    batch = structures_of(space)
    assert space.canonical(batch) == batch


def test_the_default_toy_space_has_the_size_found_by_hand():
    # K = 2 only: 3 temporal and 2 spatial slots, of which the buffer's lies on X or Y: 3 + 1 + 2 mappings.
    space = MapSpace(toy_workload(2, 1, 1), toy_accelerator())
    assert 10 ** space.log10_size() == pytest.approx(6)


def test_orders_and_axes_are_counted_together():
    # K = P = 2, one level of 2 x 2 units: each dim is temporal or spatial. Both temporal: 2 orders; one spatial: 2 axes
    # for either dim; both spatial: 2 x 2 axes, and 2 orders if they share an axis (2 of these 4): 6.
    accelerator = toy_accelerator(inner=(2, 2), outer=(1, 1))
    accelerator = replace(accelerator, levels=(replace(accelerator.levels[2]),))
    assert 10 ** MapSpace(toy_workload(2, 2, 1), accelerator).log10_size() == pytest.approx(2 + 4 + 6)
    unlinked = replace(accelerator, peer_links=False)
    assert 10 ** MapSpace(toy_workload(2, 2, 1), unlinked).log10_size() == pytest.approx(2 + 4 + 4)


@settings(max_examples=30)
@given(cases(count=4), st.integers(0, 2**32 - 1), st.booleans())
def test_redundancy_does_not_change_the_cost(case, seed, links):
    """Shuffling what the canonical form removes leaves cost, status and canonical form as they are."""
    accelerator = replace(case.accelerator, peer_links=links)
    space = MapSpace(case.workload, accelerator)
    rng = np.random.default_rng(seed)
    shuffled = case.batch.copy()
    for i, s in np.ndindex(shuffled.spatial_split.shape):
        shuffled.order[i, s] = insert_units(rng, shuffled.order[i, s], shuffled.temporal[i, s])
        shuffle_spatial(rng, shuffled, i, s, accelerator.spatial_order_counts[s])
    assert space.canonical(shuffled) == space.canonical(case.batch)
    assert space.canonical(space.canonical(shuffled)) == space.canonical(shuffled)
    model = CostModel(case.workload, accelerator)
    costs = [model.evaluate(batch) for batch in (case.batch, shuffled, space.canonical(shuffled))]
    for cost in costs[1:]:
        np.testing.assert_array_equal(cost.status == 0, costs[0].status == 0)
        np.testing.assert_array_equal(cost.energy_pj, costs[0].energy_pj)
        np.testing.assert_array_equal(cost.latency_cycles, costs[0].latency_cycles)


def insert_units(rng, order, factors) -> list[int]:
    """An order with the loops of bound 1 at random places."""
    loops = [int(d) for d in order if factors[d] != 1]
    for d in order:
        if factors[d] == 1:
            loops.insert(int(rng.integers(len(loops) + 1)), int(d))
    return loops


def shuffle_spatial(rng, batch, i, s, links) -> None:
    split = int(batch.spatial_split[i, s])
    sides = [
        [int(d) for d in side if batch.spatial[i, s, d] != 1]
        for side in (batch.spatial_order[i, s, :split], batch.spatial_order[i, s, split:])
    ]
    if not links:
        sides = [[int(d) for d in rng.permutation(side)] for side in sides]
    for d in np.flatnonzero(batch.spatial[i, s] == 1):
        side = sides[int(rng.integers(2))]
        side.insert(int(rng.integers(len(side) + 1)), int(d))
    batch.spatial_order[i, s] = sides[0] + sides[1]
    batch.spatial_split[i, s] = len(sides[0])


@settings(max_examples=30)
@given(cases(count=1), st.sets(st.sampled_from(ALL), min_size=1), st.integers(0, 2**32 - 1))
def test_random_tasks_agree_with_themselves(case, axes, seed):
    """Samples, codes and the base of spaces with many levels, dims and bounds, where no enumeration can follow."""
    space = MapSpace(case.workload, case.accelerator, sorted(axes))
    if not space.contains(space.base):
        return  # the trivial mapping may exceed a capacity of a few words
    rng = np.random.default_rng(seed)
    batch = space.sample(rng, 30)
    assert space.contains(batch).all()
    canonical = space.canonical(batch)
    codes = space.encode(batch)
    assert space.decode(codes) == canonical
    np.testing.assert_array_equal(space.encode(canonical), codes)
    assert len({tuple(code) for code in codes.tolist()}) <= 10 ** (space.log10_size() + 1e-9)
    wild = rng.integers(space.nvec, size=(30, len(space.nvec)))
    assert space.decode(space.encode(space.decode(wild))) == space.decode(wild)


def test_same_seed_same_samples():
    space = SPACES["default"]
    assert space.sample(np.random.default_rng(7), 50) == space.sample(np.random.default_rng(7), 50)
    assert space.sample(np.random.default_rng(7), 50) != space.sample(np.random.default_rng(8), 50)
    assert len(space.sample(np.random.default_rng(7), 0)) == 0


def test_a_space_survives_pickling():
    space = pickle.loads(pickle.dumps(SPACES["fixed factors"]))
    assert space.sample(np.random.default_rng(0), 5) == SPACES["fixed factors"].sample(np.random.default_rng(0), 5)


def test_damaged_mappings_are_outside_and_harmless():
    space = SPACES["default"]
    batch = space.sample(np.random.default_rng(0), 6)
    batch.temporal[0, 0, 0] = 7
    batch.temporal[1, 0, 1] = -1
    batch.order[2, 0, 0] = 100
    batch.spatial_order[3, 1] = 0
    batch.keep[4, 0, 0] = False
    batch.spatial_split[5, 0] = -1
    assert not space.contains(batch).any()
    with pytest.raises(SpecificationError, match="order is not a permutation"):
        space.canonical(batch)
    with pytest.raises(SpecificationError, match="mapping 0 of the batch cannot be encoded"):
        space.encode(batch[:2])


def test_codes_out_of_range_are_answered():
    space = SPACES["default"]
    code = np.zeros((1, len(space.nvec)), np.int64)
    code[0, 0] = space.nvec[0]
    with pytest.raises(SpecificationError, match="'factors of K' is out of range; give 0 to"):
        space.decode(code)
    with pytest.raises(SpecificationError, match="one column for each of nvec"):
        space.decode(code[:, 1:])


@pytest.mark.parametrize(
    ("axes", "message"),
    [
        (("tile", "oder"), "unknown axis 'oder'; did you mean 'order'"),
        (("tile", "tile"), "names one twice"),
        ((), "at least one of"),
        ("tile", "give a list"),
    ],
)
def test_wrong_axes_are_answered(axes, message):
    with pytest.raises(SpecificationError, match=message):
        MapSpace(toy_workload(), toy_accelerator(), axes)


def test_a_base_of_another_task_or_with_wrong_products_is_refused():
    workload, accelerator = toy_workload(), toy_accelerator()
    with pytest.raises(SpecificationError, match="multiply to 2 instead of 4"):
        MapSpace(workload, accelerator, base=Mapping.trivial(toy_workload(2), accelerator))
    other = replace(workload, tensors=tuple(replace(tensor, name=tensor.name[0]) for tensor in workload.tensors))
    with pytest.raises(SpecificationError, match="build it for this pair"):
        MapSpace(workload, accelerator, base=Mapping.trivial(other, accelerator))
    base = Mapping.trivial(workload, accelerator)
    base.keep[-1, 0] = False
    with pytest.raises(SpecificationError, match="bypasses a tensor at the outermost level"):
        MapSpace(workload, accelerator, base=base)


def test_an_empty_space_says_so():
    space = MapSpace(toy_workload(), toy_accelerator(), constraints=Constraints(min_utilization=1.0))
    assert space.contains(space.sample(np.random.default_rng(0), 20)).all()
    with pytest.raises(SpecificationError):
        MapSpace(toy_workload(), toy_accelerator(capacities=(2, None))).sample(np.random.default_rng(0), 1)
