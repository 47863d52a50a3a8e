from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from mapgym.agents.search.local.edits import Edits, best_members
from mapgym.mapping import MappingBatch
from mapgym.mapspace import MapSpace
from mapgym.spec.constraints import Constraints
from mapgym.spec.workload import Workload, conv2d, depthwise_conv2d, matmul
from mapgym.testing.agents import small_accelerator

AXES = ("tile", "order", "parallelism", "bypass")
WORKLOADS = [
    conv2d("conv", N=2, C=12, M=8, P=6, Q=5, R=3, S=3, stride=2),
    depthwise_conv2d("depthwise", N=1, C=16, P=7, Q=14, R=3, S=3),
    matmul("matmul", B=3, M=30, K=16, N=8),
]


def keys(batch: MappingBatch) -> list[tuple[bytes, ...]]:
    return [tuple(array.tobytes() for array in mapping.arrays()) for mapping in batch]


@settings(max_examples=60)
@given(
    workload=st.sampled_from(WORKLOADS),
    axes=st.sets(st.sampled_from(AXES), min_size=1),
    peer_links=st.booleans(),
    constrained=st.booleans(),
    persistence=st.sampled_from([0.0, 0.6]),
    seed=st.integers(0, 2**32),
)
def test_edited_mappings_are_members_of_the_space_in_canonical_form(
    workload: Workload, axes: set[str], peer_links: bool, constrained: bool, persistence: float, seed: int
) -> None:
    accelerator = small_accelerator(peer_links=peer_links)
    rng = np.random.default_rng(seed)
    base = MapSpace(workload, accelerator, AXES).sample(rng, 1)[0]
    space = MapSpace(workload, accelerator, tuple(axes), base=base)
    if constrained:
        space = MapSpace(workload, accelerator, AXES, Constraints(min_utilization=0.5, orders={"Memory": ["N"]}))
    batch = space.sample(rng, 20)
    edited = Edits(space, rng, persistence, distinct=True).apply(batch)
    assert np.all(space.contains(edited))
    assert edited == space.canonical(edited)


def test_one_edit_leads_to_a_neighbour_and_in_time_to_each_of_them() -> None:
    for peer_links in (True, False):
        space = MapSpace(WORKLOADS[0], replace(small_accelerator(), peer_links=peer_links), AXES)
        rng = np.random.default_rng(3)
        start = space.sample(rng, 1)
        edited = Edits(space, rng, 0.0, distinct=False).apply(start[np.zeros(20_000, np.int64)])
        assert set(keys(edited)) - {keys(start)[0]} == set(keys(space.neighbors(start[0])))


def test_edits_pass_through_illegal_mappings() -> None:
    """All four MACs have to be in use: a parallel dim can only be traded for another, with too few MACs in between."""
    space = MapSpace(WORKLOADS[2], small_accelerator(), AXES, Constraints(min_utilization=1.0))
    rng = np.random.default_rng(0)
    start = space.sample(rng, 1)
    single = set(keys(space.neighbors(start[0])))
    edited = Edits(space, rng, 0.7, distinct=True).apply(start[np.zeros(3000, np.int64)])
    assert (edited.used_macs() == 4).all()
    spatial = {mapping.spatial.tobytes() for mapping in edited}
    assert len(spatial) > len({key[1] for key in single} | {start.spatial.tobytes()})


def test_nothing_is_proposed_twice_while_there_is_something_new() -> None:
    space = MapSpace(WORKLOADS[0], small_accelerator(), AXES)
    rng = np.random.default_rng(0)
    start = space.sample(rng, 1)[np.zeros(500, np.int64)]
    distinct = Edits(space, rng, 0.6, distinct=True)
    assert len({*keys(start), *keys(distinct.apply(start))}) > 400
    assert len(set(keys(Edits(space, rng, 0.6, distinct=False).apply(start)))) < 350


def test_a_mapping_without_neighbours_stays_as_it_is() -> None:
    space = MapSpace(matmul("point", M=1, K=1, N=1), small_accelerator())
    rng = np.random.default_rng(0)
    batch = space.sample(rng, 3)
    assert Edits(space, rng, 0.5, distinct=True).apply(batch) == batch


def test_best_members_leaves_out_strangers_and_repeats_the_few() -> None:
    workload = matmul("matmul", M=8, K=8, N=8)
    space = MapSpace(workload, small_accelerator())
    batch = space.sample(np.random.default_rng(0), 4)
    batch.temporal[1] = 3
    values = np.array([3.0, 1.0, 2.0, 9.0])
    assert best_members(space, batch, values, 2).tolist() == [2, 0]
    assert best_members(space, batch, values, 5).tolist() == [2, 0, 3, 2, 0]
    assert best_members(space, batch[[1]], values[:1], 5).tolist() == []


def test_overwrite_replaces_rows() -> None:
    space = MapSpace(WORKLOADS[2], small_accelerator())
    a, b = space.sample(np.random.default_rng(0), 3), space.sample(np.random.default_rng(1), 2)
    before = keys(a)
    a[np.array([2, 0])] = b
    assert keys(a) == [keys(b)[1], before[1], keys(b)[0]]


@pytest.mark.parametrize("persistence", [0.0, 0.8])
def test_the_seed_decides(persistence: float) -> None:
    space = MapSpace(WORKLOADS[0], small_accelerator(), AXES)
    batch = space.sample(np.random.default_rng(0), 50)
    results = [Edits(space, np.random.default_rng(s), persistence, distinct=True).apply(batch) for s in (1, 1, 2)]
    assert results[0] == results[1] != results[2]
