"""One mapping has one cost: whatever says nothing about it, such as where loops of bound 1 lie, changes nothing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from mapgym import Budget, CostModel, Evaluator, MapSpace
from mapgym.agents import make_agent
from mapgym.mapping import Mapping, MappingBatch
from mapgym.spec import catalog
from mapgym.spec.accelerator import Accelerator
from mapgym.spec.workload import Workload, conv2d, matmul

ALL = ("tile", "order", "parallelism", "bypass")
MACHINES = (
    "tiny",
    "tiny_sparse",
    "tiny_sparse_md",
    "accel_a_sparse",
    "accel_b_sparse_md",
    "accel_b_2d",
    "eyeriss_like",
)
WORKLOADS = (
    matmul("matmul", M=4, K=6, N=2),
    conv2d("conv", N=1, C=4, M=2, P=3, Q=2, R=3, S=1),
    conv2d("strided", N=1, C=2, M=4, P=4, Q=1, R=3, S=2, stride=(2, 2)),
)
FORMATS = ((), ("8*UB",), ("8*UOP",), ("7*UOP", "CP"), ("8*B",))
NO_ACTIONS = ((), (("skipping", "Inputs", ("Weights",)), ("gating", "Weights", ("Inputs",))))


@st.composite
def tasks(draw) -> tuple[Workload, Accelerator]:
    """A layer and hardware, mostly sparse: of the catalog, with or without links, in blocks, with other formats."""
    workload = draw(st.sampled_from(WORKLOADS))
    machine = catalog.accelerator(draw(st.sampled_from(MACHINES)))
    machine = replace(machine, peer_links=draw(st.booleans()))
    levels = machine.levels
    if machine.is_sparse:
        formats = {t.name: draw(st.sampled_from(FORMATS)) for t in workload.tensors}
        given = tuple((name, ranks) for name, ranks in formats.items() if ranks)
        block = draw(st.sampled_from([1, 2, 4, 16]))
        acting = draw(st.lists(st.booleans(), min_size=len(levels), max_size=len(levels)))
        levels = tuple(
            replace(
                level,
                formats=given,
                block_size_words=block,
                actions=level.actions if acts else (),
                metadata_capacity_bits=draw(st.sampled_from([None, 400])),
            )
            for level, acts in zip(levels, acting, strict=True)
        )
        density = st.sampled_from([1.0, 0.5, 0.3, 0.1])
        distribution = draw(st.sampled_from(["fixed-structured", "hypergeometric"]))
        workload = workload.with_densities({"Inputs": draw(density), "Weights": draw(density)}, distribution)
    return workload, replace(machine, levels=levels)


def shuffled(batch: MappingBatch, rng: np.random.Generator) -> MappingBatch:
    """The same mappings with their loops of bound 1 anywhere, and on any mesh side."""
    result = batch.copy()
    for i, s in np.ndindex(batch.order.shape[:2]):
        for factors, order in ((batch.temporal, result.order), (batch.spatial, result.spatial_order)):
            loops = [d for d in order[i, s] if factors[i, s, d] > 1]
            units = rng.permutation([d for d in order[i, s] if factors[i, s, d] == 1])
            places = rng.permutation(len(order[i, s])) < len(loops)
            order[i, s, places], order[i, s, ~places] = loops, units
        on_x = [d for d in batch.spatial_order[i, s, : batch.spatial_split[i, s]] if batch.spatial[i, s, d] > 1]
        where = [position for position, d in enumerate(result.spatial_order[i, s]) if batch.spatial[i, s, d] > 1]
        first = where[len(on_x) - 1] + 1 if on_x else 0
        last = where[len(on_x)] if len(on_x) < len(where) else batch.spatial.shape[2]
        result.spatial_split[i, s] = rng.integers(first, last + 1)
    return result


def assert_equal_costs(one, other):
    assert np.array_equal(one.status, other.status)
    for name in ("energy_pj", "latency_cycles", "utilization"):
        assert np.array_equal(getattr(one, name), getattr(other, name))
    for details in ("detail", "savings"):
        if getattr(one, details) is not None:
            for name, array in zip(getattr(one, details)._fields, getattr(one, details), strict=True):
                assert np.array_equal(array, getattr(getattr(other, details), name)), name


@settings(max_examples=60, deadline=None)
@given(task=tasks(), seed=st.integers(0, 2**32 - 1))
def test_the_cost_is_that_of_the_canonical_form(task, seed):
    workload, machine = task
    rng = np.random.default_rng(seed)
    space, model = MapSpace(workload, machine, ALL), CostModel(workload, machine)
    # As they are drawn: not all of them have room for their metadata.
    batch = shuffled(space.construction.sample(rng, 12), rng)
    expected = model.evaluate(batch, detail=True)
    assert_equal_costs(expected, model.evaluate(space.canonical(batch), detail=True))
    assert_equal_costs(expected, model.evaluate(shuffled(batch, rng), detail=True))
    read = [Mapping.from_dict(mapping.to_dict(), workload, machine).batch() for mapping in batch]
    assert_equal_costs(expected, model.evaluate(MappingBatch.concatenate(read), detail=True))
    plain = model.evaluate(batch)
    assert np.array_equal(plain.energy_pj, expected.energy_pj)
    assert np.array_equal(space.status(batch), expected.status)
    assert np.array_equal(space.status(shuffled(batch, rng)), expected.status)


@pytest.mark.parametrize("machine", ["tiny_sparse", "tiny_sparse_md"])
@pytest.mark.parametrize("agent", ["evolution", "hill-climb"])
def test_no_search_finds_less_than_there_is(machine, agent):
    workload = matmul("toy", M=2, K=4, N=1).with_densities({"Inputs": 0.3, "Weights": 0.5})
    space = MapSpace(workload, catalog.accelerator(machine), ("tile", "order", "bypass"))
    every = Evaluator(space, "energy", Budget(samples=500_000))
    make_agent("exhaustive").search(every, seed=0)
    some = Evaluator(space, "energy", Budget(samples=3000))
    make_agent(agent).search(some, seed=0)
    assert some.best_value >= every.best_value
    for evaluator in (every, some):
        read = Mapping.from_dict(evaluator.best_mapping.to_dict(), workload, space.accelerator)
        assert CostModel(workload, space.accelerator).evaluate(read).energy_pj == evaluator.best_value


def test_loops_that_do_nothing_by_hand():
    """Nothing is kept in the registers or runs in parallel below: which loop of bound 1 comes last used to decide."""
    machine = catalog.accelerator("tiny_sparse")
    workload = matmul("hand", M=2, K=4, N=2).with_densities({"Inputs": 0.25, "Weights": 0.5})
    mapping = Mapping.trivial(workload, machine)
    mapping.keep[0] = False
    mapping.temporal[2, workload.dims.index("M")], mapping.spatial[1, workload.dims.index("M")] = 1, 2
    model, dims = CostModel(workload, machine), len(workload.dims)
    found = set()
    for last in range(dims):
        mapping.spatial_order[0] = [d for d in range(dims) if d != last] + [last]
        found.add(model.evaluate(mapping).energy_pj)
    assert len(found) == 1
    # Where a comparison with Timeloop's own mapping asks for it, the loops stay where they are.
    timeloop = CostModel(workload, machine, is_canonical=False)
    found = set()
    for last in range(dims):
        mapping.spatial_order[0] = [d for d in range(dims) if d != last] + [last]
        found.add(timeloop.evaluate(mapping).energy_pj)
    assert len(found) > 1
    assert model.evaluate(mapping).energy_pj in found
