"""Pricing on sparse hardware, at one density of each tensor or at several."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mapgym.cost.dense.detail import Detail
from mapgym.cost.sparse.sparse_kernels import price_sparse_batch
from mapgym.cost.sparse.tables import SparseDetail, make_sparse_tables
from mapgym.cost.sparse.work_kernels import pack_work
from mapgym.mapping import MappingBatch
from mapgym.mapping.canonical_kernels import canonical_sorting
from mapgym.mapping.density_kernels import density_record
from mapgym.mapping.legality_kernels import pack_rules
from mapgym.mapping.maps import Arrays, Maps
from mapgym.spec.accelerator import Accelerator
from mapgym.spec.workload import Workload


class SparsePricing:
    """Prices mappings of workloads that differ in densities alone.

    It is not for use by several threads at once: it reuses its working memory.

    Attributes:
        tables: of the first of them.
    """

    def __init__(
        self,
        workloads: Sequence[Workload],
        accelerator: Accelerator,
        memory: tuple[NDArray[np.int64], NDArray[np.float64]],
        dense: Detail,
        is_canonical: bool,
    ) -> None:
        """Packs the task.

        Args:
            workloads: at each set of densities.
            accelerator: names tensors of the workloads only.
            memory: of the first workload, see :func:`mapgym.cost.dense.memory_kernels.pack_memory`.
            dense: room for the counts of one mapping.
            is_canonical: see :class:`mapgym.cost.CostModel`.
        """
        first = workloads[0]
        self.tables = make_sparse_tables(first, accelerator, is_canonical)
        self._memory = memory
        self._pages = pack_work(
            self.tables,
            canonical_sorting(len(first.dims), accelerator.spatial_order_counts),
            Maps(*MappingBatch.trivial(first, accelerator, 1).arrays()),
            dense,
            np.array([[density_record(one, tensor.name) for tensor in one.tensors] for one in workloads], np.int64),
            [pack_rules(one, accelerator) for one in workloads],
        )

    def price(
        self,
        arrays: Arrays,
        status: NDArray[np.int32],
        illegal_at: NDArray[np.int64],
        costs: NDArray[np.float64],
        busy: NDArray[np.int64],
        out: SparseDetail | None = None,
    ) -> None:
        """Prices all mappings of a batch; see :func:`mapgym.cost.sparse.sparse_kernels.price_sparse_batch`."""
        price_sparse_batch(arrays, *self._memory, self._pages, status, illegal_at, costs, busy, out)
