"""The legality kernel: verdicts, their order, and what is said about them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, strategies as st

from brute_force_spaces import is_legal, toy_accelerator, toy_workload
from mapgym.errors import SpecificationError
from mapgym.mapping import Mapping, MappingBatch, legality, legality_kernels
from mapgym.mapping.mapping import factor_products
from mapgym.spec.accelerator import Accelerator
from mapgym.spec.levels import Mac, StorageLevel
from mapgym.spec.tensor import Tensor
from mapgym.spec.workload import Workload
from random_cases import cases


def verdict(workload, accelerator, mapping) -> tuple[int, int, str]:
    status = int(legality.batch_status(mapping.batch(), legality_kernels.pack_rules(workload, accelerator))[0])
    return status >> 8, status & 255, legality.reason(status, workload, accelerator, mapping)


def tiled(workload, accelerator, temporal=(), spatial=(), y=()) -> Mapping:
    """The trivial mapping with factors (level, dim, factor) taken out of the outermost level; y lists level, dim."""
    mapping = Mapping.trivial(workload, accelerator)
    for array, factors in ((mapping.temporal, temporal), (mapping.spatial, spatial)):
        for level, dim, factor in factors:
            d = workload.dims.index(dim)
            array[level, d] = factor
            mapping.temporal[-1, d] //= factor
    for level in range(len(accelerator.levels)):
        on_y = [workload.dims.index(dim) for s, dim in y if s == level]
        on_x = [d for d in range(len(workload.dims)) if d not in on_y]
        mapping.spatial_order[level] = on_x + on_y
        mapping.spatial_split[level] = len(on_x)
    return mapping


def test_the_trivial_mapping_is_legal():
    workload, accelerator = toy_workload(), toy_accelerator()
    assert verdict(workload, accelerator, Mapping.trivial(workload, accelerator)) == (legality_kernels.LEGAL, 0, "")


def test_a_tile_may_fill_a_level_but_not_exceed_it():
    workload = toy_workload()  # K=4 P=3 R=2; a tile K=2 P=2 needs 2 + 2 + 4 words
    mapping = tiled(workload, toy_accelerator(), temporal=[(0, "K", 2), (0, "P", 1)])
    assert verdict(workload, toy_accelerator(capacities=(5, None)), mapping)[0] == legality_kernels.LEGAL
    kind, level, reason = verdict(workload, toy_accelerator(capacities=(4, None)), mapping)
    assert (kind, level) == (legality_kernels.CAPACITY, 0)
    assert "tile of 5 words exceeds the 4 words of Registers" in reason


def test_bypassed_tensors_take_no_room():
    workload, accelerator = toy_workload(), toy_accelerator(capacities=(3, None))
    mapping = tiled(workload, accelerator, temporal=[(0, "K", 2)])
    mapping.keep[0] = [False, True, True]
    assert verdict(workload, accelerator, mapping)[0] == legality_kernels.LEGAL


@pytest.mark.parametrize(
    ("check", "kind"), [("per_level", legality_kernels.LEVEL_FANOUT), ("cumulative", legality_kernels.LEGAL)]
)
def test_the_fan_out_of_one_level_is_checked_by_itself_only_if_asked_for(check, kind):
    workload = toy_workload()
    accelerator = toy_accelerator(inner=(2, 1), outer=(2, 1), fanout_check=check)
    mapping = tiled(workload, accelerator, spatial=[(0, "K", 4)])
    got, level, reason = verdict(workload, accelerator, mapping)
    assert (got, level) == (kind, 0)
    assert ("4 x 1 at Registers exceeds its fan-out of 2 x 1" in reason) == (kind != legality_kernels.LEGAL)


def test_parallelism_above_a_level_is_limited_by_its_instances():
    workload = toy_workload()
    accelerator = toy_accelerator(inner=(2, 1), outer=(2, 1), fanout_check="cumulative")
    mapping = tiled(workload, accelerator, spatial=[(1, "K", 4)])
    kind, level, reason = verdict(workload, accelerator, mapping)
    assert (kind, level) == (legality_kernels.MESH_FANOUT, 0)
    assert "4 x 1 above Registers exceeds its 2 x 1 instances" in reason


def test_more_parallelism_than_macs_on_one_axis_is_found_before_the_levels_are():
    workload = toy_workload()
    accelerator = toy_accelerator(inner=(1, 1), outer=(2, 2), capacities=(1, 1))
    mapping = tiled(workload, accelerator, spatial=[(1, "K", 4)])
    kind, _, reason = verdict(workload, accelerator, mapping)
    assert kind == legality_kernels.MAC_FANOUT
    assert "4 x 1 exceeds the 2 x 2 MACs" in reason


def test_the_mesh_axis_decides():
    workload, accelerator = toy_workload(), toy_accelerator(inner=(1, 1), outer=(2, 4), capacities=(None, None))
    mapping = tiled(workload, accelerator, spatial=[(1, "K", 4), (1, "R", 2)], y=[(1, "K")])
    assert verdict(workload, accelerator, mapping)[0] == legality_kernels.LEGAL
    mapping = tiled(workload, accelerator, spatial=[(1, "K", 4), (1, "R", 2)], y=[(1, "R")])
    assert verdict(workload, accelerator, mapping)[0] == legality_kernels.MAC_FANOUT


def test_wrong_products_and_factors_below_one_name_the_dim():
    workload, accelerator = toy_workload(), toy_accelerator()
    mapping = Mapping.trivial(workload, accelerator)
    mapping.temporal[0, 1] = 2
    kind, dim, reason = verdict(workload, accelerator, mapping)
    assert (kind, dim) == (legality_kernels.PRODUCT, 1)
    assert "factors of dim P multiply to 6 instead of its bound 3" in reason
    mapping.temporal[0, 2] = -1
    kind, dim, reason = verdict(workload, accelerator, mapping)
    assert (kind, dim) == (legality_kernels.FACTOR, 2)
    assert "dim R" in reason


def test_products_do_not_wrap_around():
    workload = Workload("w", ("A",), (2**30,), (Tensor("T", ((("A", 1),),), is_output=True),))
    accelerator = Accelerator("a", tuple(StorageLevel(f"L{s}") for s in range(5)), Mac())
    mapping = Mapping.trivial(workload, accelerator)
    mapping.temporal[:, 0] = [2**30, 5, 137, 953, 26317]  # 2**64 + 2**30
    assert np.prod(mapping.temporal[:, 0].astype(np.int64)) == 2**30
    assert verdict(workload, accelerator, mapping)[0] == legality_kernels.PRODUCT


@pytest.mark.parametrize("array", ["order", "spatial_order"])
@pytest.mark.parametrize("wrong", [-1, 1, 3, 32, 64, 127])
def test_an_order_must_be_a_permutation(array, wrong):
    workload, accelerator = toy_workload(), toy_accelerator()
    mapping = Mapping.trivial(workload, accelerator)
    getattr(mapping, array)[1, 0] = wrong  # not 0
    kind, level, reason = verdict(workload, accelerator, mapping)
    assert (kind, level) == (legality_kernels.ORDER, 1)
    assert "Buffer is not a permutation" in reason


@pytest.mark.parametrize("split", [-1, 4])
def test_a_split_lies_within_the_dims(split):
    workload, accelerator = toy_workload(), toy_accelerator()
    mapping = Mapping.trivial(workload, accelerator)
    mapping.spatial_split[0] = split
    assert verdict(workload, accelerator, mapping)[:2] == (legality_kernels.ORDER, 0)


def test_kept_tensors():
    workload, accelerator = toy_workload(), toy_accelerator(inner_keeps=("Weights",))
    mapping = Mapping.trivial(workload, accelerator)
    mapping.keep[0, 1] = True
    kind, level, reason = verdict(workload, accelerator, mapping)
    assert (kind, level) == (legality_kernels.KEEP, 0)
    assert "Registers keeps Inputs but may hold only Weights" in reason
    mapping = Mapping.trivial(workload, accelerator)
    mapping.keep[2, 2] = False
    assert verdict(workload, accelerator, mapping)[:2] == (legality_kernels.KEEP, 2)
    mapping.keep[:, 2] = False
    kind, tensor, reason = verdict(workload, accelerator, mapping)
    assert (kind, tensor) == (legality_kernels.KEPT_NOWHERE, 2)
    assert "Outputs is kept nowhere" in reason


def test_input_that_cannot_be_packed_is_answered():
    big = Workload("big", ("A",), (2**31,), (Tensor("T", ((("A", 1),),), is_output=True),))
    with pytest.raises(SpecificationError, match="split the dim"):
        legality_kernels.pack_rules(big, toy_accelerator())
    with pytest.raises(SpecificationError, match="no tensor 'Wieghts'; did you mean 'Weights'"):
        legality_kernels.pack_rules(toy_workload(), toy_accelerator(inner_keeps=("Wieghts",)))


def test_a_batch_of_another_task_is_refused():
    workload, accelerator = toy_workload(), toy_accelerator()
    other = Workload("w", ("A",), (1,), (Tensor("T", ((("A", 1),),), is_output=True),))
    with pytest.raises(SpecificationError, match="3 levels, 3 dims and 3 tensors"):
        legality.batch_status(
            MappingBatch.trivial(workload, accelerator, 2), legality_kernels.pack_rules(other, accelerator)
        )


@given(cases())
def test_verdicts_agree_with_the_rules_written_out(case):
    status = legality.batch_status(case.batch, legality_kernels.pack_rules(case.workload, case.accelerator))
    products = (factor_products(case.batch) == case.workload.bounds).all(axis=1)
    for i, mapping in enumerate(case.batch):
        kept = mapping.keep.any(axis=0).all()
        expected = products[i] and kept and is_legal(case.workload, case.accelerator, mapping)
        assert (status[i] == legality_kernels.LEGAL) == expected
        reason = legality.reason(int(status[i]), case.workload, case.accelerator, mapping)
        assert (reason == "") == expected


@given(cases(count=2), st.integers(0, 2**32 - 1))
def test_arrays_full_of_anything_are_judged_without_harm(case, seed):
    rng = np.random.default_rng(seed)
    batch = case.batch.copy()
    for array in batch.arrays():
        hit = rng.random(array.shape) < 0.05
        info = np.iinfo(array.dtype) if array.dtype != np.bool_ else np.iinfo(np.int8)
        array[hit] = rng.integers(info.min, info.max, size=int(hit.sum()), endpoint=True)
    status = legality.batch_status(batch, legality_kernels.pack_rules(case.workload, case.accelerator))
    for code, mapping in zip(status, batch, strict=True):
        assert (legality.reason(int(code), case.workload, case.accelerator, mapping) == "") == (code == 0)
