"""Mappings refuse arrays that mean something else than they say."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mapgym.cost import CostModel, lower_bound
from mapgym.errors import SpecificationError
from mapgym.mapping import Mapping, MappingBatch
from mapgym.mapping.mapping import ARRAYS
from mapgym.spec.catalog import accelerator, workload
from mapgym.spec.tensor import Tensor
from mapgym.spec.workload import Workload, matmul

LAYER, MACHINE = workload("toy/tiny_gemm"), accelerator("tiny")


def rebuilt(batch: MappingBatch, **changed) -> MappingBatch:
    arrays = {name: getattr(batch, name) for name in ARRAYS} | changed
    return MappingBatch(**arrays, dims=batch.dims, levels=batch.levels, tensors=batch.tensors)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("temporal", lambda array: array.astype(np.int64) + 2**32),
        ("temporal", lambda array: array + 0.5),
        ("order", lambda array: array.astype(np.int64) + 256),
        ("keep", lambda array: array * 2),
    ],
)
def test_values_that_would_change_when_converted_are_refused(name, values):
    batch = MappingBatch.trivial(LAYER, MACHINE, 2)
    with pytest.raises(SpecificationError, match=f"{name!r} has values that"):
        rebuilt(batch, **{name: values(getattr(batch, name))})


def test_other_integer_types_and_strides_are_converted():
    batch = MappingBatch.trivial(LAYER, MACHINE, 4)
    wide = rebuilt(batch, temporal=batch.temporal.astype(np.int64), order=batch.order[::-1])
    assert wide == batch
    assert wide.temporal.dtype == np.int32
    assert wide.order.flags.c_contiguous


def test_a_mapping_of_another_task_is_not_priced():
    model = CostModel(LAYER, MACHINE)
    other = matmul(M=4, K=4, N=4)
    with pytest.raises(SpecificationError, match="the mapping has the dims B, M, K, N, but"):
        model.evaluate(Mapping.trivial(other, MACHINE))
    with pytest.raises(SpecificationError, match="has the levels"):
        model.evaluate(MappingBatch.trivial(LAYER, accelerator("accel_b"), 3))


def test_batches_of_different_tasks_do_not_join_and_are_not_equal():
    tensors = (Tensor("A", ((("X", 1),),)), Tensor("Y", ((("X", 1),),), is_output=True))
    renamed = (Tensor("B", ((("X", 1),),)), Tensor("Y", ((("X", 1),),), is_output=True))
    first = MappingBatch.trivial(Workload("a", ("X",), (4,), tensors), MACHINE, 1)
    second = MappingBatch.trivial(Workload("b", ("X",), (4,), renamed), MACHINE, 1)
    assert first != second
    with pytest.raises(SpecificationError, match="different tasks"):
        MappingBatch.concatenate([first, second])
    with pytest.raises(SpecificationError, match="no batches"):
        MappingBatch.concatenate([])


def test_a_blank_batch_has_the_shapes_of_its_task_and_arrays_of_its_own():
    few, blank = MappingBatch.trivial(LAYER, MACHINE, 2), MappingBatch.trivial(LAYER, MACHINE, 0).blank(5)
    blank[:] = few[np.array([0, 1, 0, 1, 0])]
    assert rebuilt(blank) == MappingBatch.trivial(LAYER, MACHINE, 5)
    few.blank(2).temporal[:] = 7
    assert few == MappingBatch.trivial(LAYER, MACHINE, 2)


def test_an_accelerator_whose_macs_are_free_has_no_lower_bound():
    free = replace(MACHINE, mac=replace(MACHINE.mac, energy_pj=0.0))
    with pytest.raises(SpecificationError, match=r"give mac\.energy_pj above 0"):
        lower_bound(LAYER, free)
