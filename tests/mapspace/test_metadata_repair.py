"""Room for the metadata of compressed tiles: what is moved, and what is left alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from mapgym.cost import CostModel
from mapgym.mapping.legality_kernels import LEGAL, METADATA
from mapgym.mapspace import MapSpace
from mapgym.mapspace.construction.construction import Construction
from mapgym.mapspace.metadata_repair import make_room
from mapgym.spec import catalog
from mapgym.spec.workload import matmul

LAYER = matmul("layer", M=8, K=16, N=4)


def little_metadata(bits: int):
    machine = catalog.accelerator("tiny_sparse_md")
    levels = [replace(level, metadata_capacity_bits=bits) if level.name == "RF" else level for level in machine.levels]
    return replace(machine, levels=tuple(levels))


@settings(max_examples=30, deadline=None)
@given(
    bits=st.integers(16, 200),
    density=st.sampled_from([1.0, 0.4, 0.1]),
    axes=st.sampled_from([("tile", "order", "parallelism"), ("tile",), ("tile", "order", "parallelism", "bypass")]),
    seed=st.integers(0, 1000),
)
def test_factors_move_outwards_and_nothing_else_changes(bits, density, axes, seed):
    space = MapSpace(LAYER.with_densities({"Inputs": density}), little_metadata(bits), axes)
    before = Construction(space.definition).sample(np.random.default_rng(seed), 20)
    status, batch = space.status(before), before.copy()
    after = make_room(space, batch)
    assert np.array_equal(after, space.status(batch))
    assert set(after >> 8) <= {LEGAL, METADATA}
    assert space.contains(batch[after == LEGAL]).all()
    for one, other in zip(batch[status == LEGAL], before[status == LEGAL], strict=True):
        assert one == other
    for name in ("spatial", "keep"):
        assert np.array_equal(getattr(batch, name), getattr(before, name))
    # No tile of a level grows.
    assert (batch.temporal.cumprod(axis=1) <= before.temporal.cumprod(axis=1)).all()
    assert (batch.temporal.prod(axis=1) == before.temporal.prod(axis=1)).all()


@pytest.mark.parametrize("workload", ["paper/resnet_conv4", "paper/inception_conv2"])
def test_what_is_drawn_at_random_can_be_mended(workload):
    space = MapSpace(catalog.workload(workload), catalog.accelerator("accel_a_sparse_md"))
    batch = Construction(space.definition).sample(np.random.default_rng(0), 60)
    assert (space.status(batch) >> 8 == METADATA).sum() > 20
    repaired, fits = space.repair(batch)
    assert fits.all()
    assert space.contains(repaired).all()


def test_a_move_by_hand():
    layer = matmul("hand", M=4, K=4, N=1)
    mapping = MapSpace(layer, little_metadata(116)).base.batch()
    mapping.temporal[0, 0], mapping.temporal[0, 2] = mapping.temporal[0, 2].copy(), 1
    # M is the innermost loop in RF, K the other. Inputs: 16 coordinates, 5 pointers; Weights: 4 coordinates; Outputs: 4
    # coordinates; each of 4 bits: 116 bits.
    assert MapSpace(layer, little_metadata(116)).status(mapping)[0] == LEGAL
    assert MapSpace(layer, little_metadata(115)).status(mapping)[0] == METADATA << 8
    # With half of K outside, 8 + 3 + 2 + 4 of them: 68 bits. With half of M, 8 + 5 + 4 + 2: 76 bits.
    assert make_room(MapSpace(layer, little_metadata(70)), mapping)[0] == LEGAL
    m, k = layer.dims.index("M"), layer.dims.index("K")
    assert mapping.temporal[0][:, [m, k]].tolist() == [[4, 2], [1, 2], [1, 1]]


@settings(max_examples=20, deadline=None)
@given(bits=st.integers(16, 200), density=st.sampled_from([1.0, 0.4, 0.1]), seed=st.integers(0, 1000))
def test_status__is_that_of_the_cost_model_and_leaves_mappings_as_they_are(bits, density, seed):
    layer, machine = LAYER.with_densities({"Inputs": density}), little_metadata(bits)
    space = MapSpace(layer, machine)
    batch = Construction(space.definition).sample(np.random.default_rng(seed), 20)
    # Illegal for another reason.
    batch.temporal[::7, 0, 0] *= 2
    before = batch.copy()
    status = space.status(batch)
    assert batch == before
    assert np.array_equal(status, CostModel(layer, machine).evaluate(batch).status)
    assert [space.status(batch[[i]])[0] for i in range(20)] == status.tolist()
