"""The nearest legal mapping: what is legal stays, what is not becomes so, and the rule does what it says."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from mapgym.errors import SpecificationError
from mapgym.mapping import Mapping, MappingBatch
from mapgym.mapspace import MapSpace
from mapgym.mapspace.projection import Target
from mapgym.spec.accelerator import Accelerator
from mapgym.spec.levels import Mac, StorageLevel
from mapgym.spec.workload import matmul
from random_cases import cases

AXES = ("tile", "order", "parallelism", "bypass")


def machine(registers: int = 8, **options) -> Accelerator:
    """Registers of 8 words in an array of 4 x 1 elements, an unlimited memory."""
    levels = (
        StorageLevel("Registers", capacity_words=registers, mesh_x=4, access_energy_pj=1.0),
        StorageLevel("Memory", access_energy_pj=100.0),
    )
    return Accelerator("machine", levels, Mac(mesh_x=4, energy_pj=1.0), **options)


@settings(max_examples=60, deadline=None)
@given(case=cases(1), axes=st.sets(st.sampled_from(AXES), min_size=1), seed=st.integers(0, 2**32))
def test_random_tasks(case, axes, seed):
    accelerator = replace(case.accelerator, fanout_check="per_level")
    try:
        space = MapSpace(case.workload, accelerator, tuple(axes))
        members = space.sample(np.random.default_rng(seed), 20)
    except SpecificationError:
        return  # The task, or this part of it, has no legal mapping.
    kept, ok = space.repair(members)
    assert ok.all()
    assert space.canonical(kept) == space.canonical(members)

    rng = np.random.default_rng(seed)
    target = Target.of(members)
    wild = replace(
        target,
        temporal=np.exp(rng.normal(0, 2, target.temporal.shape)),
        spatial=np.exp(rng.normal(0, 2, target.spatial.shape)),
        on_y=rng.random(target.on_y.shape) < 0.5,
    )
    fitted, ok = space.project(wild)
    assert (space.contains(fitted) == ok).all()
    if "tile" in axes:
        # All factors can go outwards, and what these members keep fits with the smallest tiles.
        assert ok.all()
    again, _ = space.repair(fitted[ok])
    assert again == fitted[ok]


def fit_one(space: MapSpace, temporal, spatial) -> Mapping:
    """Wished factors, innermost level first, for the dims M, K and N of a matrix product."""
    temporal, spatial = (np.insert(np.array(factors, float), 0, 1.0, axis=1)[None] for factors in (temporal, spatial))
    trivial = Target.of(MappingBatch.trivial(space.workload, space.accelerator, 1))
    batch, ok = space.project(replace(trivial, temporal=temporal, spatial=spatial))
    assert ok.all()
    return batch[0]


def factors(array) -> list[list[int]]:
    return array[:, 1:].tolist()


def test_spatial_factors_by_hand():
    # N wants most: as a ratio, 5 is nearer to 6 than to 3, but there are 4 elements only. M has no room left.
    space = MapSpace(matmul("layer", M=4, K=1, N=6), machine(64))
    mapping = fit_one(space, [[1, 1, 1], [1, 1, 1]], [[1, 1, 1], [2.5, 1, 5]])
    assert factors(mapping.spatial) == [[1, 1, 1], [1, 1, 3]]
    assert factors(mapping.temporal) == [[1, 1, 1], [4, 1, 2]]


def test_temporal_factors_by_hand():
    # K wants a tile of 5 words; of 1, 2, 3, 4, 6, 12 the nearest as a ratio is 6 (1.2), not 4 (1.25).
    space = MapSpace(matmul("layer", M=1, K=12, N=1), machine(64))
    assert fit_one(space, [[1, 5, 1], [1, 1, 1]], np.ones((2, 3))).temporal[:, 2].tolist() == [6, 2]


def test_a_deviation_does_not_carry_over():
    # The wished tile of the second level is 3 * 4 = 12; the first level cannot have 3, so that the second makes up.
    levels = (
        StorageLevel("Registers", capacity_words=64, access_energy_pj=1.0),
        StorageLevel("Buffer", capacity_words=256, access_energy_pj=2.0),
        StorageLevel("Memory", access_energy_pj=100.0),
    )
    space = MapSpace(matmul("layer", M=1, K=64, N=1), Accelerator("deep", levels, Mac(energy_pj=1.0)))
    mapping = fit_one(space, [[1, 3, 1], [1, 4, 1], [1, 1, 1]], np.ones((3, 3)))
    # 4 for the wish of 3 (ratio 1.33; 2 would be 1.5), then 16 / 4: 16 is nearer to 12 than 8 is.
    assert mapping.temporal[:, 2].tolist() == [4, 4, 4]


def test_capacity_by_hand():
    # M=2, K=3, N=1: 6 + 3 + 2 = 11 words of 8. Without the 2 it is 3 + 3 + 1 = 7, without the 3 it is 2 + 1 + 2 = 5:
    # both fit, and the smaller prime goes.
    space = MapSpace(matmul("layer", M=4, K=9, N=1), machine(8))
    mapping = fit_one(space, [[2, 3, 1], [2, 3, 1]], np.ones((2, 3)))
    assert factors(mapping.temporal) == [[1, 3, 1], [4, 3, 1]]


def test_constraints_are_kept():
    space = MapSpace(
        matmul("layer", M=4, K=8, N=4),
        machine(16),
        constraints={"factors": {"Registers": {"K": {"temporal": 2}}}, "orders": {"Memory": ["K", "M", "N"]}},
    )
    batch, ok = space.repair(MappingBatch.trivial(space.workload, space.accelerator, 1))
    assert ok.all()
    assert space.contains(batch).all()
    assert batch.temporal[0, 0].tolist() == [1, 1, 2, 1]


def test_what_cannot_be_mended_is_said():
    base = Mapping.trivial(matmul("layer", M=4, K=4, N=4), machine(8))
    base.temporal[:] = [[1, 4, 4, 4], [1, 1, 1, 1]]
    space = MapSpace(matmul("layer", M=4, K=4, N=4), machine(8), ("order",), base=base)
    assert not space.repair(base.batch())[1].any()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"temporal": np.ones((1, 3, 4))}, "temporal has shape"),
        ({"spatial": np.full((1, 2, 4), np.nan)}, "not finite"),
        ({"order": np.zeros((1, 2, 4), np.int8)}, "order is not a permutation"),
    ],
)
def test_bad_targets_are_refused(change, message):
    space = MapSpace(matmul("layer", M=4, K=4, N=4), machine())
    target = Target.of(MappingBatch.trivial(space.workload, space.accelerator, 1))
    with pytest.raises(SpecificationError, match=message):
        space.project(replace(target, **change))
