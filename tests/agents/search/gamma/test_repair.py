"""What the repair of genomes says of a mapping is what legality says, and what it repairs is legal."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from mapgym.agents.search.gamma.gamma_kernels import mutate
from mapgym.agents.search.gamma.genome import PLANES
from mapgym.agents.search.gamma.genome_kernels import read_genome, write_genome
from mapgym.agents.search.gamma.repair_kernels import Tiles, fill_words, repair
from mapgym.agents.search.gamma.rules import make_rules
from mapgym.errors import SpecificationError
from mapgym.mapping import MappingBatch
from mapgym.mapping.legality import batch_status
from mapgym.mapping.legality_kernels import (
    CAPACITY,
    LEGAL,
    LEVEL_FANOUT,
    MAC_FANOUT,
    MESH_FANOUT,
    legality_status,
    pack_rules,
)
from mapgym.mapping.mapping import factor_products
from mapgym.mapping.maps import Maps
from mapgym.mapspace import MapSpace
from mapgym.spec.constraints import Constraints
from mapgym.spec.workload import Workload, conv2d, depthwise_conv2d, matmul
from mapgym.testing.agents import small_accelerator, small_sparse_accelerator
from random_cases import Case, cases

AXES = ("tile", "order", "parallelism", "bypass")
CONV = conv2d("conv", N=2, C=12, M=8, P=6, Q=5, R=3, S=3, stride=2)
WORKLOADS = [
    CONV,
    depthwise_conv2d("depthwise", N=1, C=16, P=7, Q=14, R=3, S=3),
    matmul("matmul", B=3, M=30, K=16, N=8, shared_weights=True),
]
WEIGHTS = np.arange(1, 8) / 7
REPAIRABLE = (LEGAL, CAPACITY, LEVEL_FANOUT, MAC_FANOUT, MESH_FANOUT)


def repaired(space: MapSpace, batch: MappingBatch, mutations: int) -> tuple[MappingBatch, MappingBatch, np.ndarray]:
    """Mutated mappings, the same ones after repair, and how many steps each took."""
    rules = make_rules(space)
    levels, dims = batch.temporal.shape[1:]
    genome = np.zeros((PLANES, levels, max(dims, batch.keep.shape[2])), np.int64)
    tiles = Tiles(pack_rules(space.workload, space.accelerator), np.empty((levels, dims)), np.empty(levels))
    state = np.array([1], np.uint64)
    before, after = batch.blank(len(batch)), batch.blank(len(batch))
    steps = np.empty(len(batch), np.int64)
    for i in range(len(batch)):
        read_genome(Maps(*batch.arrays()), i, genome)
        for _ in range(mutations):
            mutate(genome, rules, WEIGHTS, state)
        write_genome(genome, rules, Maps(*before.arrays()), i)
        fill_words(genome, tiles)
        steps[i] = repair(genome, rules, tiles, state)
        write_genome(genome, rules, Maps(*after.arrays()), i)
    assert (factor_products(after) == space.workload.bounds).all()
    return before, after, steps


def legal(space: MapSpace, batch: MappingBatch) -> np.ndarray:
    return batch_status(batch, pack_rules(space.workload, space.accelerator)) == LEGAL


@settings(max_examples=100, deadline=None)
@given(case=cases(20), mutations=st.integers(0, 4))
def test_random_tasks(case: Case, mutations: int) -> None:
    try:
        space = MapSpace(case.workload, case.accelerator, axes=AXES)
    except SpecificationError:
        return  # The task has no legal mapping.
    status = batch_status(case.batch, pack_rules(case.workload, case.accelerator))
    # Map spaces keep all tensors at the outermost level, also where that may bypass some.
    members = np.isin(status >> 8, REPAIRABLE) & case.batch.keep[:, -1].all(axis=1)
    before, after, steps = repaired(space, case.batch[members], mutations)
    assert legal(space, before)[steps == 0].all()
    assert legal(space, after)[steps >= 0].all()
    if case.accelerator.fanout_check == "per_level":
        assert not legal(space, before)[steps != 0].any()
        assert not legal(space, after)[steps < 0].any()


@pytest.mark.parametrize("workload", WORKLOADS, ids=lambda workload: workload.name)
def test_tiles_and_parallelism_that_do_not_fit_are_repaired(workload: Workload) -> None:
    accelerator = small_accelerator()
    roomy = replace(accelerator, levels=tuple(replace(level, capacity_words=None) for level in accelerator.levels))
    large = MapSpace(workload, roomy, axes=AXES).sample(np.random.default_rng(0), 200)
    space = MapSpace(workload, accelerator, axes=AXES)
    assert legal(space, large).mean() < 0.5
    _, after, steps = repaired(space, large, mutations=3)
    assert (steps >= 0).all()
    assert legal(space, after).all()


def test_parallelism_that_may_not_become_time_is_not_repaired() -> None:
    accelerator = small_accelerator()
    registers, *outer = accelerator.levels
    wide = replace(
        accelerator,
        levels=(replace(registers, mesh_x=8, mesh_y=1), *outer),
        mac=replace(accelerator.mac, mesh_x=8, mesh_y=1),
    )
    constraints = Constraints({"Buffer": {dim: {"temporal": 1} for dim in CONV.dims}})
    drawn = MapSpace(CONV, wide, constraints=constraints).sample(np.random.default_rng(0), 200)
    space = MapSpace(CONV, accelerator, constraints=constraints)
    _, after, steps = repaired(space, drawn, mutations=0)
    assert set(steps) >= {-1, 0, 1}
    assert (legal(space, after) == (steps >= 0)).all()
    assert np.all(space.contains(after)[steps >= 0])


def test_compressed_tiles_count_as_they_are_stored() -> None:
    workload = CONV.with_densities({"Weights": 0.1, "Inputs": 0.1})
    dense, sparse = (MapSpace(workload, made(), axes=AXES) for made in (small_accelerator, small_sparse_accelerator))
    before, after, steps = repaired(sparse, sparse.sample(np.random.default_rng(0), 300), mutations=2)
    assert ((steps == 0) == legal(sparse, before)).all()
    assert legal(sparse, after)[steps >= 0].all()
    assert not legal(dense, before)[steps == 0].all()


def test_too_little_parallelism_is_not_repaired() -> None:
    space = MapSpace(CONV, small_accelerator(), constraints=Constraints(min_utilization=1.0))
    drawn = MapSpace(CONV, small_accelerator()).sample(np.random.default_rng(0), 200)
    before, _, steps = repaired(space, drawn, mutations=0)
    assert ((before.used_macs() == 4) == (steps == 0)).all()
    assert set(steps) == {-1, 0}


@pytest.mark.parametrize("workload", WORKLOADS, ids=lambda workload: workload.name)
def test_words_of_a_genome_are_those_that_legality_counts(workload: Workload) -> None:
    accelerator = small_accelerator()
    batch = MapSpace(workload, accelerator, axes=AXES).sample(np.random.default_rng(2), 50)
    levels, dims, tensors = len(accelerator.levels), len(workload.dims), len(workload.tensors)
    table = pack_rules(workload, accelerator)
    genome = np.zeros((PLANES, levels, max(dims, tensors)), np.int64)
    extents, tile_words, words = np.empty((levels, dims)), np.empty((levels, tensors)), np.empty(levels)
    tiles = Tiles(table, extents, words)
    for i in range(len(batch)):
        assert legality_status(i, Maps(*batch.arrays()), table, extents, tile_words) == LEGAL
        read_genome(Maps(*batch.arrays()), i, genome)
        fill_words(genome, tiles)
        assert words[:2].tolist() == (tile_words * batch.keep[i]).sum(axis=1)[:2].tolist()
        # The memory has no limit, so nobody has to know how full it is.
        assert words[2] == 0.0
