"""The cost model: what running a workload on an accelerator by a mapping costs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, overload

import numpy as np
from numpy.typing import NDArray

from mapgym.compilation.ahead import compile_ahead
from mapgym.cost.checks import check_task
from mapgym.cost.dense.detail import Detail
from mapgym.cost.dense.memory_kernels import pack_memory
from mapgym.cost.dense.price_kernels import (
    ENERGY,
    LATENCY,
    price_batch,
    price_small_batch,
    price_small_batch_with_features,
)
from mapgym.cost.dense.scratch import make_scratch
from mapgym.cost.dense.tables import HOLES, has_features, make_features, make_tables
from mapgym.cost.sparse.pricing import SparsePricing
from mapgym.cost.sparse.tables import SparseDetail, make_sparse_detail
from mapgym.errors import SpecificationError, require_kind, suggest
from mapgym.errors.text import quoted
from mapgym.mapping import Mapping, MappingBatch, legality
from mapgym.mapping.legality_kernels import pack_rules
from mapgym.spec.accelerator import Accelerator
from mapgym.spec.levels import Mac, StorageLevel
from mapgym.spec.tensor import Tensor
from mapgym.spec.workload import Workload
from mapgym.system.memory import require_memory

OBJECTIVES = ("edp", "energy", "latency")
"""What can be minimised: energy-delay product (pJ * cycles), energy (pJ), latency (cycles)."""


def check_objective(objective: str) -> str:
    """Returns the objective, or raises SpecificationError if there is none of that name."""
    if not isinstance(objective, str) or objective not in OBJECTIVES:
        raise SpecificationError(f"unknown objective {quoted(objective)}; {suggest(str(objective), OBJECTIVES)}")
    return objective


class CostDetail(Detail):
    """The counts that a cost comes from; axes are [level, tensor], with a leading [n] for a batch.

    Counts of a bypassed tensor are 0. All counts are per used instance, in words, unless said otherwise.

    Attributes:
        reads, fills, updates: int64 accesses: reads (also those that serve neighbours), writes that come from the
            level above, and writes that come from below (outputs only).
        tile_words: int64 words of the tile that the level holds.
        partition_words: int64 words of the tensor that the instance is responsible for, by Timeloop's estimate; they
            need no read, and no fill since v3.0, at their first visit. Holes of the output that nothing updates do not
            count.
        energy_pj: float64 storage energy of all instances.
        address_energy_pj: float64 energy of all instances for generating addresses.
        leakage_energy_pj: float64[level] what all instances leak during the run.
        network_energy_pj: float64 energy of all networks between this level and the next inner one.
        ingresses: float64 words that enter the network below one instance.
        hops: float64 hops of all these words together.
        link_transfers: float64 words that inner neighbours pass to each other, per instance of this level.
        spatial_reductions: int64 additions in the network below one instance (outputs only).
        multicast: int64 largest number of inner instances that receive a word together.
        used_instances: int64[level] instances in use.
        used_clusters: int64[level] clusters of instances in use, which are charged as one.
        fanout_used: int64[level] inner instances in use below one instance.
        compute_cycles: int64 cycles of the MACs alone.
        level_cycles: int64[level] cycles that the level needs at its bandwidth.
    """

    __slots__ = ()

    def at(self, i: int) -> CostDetail:
        """The counts of mapping i of a batch."""
        return CostDetail(*(array[i] for array in self))


class SparseCostDetail(SparseDetail):
    """What sparse hardware really does; axes are [level, tensor], with a leading [n] for a batch.

    Counts are per used instance, in words, unless said otherwise.

    Attributes:
        reads, fills, updates: int64 accesses that are done.
        gated_reads, gated_updates, skipped_reads, skipped_updates: int64 accesses that the level's own actions save.
        decompressions, compressions: int64 words that the level stores uncompressed, but gets and gives compressed.
        occupied_words: int64 words that a tile takes, at most.
        used_instances: float64 instances in use on average; those that get an empty tile are not.
        metadata_bits: float64 bits of metadata of the tile, at most.
        metadata_accesses: int64[level, tensor, access, outcome, rank, part] accesses to metadata, in words of metadata
            or, for metadata of the format B, bits. Accesses are reads, fills and updates; outcomes are done, gated and
            skipped; ranks are counted from the innermost; the parts of a rank are metadata and payload.
        energy_pj: float64 storage energy of all instances, with that of metadata and of saved accesses.
        metadata_energy_pj: float64 the part of it that metadata cost.
        address_energy_pj: float64 energy of all instances for generating addresses.
        leakage_energy_pj: float64[level] what all instances leak during the run.
        level_cycles: int64[level] cycles that the level needs at its bandwidth.
        computes: int64[3] multiply-accumulates done, gated and skipped, in all.
        artefacts: int64, ABORTED and WRAPPED of :mod:`mapgym.cost.sparse.tables`: where Timeloop gives no sane figures.
    """

    __slots__ = ()

    def at(self, i: int) -> SparseCostDetail:
        """The counts of mapping i of a batch."""
        return SparseCostDetail(*(array[i] for array in self))


@dataclass(frozen=True, slots=True)
class Cost:
    """The cost of one mapping.

    Attributes:
        latency_cycles: cycles, a whole number; inf for an illegal mapping.
        energy_pj: energy in pJ; inf for an illegal mapping.
        utilization: MACs done over MAC units times cycles, in [0, 1]; 0 for an illegal mapping. Gated ones count.
        status: 0 if legal, else the code of :mod:`mapgym.mapping.legality`.
        reason: why the mapping is illegal, one sentence; "" for a legal one.
        detail: the counts, if asked for; on sparse hardware those of dense tensors.
        savings: what zeros save, if the hardware is sparse and the counts are asked for.
    """

    latency_cycles: float
    energy_pj: float
    utilization: float
    status: int = 0
    reason: str = ""
    detail: CostDetail | None = None
    savings: SparseCostDetail | None = None

    @property
    def legal(self) -> bool:
        """Whether the accelerator can run the mapping."""
        return self.status == 0

    @property
    def edp(self) -> float:
        """Energy-delay product, pJ * cycles."""
        return self.energy_pj * self.latency_cycles

    def objective(self, name: str) -> float:
        """The figure to minimise, one of ``OBJECTIVES``."""
        return _objective(name, self.energy_pj, self.latency_cycles, self.edp)


@dataclass(frozen=True)
class CostBatch:
    """The costs of a batch of mappings: arrays of length n with the fields of :class:`Cost`."""

    latency_cycles: NDArray[np.float64]
    energy_pj: NDArray[np.float64]
    utilization: NDArray[np.float64]
    status: NDArray[np.int32]
    detail: CostDetail | None
    savings: SparseCostDetail | None
    _model: CostModel
    _batch: MappingBatch

    @property
    def legal(self) -> NDArray[np.bool_]:
        """bool[n]: which mappings the accelerator can run."""
        return self.status == 0

    @property
    def edp(self) -> NDArray[np.float64]:
        """float64[n]: energy-delay products, pJ * cycles."""
        return self.energy_pj * self.latency_cycles

    def objective(self, name: str) -> NDArray[np.float64]:
        """float64[n]: the figures to minimise, one of ``OBJECTIVES``."""
        return _objective(name, self.energy_pj, self.latency_cycles, self.edp)

    def reason(self, i: int) -> str:
        """Why mapping i is illegal, one sentence; "" for a legal one."""
        return self._model.reason(int(self.status[i]), self._batch[i])

    def __len__(self) -> int:
        return len(self.status)

    def __getitem__(self, i: int) -> Cost:
        return Cost(
            float(self.latency_cycles[i]),
            float(self.energy_pj[i]),
            float(self.utilization[i]),
            int(self.status[i]),
            self.reason(i),
            None if self.detail is None else self.detail.at(i),
            None if self.savings is None else self.savings.at(i),
        )


_Figure = TypeVar("_Figure", float, NDArray[np.float64])


def _objective(name: str, energy: _Figure, latency: _Figure, edp: _Figure) -> _Figure:
    return {"edp": edp, "energy": energy, "latency": latency}[check_objective(name)]


class CostModel:
    """Prices mappings of one workload on one accelerator with the counts of Timeloop.

    One compiled kernel prices single mappings and batches. Densities of a workload do not change its cost on an
    accelerator without sparse features, as in Timeloop.

    A model is not for use by several threads at once: it reuses its working memory.

    Args:
        workload: the layer.
        accelerator: the hardware; its ``rules``, ``peer_links`` and ``fanout_check`` say what is counted.
        is_canonical: whether the cost of a mapping is that of its canonical form. Timeloop's sparse counts can depend
            on where loops of bound 1 lie; False leaves them there, for comparisons with its own mappings.

    Raises:
        SpecificationError: cycles or counts could be inexact; see :mod:`mapgym.spec.ranges`.
    """

    def __init__(self, workload: Workload, accelerator: Accelerator, *, is_canonical: bool = True) -> None:
        require_kind(workload, Workload, "workload", "mapgym.catalog.workload(...)")
        require_kind(accelerator, Accelerator, "accelerator", "mapgym.catalog.accelerator(...)")
        check_task(workload, accelerator)
        self.workload = workload
        self.accelerator = accelerator
        accelerator = accelerator.for_workload(workload)
        shape = (len(accelerator.levels), len(workload.dims), len(workload.tensors))
        self._shape = shape
        self._names = (workload.dims, accelerator.level_names, tuple(tensor.name for tensor in workload.tensors))
        tables = make_tables(workload, accelerator)
        scratch = make_scratch(*shape, accelerator, int(tables.tensors[:, HOLES].max()))
        rules = pack_rules(workload, accelerator)
        features = make_features(workload, accelerator)
        self._features = features if has_features(features) else None
        self._all_features = features
        self._task = (tables, rules)
        self._scratch = scratch
        self._memory = pack_memory(tables, features, rules, scratch)
        self._price_small_batch = price_small_batch if self._features is None else price_small_batch_with_features
        self._single = (np.empty(1, np.int32), np.empty((2, 1)))
        self._mac_units = accelerator.mac.instances
        self._sparse = self.at_densities((workload,), is_canonical) if accelerator.is_sparse else None

    def at_densities(self, workloads: Sequence[Workload], is_canonical: bool = True) -> SparsePricing:
        """Prices on sparse hardware at several densities in one call.

        Args:
            workloads: the layer at each of them; the first must be that of the model.
            is_canonical: see the class.
        """
        accelerator, shape = self.accelerator.for_workload(self.workload), self._shape
        return SparsePricing(
            workloads,
            accelerator,
            self._memory,
            # What networks carry is asked for in details of dense tensors only, and takes time.
            self._make_detail(1)._replace(hops=np.zeros((0, shape[0], shape[2]))),
            is_canonical,
        )

    @overload
    def evaluate(self, mapping: Mapping, detail: bool = False) -> Cost: ...
    @overload
    def evaluate(self, mapping: MappingBatch, detail: bool = False) -> CostBatch: ...
    def evaluate(self, mapping: Mapping | MappingBatch, detail: bool = False) -> Cost | CostBatch:
        """Prices one mapping or a batch.

        Args:
            mapping: what to price.
            detail: whether to return the counts per level and tensor as well.

        Returns:
            A Cost for a Mapping, a CostBatch for a MappingBatch. Illegal mappings have a status, a reason and
            infinite cost.

        Raises:
            SpecificationError: the mapping is of another task (other dims, levels or tensors).
        """
        if isinstance(mapping, Mapping):
            if detail or self._sparse is not None:
                return self.evaluate(mapping.batch(), detail)[0]
            return self._price_single(mapping)
        self.check_names(mapping)
        n = len(mapping)
        status, costs = np.empty(n, np.int32), np.empty((2, n))
        if detail:
            fields = len(Detail._fields) + len(SparseDetail._fields)
            if self._sparse is not None:
                fields += 18 * self._sparse.tables.formats.codes.shape[2]
            size = n * 8 * fields * self._shape[0] * self._shape[2]
            require_memory(size, f"the counts of {n:,} mappings", "price fewer at a time, or without detail")
        counts = self._make_detail(n) if detail else None
        savings: SparseCostDetail | None = None
        busy: NDArray[np.int64] | None = None
        arrays = mapping.arrays()
        if self._sparse is None or counts is not None:
            tables, rules = self._task
            # Counts are kept by one kernel, whatever the hardware.
            features = self._features if counts is None else self._all_features
            price_batch(tables, features, rules, arrays, self._scratch, status, costs, counts)
        if self._sparse is not None:
            savings = SparseCostDetail(*make_sparse_detail(n, self._sparse.tables)) if detail else None
            busy = np.empty(n, np.int64)
            self._sparse.price(arrays, status, np.empty(n, np.int64), costs[None], busy[None], savings)
        energy, cycles = costs[ENERGY], costs[LATENCY]
        utilization = (self.workload.macs if busy is None else busy) / (self._mac_units * cycles)
        return CostBatch(
            cycles, energy, utilization, status, None if counts is None else CostDetail(*counts), savings, self, mapping
        )

    def check_names(self, batch: MappingBatch) -> None:
        """Raises SpecificationError if it is no batch, or of another task (other dims, levels or tensors)."""
        require_kind(batch, MappingBatch, "mapping", "MapSpace(...).sample(rng, n)")
        if batch.names != self._names:
            legality.require_task(batch, self.workload, self.accelerator)

    def _price_single(self, mapping: Mapping) -> Cost:
        if mapping.names != self._names:
            legality.require_task(mapping, self.workload, self.accelerator)
        status, costs = self._single
        arrays: Any = tuple([array[None] for array in mapping.arrays()])
        self._price_small_batch(arrays, *self._memory, status, costs)
        code, (energy, cycles) = int(status[0]), costs[:, 0].tolist()
        why = self.reason(code, mapping) if code else ""
        return Cost(cycles, energy, self.workload.macs / (self._mac_units * cycles), code, why)

    def reason(self, status: int, mapping: Mapping) -> str:
        """Why a mapping is illegal, one sentence; "" for status 0."""
        return legality.reason(status, self.workload, self.accelerator, mapping) if status else ""

    def _make_detail(self, n: int) -> Detail:
        levels, _, tensors = self._shape
        shapes = {
            **dict.fromkeys(Detail._fields, (n, levels, tensors)),
            "leakage_energy_pj": (n, levels),
            "used_instances": (n, levels),
            "used_clusters": (n, levels),
            "fanout_used": (n, levels),
            "level_cycles": (n, levels),
            "compute_cycles": (n,),
        }
        floats = {
            *("address_energy_pj", "energy_pj", "leakage_energy_pj", "network_energy_pj"),
            *("hops", "ingresses", "link_transfers"),
        }
        arrays: dict[str, Any] = {
            name: np.zeros(shapes[name], np.float64 if name in floats else np.int64) for name in Detail._fields
        }
        return Detail(**arrays)


def compile_pricing() -> None:
    """Prices a mapping, so that what prices dense mappings of any task is compiled and kept."""
    tensor = Tensor("T", ((("A", 1),),), is_output=True)
    workload = Workload("any", ("A",), (1,), (tensor,))
    accelerator = Accelerator("any", (StorageLevel("DRAM"),), Mac())
    CostModel(workload, accelerator).evaluate(MappingBatch.trivial(workload, accelerator, 1))


compile_ahead(price_batch, __name__, compile_pricing.__name__)
