"""The sparsity-aware objective: one mapping that is good at several densities of a tensor.

How many weights are zero is known before a layer runs; how many activations are zero changes with every input. A
mapping is therefore priced at each of a set of densities of the activations, and the prices become one figure.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple, overload

import numpy as np
from numpy.typing import NDArray

from mapgym.cost import Cost, CostBatch, CostModel, LowerBound, check_objective, lower_bound
from mapgym.cost.dense.price_kernels import ENERGY, LATENCY
from mapgym.errors import SpecificationError, require_kind
from mapgym.errors.text import quoted
from mapgym.mapping import Mapping, MappingBatch
from mapgym.mapping.legality_kernels import LEGAL
from mapgym.spec import ranges
from mapgym.spec.accelerator import Accelerator
from mapgym.spec.workload import Workload

SPARSITY_AWARE = "sparsity-aware"
"""How the text of every sparsity-aware objective begins."""

DENSITIES = (1.0, 0.8, 0.5, 0.2, 0.1)
ACTIVATIONS = "Inputs"

_FORM = f"{SPARSITY_AWARE}[:objective[:densities[:weights[:tensor]]]], such as {SPARSITY_AWARE}:edp:1.0,0.5,0.1"


class SparsityAware(str):
    """An objective: the weighted geometric mean, over densities of a tensor, of cost over lower bound.

    The mean is geometric because nothing else treats the densities alike: halving the cost at any of two densities of
    equal weight counts the same, however large the costs are, and however tight the lower bounds. So dense inputs,
    which cost most, do not drown the others, and which mapping is best does not depend on what the costs are divided
    by. It is also the figure by which mappings are judged: the performance that they keep over many densities.

    It is a text, like all objectives, so that it can be a key, a cell of a table or a value in JSON;
    :meth:`parse` reads the text back, and equal objectives have equal texts.

    Example:
        >>> SparsityAware()
        'sparsity-aware:edp:1.0,0.8,0.5,0.2,0.1'
        >>> SparsityAware((0.1, 1.0), weights=(1, 3), objective="energy")
        'sparsity-aware:energy:1.0,0.1:3.0,1.0'

    Attributes:
        densities: of the tensor, each above 0 and at most 1, the highest first.
        weights: how much each one counts, above 0; only their ratios matter.
        objective: what is averaged, one of ``mapgym.cost.OBJECTIVES``.
        tensor: whose density is not known in advance.
    """

    densities: tuple[float, ...]
    weights: tuple[float, ...]
    objective: str
    tensor: str

    def __new__(
        cls,
        densities: Iterable[float | str] = DENSITIES,
        weights: Iterable[float | str] | None = None,
        objective: str = "edp",
        tensor: str = ACTIVATIONS,
    ) -> SparsityAware:
        """Checks the arguments, which are those of the attributes, and writes the text.

        Args:
            densities: in any order, each once; numbers or their texts.
            weights: one for each density, in the same order; all alike when left out.
            objective: what is averaged.
            tensor: whose density varies.

        Raises:
            SpecificationError: no density, one out of range or given twice, or weights that do not fit.
        """
        given = _numbers(densities, "density", "above 0 and at most 1", ranges.LEAST_DENSITY, 1.0)
        if not given or len(set(given)) < len(given):
            raise SpecificationError(f"densities are {quoted(_joined(given))}; give at least one, and each one once")
        shares = (1.0,) * len(given)
        if weights is not None:
            shares = _numbers(weights, "weight of a density", "above 0", ranges.LEAST_WEIGHT, ranges.MOST_WEIGHT)
        if len(shares) != len(given):
            raise SpecificationError(
                f"there are {len(given)} densities ({_joined(given)}) and {len(shares)} weights ({_joined(shares)}); "
                "give one weight for each density"
            )
        if not isinstance(tensor, str) or not tensor or ":" in tensor:
            raise SpecificationError(
                f"tensor is {quoted(tensor)}; give the name of a tensor, such as {quoted(ACTIVATIONS)}"
            )
        given, shares = zip(*sorted(zip(given, shares, strict=True), reverse=True), strict=True)
        parts = [SPARSITY_AWARE, check_objective(objective), _joined(given)]
        if len(set(shares)) > 1 or tensor != ACTIVATIONS:
            parts.append(_joined(shares))
        if tensor != ACTIVATIONS:
            parts.append(tensor)
        self = super().__new__(cls, ":".join(parts))
        self.densities, self.weights = given, shares if len(set(shares)) > 1 else (1.0,) * len(given)
        self.objective, self.tensor = str(objective), str(tensor)
        return self

    def __getnewargs__(self) -> Any:
        """What a copy is made from."""
        return self.densities, self.weights, self.objective, self.tensor

    @classmethod
    def parse(cls, text: str) -> SparsityAware:
        """Reads the text form, in which parts may be left out from the end, or be empty.

        Raises:
            SpecificationError: it is something else.
        """
        if isinstance(text, SparsityAware):
            return text
        name, *parts = text.split(":")
        if name != SPARSITY_AWARE or len(parts) > 4:
            raise SpecificationError(f"objective {quoted(text)} is none of the form {_FORM}")
        objective, densities, weights, tensor = (*parts, *[""] * (4 - len(parts)))
        try:
            return cls(
                densities.split(",") if densities else DENSITIES,
                weights.split(",") if weights else None,
                objective or "edp",
                tensor or ACTIVATIONS,
            )
        except SpecificationError as error:
            raise SpecificationError(f"objective {quoted(text)}: {error}") from None

    def at(self, workload: Workload, density: float) -> Workload:
        """The workload with this density of the tensor."""
        return workload.with_densities({self.tensor: density})

    def densest(self, workload: Workload) -> Workload:
        """The workload with the highest density of the set: what fits into its map space fits at every density."""
        return self.at(workload, self.densities[0])

    @property
    def shares(self) -> tuple[float, ...]:
        """The weights, which add up to 1."""
        total = math.fsum(self.weights)
        return tuple(weight / total for weight in self.weights)


def is_sparsity_aware(objective: object) -> bool:
    """Whether an objective is :class:`SparsityAware`, or its text."""
    return isinstance(objective, str) and objective.partition(":")[0] == SPARSITY_AWARE


def plain_objective(objective: str) -> str:
    """What counts at each density: what is averaged over several, or the objective itself."""
    return SparsityAware.parse(objective).objective if is_sparsity_aware(objective) else objective


def samples_per_mapping(objective: str) -> int:
    """Cost-model calls that price one mapping: one for each density of a sparsity-aware objective, else one."""
    return len(SparsityAware.parse(objective).densities) if is_sparsity_aware(objective) else 1


@dataclass(frozen=True)
class DensitySetBound(LowerBound):
    """Weighted geometric means of the lower bounds at all densities.

    Attributes:
        aware: the objective, of which the bound is 1: its values are relative already.
        bounds: at each density.
    """

    aware: SparsityAware
    bounds: tuple[LowerBound, ...]

    def objective(self, name: str) -> float:
        """The bound of an objective: ``aware``, or the mean of one of ``OBJECTIVES``."""
        return 1.0 if name == self.aware else super().objective(name)


@dataclass(frozen=True)
class DensitySetCost(Cost):
    """The cost of one mapping over all densities: all metrics are weighted geometric means.

    Attributes:
        value: the sparsity-aware objective.
        density_latency_cycles, density_energy_pj: float64[density].
    """

    value: float = field(kw_only=True)
    density_latency_cycles: NDArray[np.float64] = field(kw_only=True)
    density_energy_pj: NDArray[np.float64] = field(kw_only=True)

    def objective(self, name: str) -> float:
        """The sparsity-aware objective, or the mean of one of ``OBJECTIVES``."""
        return self.value if is_sparsity_aware(name) else Cost.objective(self, name)


@dataclass(frozen=True)
class DensitySetCosts(CostBatch):
    """The costs of a batch of mappings over all densities.

    The fields of :class:`mapgym.cost.CostBatch` are weighted geometric means over the densities. The mean of the EDPs
    is the product of the means of energy and latency, as if they were the cost at one density. A mapping that is
    illegal at any density is illegal, and costs inf at all of them.

    Attributes:
        density_latency_cycles, density_energy_pj: float64[density, n], in the order of ``SparsityAware.densities``.
    """

    density_latency_cycles: NDArray[np.float64]
    density_energy_pj: NDArray[np.float64]
    _set: DensitySet
    _illegal_at: NDArray[np.int64]

    def objective(self, name: str) -> NDArray[np.float64]:
        """float64[n]: the sparsity-aware objective, at least 1, or the means of one of ``OBJECTIVES``."""
        aware = self._set.objective
        if name == aware:
            return super().objective(aware.objective) / self._set.lower_bound.objective(aware.objective)
        return super().objective(name)

    def per_density(self, name: str) -> NDArray[np.float64]:
        """float64[density, n]: one of ``OBJECTIVES`` at each density."""
        if name == "edp":
            return self.density_energy_pj * self.density_latency_cycles
        return self.density_energy_pj if check_objective(name) == "energy" else self.density_latency_cycles

    def ratios(self) -> NDArray[np.float64]:
        """float64[density, n]: what the objective averages over its lower bound, at each density."""
        return self._set.ratios(np.array([self.density_latency_cycles, self.density_energy_pj]))

    def reason(self, i: int) -> str:
        """Why mapping i is illegal, and at which density; "" for a legal one."""
        if not self.status[i]:
            return ""
        aware, k = self._set.objective, self._illegal_at[i]
        why = self._set.models[k].reason(int(self.status[i]), self._batch[i])
        return f"with the density {aware.densities[k]:g} of {aware.tensor}: {why}"

    def __getitem__(self, i: int) -> DensitySetCost:
        return DensitySetCost(
            float(self.latency_cycles[i]),
            float(self.energy_pj[i]),
            float(self.utilization[i]),
            int(self.status[i]),
            self.reason(i),
            value=float(self.objective(self._set.objective)[i]),
            density_latency_cycles=self.density_latency_cycles[:, i].copy(),
            density_energy_pj=self.density_energy_pj[:, i].copy(),
        )


LATENCY_OF, ENERGY_OF, UTILIZATION_OF = range(3)
"""What the metrics of prices are."""


class DensitySetPrices(NamedTuple):
    """The prices of n mappings."""

    means: NDArray[np.float64]  # [metric, n], weighted geometric means over the densities
    metrics: NDArray[np.float64]  # [metric, density, n]
    status: NDArray[np.int32]  # [n], 0 for mappings that are legal at every density
    illegal_at: NDArray[np.int64]  # [n], the number of the first density at which one is illegal; else anything


class DensitySet:
    """Prices mappings at all densities of an objective.

    Example:
        >>> from mapgym.spec.catalog import accelerator, workload
        >>> from mapgym.mapspace import MapSpace
        >>> layer, machine = workload("toy/tiny_conv"), accelerator("tiny_sparse_md")
        >>> densities = DensitySet(layer, machine, SparsityAware((1.0, 0.5)))
        >>> costs = densities.evaluate(MapSpace(layer, machine).sample(np.random.default_rng(0), 3))
        >>> costs.objective(densities.objective).shape, costs.per_density("edp").shape
        ((3,), (2, 3))

    Attributes:
        objective: the densities and what is averaged.
        models: a cost model for each density.
        lower_bound: means of the lower bounds, which no mapping is below, and those at each density.
    """

    def __init__(self, workload: Workload, accelerator: Accelerator, objective: SparsityAware) -> None:
        """Makes the models.

        Args:
            workload: the layer; its density of ``objective.tensor`` does not matter.
            accelerator: hardware with sparse features.
            objective: the densities.

        Raises:
            SpecificationError: densities change nothing on the accelerator, or the workload has no such tensor.
        """
        require_kind(objective, SparsityAware, "objective", "SparsityAware()")
        require_kind(accelerator, Accelerator, "accelerator", "mapgym.catalog.accelerator(...)")
        if not accelerator.is_sparse:
            raise SpecificationError(
                f"accelerator {quoted(accelerator.name)} has no sparse features, so that densities change nothing "
                f"there; take one that has, such as 'accel_b_sparse_md', or the objective {quoted(objective.objective)}"
            )
        self.objective = objective
        self.models = tuple(CostModel(objective.at(workload, density), accelerator) for density in objective.densities)
        self._pricing = self.models[0].at_densities([model.workload for model in self.models])
        bounds = tuple(lower_bound(model.workload, accelerator) for model in self.models)
        self._shares = objective.shares
        latency, energy = self._mean(
            np.array([[[bound.latency_cycles] for bound in bounds], [[bound.energy_pj] for bound in bounds]])
        )
        self.lower_bound = DensitySetBound(latency.item(), energy.item(), objective, bounds)

    @overload
    def evaluate(self, mapping: Mapping) -> DensitySetCost: ...
    @overload
    def evaluate(self, mapping: MappingBatch) -> DensitySetCosts: ...
    def evaluate(self, mapping: Mapping | MappingBatch) -> DensitySetCost | DensitySetCosts:
        """Prices one mapping or a batch at every density; what is illegal at one is not priced at the next."""
        if isinstance(mapping, Mapping):
            return self.evaluate(mapping.batch())[0]
        prices = self.price(mapping)
        latency, energy, utilization = prices.means
        return DensitySetCosts(
            latency,
            energy,
            utilization,
            prices.status,
            detail=None,
            savings=None,
            _model=self.models[0],
            _batch=mapping,
            density_latency_cycles=prices.metrics[LATENCY_OF],
            density_energy_pj=prices.metrics[ENERGY_OF],
            _set=self,
            _illegal_at=prices.illegal_at,
        )

    def price(self, batch: MappingBatch) -> DensitySetPrices:
        """Prices a batch at every density, as plain arrays."""
        self.models[0].check_names(batch)
        n, k = len(batch), len(self.models)
        status, illegal_at = np.empty(n, np.int32), np.empty(n, np.int64)
        costs, busy = np.empty((k, 2, n)), np.empty((k, n), np.int64)
        self._pricing.price(batch.arrays(), status, illegal_at, costs, busy)
        metrics = np.empty((3, k, n))
        metrics[LATENCY_OF], metrics[ENERGY_OF] = costs[:, LATENCY], costs[:, ENERGY]
        metrics[UTILIZATION_OF] = busy / (self.models[0].accelerator.mac.instances * metrics[LATENCY_OF])
        if np.count_nonzero(status):
            illegal = status != LEGAL
            metrics[:2, :, illegal], metrics[2, :, illegal] = np.inf, 0.0
        return DensitySetPrices(self._mean(metrics), metrics, status, illegal_at)

    def ratios(self, metrics: NDArray[np.float64]) -> NDArray[np.float64]:
        """float64[density, n]: what the objective averages over its lower bound, at each density."""
        name = self.objective.objective
        if name == "edp":
            return np.asarray(metrics[ENERGY_OF] * metrics[LATENCY_OF] / self._bounds)
        return np.asarray(metrics[ENERGY_OF if name == "energy" else LATENCY_OF] / self._bounds)

    @cached_property
    def _bounds(self) -> NDArray[np.float64]:
        """float64[density, 1], the lower bounds of what the objective averages."""
        return np.array([[bound.objective(self.objective.objective)] for bound in self.lower_bound.bounds])

    def _mean(self, metrics: NDArray[np.float64]) -> NDArray[np.float64]:
        """float64[metric, n], the weighted geometric means of float64[metric, density, n]."""
        with np.errstate(divide="ignore"):
            logs = np.log(metrics)
        # Density by density, so that a mapping has the same mean in every batch.
        total = np.zeros((len(metrics), metrics.shape[2]))
        for k, share in enumerate(self._shares):
            total += share * logs[:, k]
        return np.exp(total)


def _numbers(values: Iterable[float | str], what: str, allowed: str, least: float, most: float) -> tuple[float, ...]:
    """Numbers of a range above 0, from numbers or texts."""
    numbers = []
    for value in values if isinstance(values, Iterable) and not isinstance(values, str) else [values]:
        try:
            number = math.nan if isinstance(value, bool) else float(value)
        except (TypeError, ValueError, OverflowError):
            number = math.nan
        if not least <= number <= most:
            raise SpecificationError(f"a {what} is {quoted(value)}; give a number {allowed} ({least:g} to {most:g})")
        numbers.append(number)
    return tuple(numbers)


def _joined(numbers: Sequence[float]) -> str:
    return ",".join(map(repr, numbers))
