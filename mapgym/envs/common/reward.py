"""What an episode earns.

The reward is 0 until the mapping is complete and then ``-ln(cost / lower bound)``: at most 0, and the same scale for
layers of every size. Over a set of densities, it is the weighted mean of that at each of them. All rewards are meant to
be added up without discounting (gamma = 1).

``reward="shaped"`` adds ``potential(after) - potential(before)`` to the reward of every step (Ng, Harada and Russell,
1999). The potential is 0 at the beginning and again when the mapping is complete, so the return of an episode is
exactly that of the plain reward, and so is the best policy; only the credit arrives earlier. In between it is

- for the objectives "edp" and "latency", the sum over the levels whose parallel factors are all decided of
  ``ln(used fan-out / fan-out)``: the slowdown that idle units cause at least;
- for the objectives "edp" and "energy", the mean over the levels of limited capacity, as far as their tile factors are
  all decided, of ``ln(used words / capacity in words)``: larger tiles are fetched less often.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from mapgym import cost
from mapgym.envs.common.infos import NOTHING
from mapgym.envs.common.reward_kernels import (
    FIGURES,
    ILLEGAL_REWARD,
    PLAIN_FIGURES,
    price_figures,
    price_figures_with_features,
)
from mapgym.errors import SpecificationError
from mapgym.errors.text import quoted
from mapgym.evaluation.best_known import best_known
from mapgym.evaluation.sparsity_aware import (
    ENERGY_OF,
    LATENCY_OF,
    UTILIZATION_OF,
    DensitySet,
    DensitySetCosts,
    SparsityAware,
    plain_objective,
)

if TYPE_CHECKING:
    from mapgym.cost import CostBatch
    from mapgym.envs.common.task import Task
    from mapgym.evaluation.evaluator import Evaluator
    from mapgym.mapping import MappingBatch
    from mapgym.mapping.maps import Arrays
    from mapgym.mapspace import MapSpace

REWARDS = ("terminal", "shaped")


class Pricer(Protocol):
    """What prices mappings: a cost model, or an evaluator that may price fewer than asked."""

    def evaluate(self, mapping: MappingBatch, /) -> CostBatch:
        """Costs of the first mappings of a batch, as a rule of all."""


def potential_weights(objective: str) -> tuple[float, float]:
    """Weights of the two parts of the potential: parallelism, capacity."""
    return float(objective != "energy"), float(objective != "latency")


class DenseModel:
    """Prices mappings where they are few: what a cost model does, without what it makes for its callers.

    Attributes:
        has_features: whether the hardware has some, so that another kernel prices.
        arrays: what the kernels of :mod:`mapgym.envs.common.reward_kernels` take of the task.
    """

    def __init__(self, model: cost.CostModel, objective: str, bound: float, proven_bound: float | None) -> None:
        place, units = cost.OBJECTIVES.index(objective), model.accelerator.mac.instances
        numbers = (place, bound, model.workload.macs, units, proven_bound or 0.0)
        self.has_features = model._features is not None
        self.arrays = (*model._memory, np.array(numbers, np.float64))
        self._price = price_figures_with_features if self.has_features else price_figures

    def figures(self, arrays: Arrays, n: int) -> NDArray[np.float64]:
        """float64[figure, n] of the mappings of a batch with these arrays."""
        figures = np.empty((len(PLAIN_FIGURES), n))
        self._price(arrays, *self.arrays, figures)
        return figures


class DensityModel:
    """Prices mappings over a set of densities: what the set does, without what it makes for its callers."""

    def __init__(self, densities: DensitySet, proven_bound: float | None) -> None:
        self._densities, self._proven_bound = densities, proven_bound
        self._metric = plain_objective(densities.objective)
        self._bound = densities.lower_bound.objective(self._metric)

    def figures(self, batch: MappingBatch) -> NDArray[np.float64]:
        """float64[figure, n], see :meth:`Pricing.figures`."""
        prices = self._densities.price(batch)
        latency, energy = prices.means[LATENCY_OF], prices.means[ENERGY_OF]
        edp = energy * latency
        ratio = {"edp": edp, "energy": energy, "latency": latency}[self._metric] / self._bound
        figures = np.empty((len(FIGURES) + prices.metrics.shape[1] + 1, len(batch)))
        figures[0] = -np.log(ratio)
        if np.count_nonzero(prices.status):
            figures[0, prices.status != 0] = ILLEGAL_REWARD
        figures[1], figures[2], figures[3], figures[4] = latency, energy, edp, prices.means[UTILIZATION_OF]
        figures[5] = ratio
        figures[len(FIGURES) : -1] = self._densities.ratios(prices.metrics)
        figures[-1] = NOTHING if self._proven_bound is None else ratio / self._proven_bound - 1.0
        return figures


class Pricing:
    """Prices finished mappings of one task and turns the costs into rewards.

    Attributes:
        task: the task.
        bound: lower bound of the objective, above 0; 1 for one over a set of densities, which is relative to the lower
            bound at each of them.
        proven_bound: the best lower bound of the objective that is proven for the map space; None if none is stored.
    """

    def __init__(self, task: Task, space: MapSpace, evaluator: Evaluator | None = None) -> None:
        """Chooses who prices.

        Args:
            task: the task.
            space: its map space.
            evaluator: prices, counts and may refuse; a cost model of our own when left out.

        Raises:
            SpecificationError: the lower bound is 0, so that costs cannot be compared with it.
        """
        self.task = task
        self._evaluator = evaluator
        bound = cost.lower_bound(task.workload, task.accelerator) if evaluator is None else evaluator.lower_bound
        self.bound = float(bound.objective(task.metric))
        if not self.bound > 0:
            raise SpecificationError(
                f"the lower bound of {quoted(task.objective)} for {quoted(task.workload.name)} on "
                f"{quoted(task.accelerator.name)} is 0, "
                "so that no reward can be relative to it; give the accelerator energies above 0 or choose 'latency'"
            )
        if isinstance(task.objective, SparsityAware):
            self.bound = 1.0
        known = best_known(space, task.objective)
        self.proven_bound = None if known is None else known.lower_bound

    @cached_property
    def _pricer(self) -> Pricer | DenseModel | DensityModel:
        """Who prices; made when it is needed, because a model for each of several densities takes a while to make."""
        task = self.task
        if self._evaluator is not None:
            return self._evaluator
        if isinstance(task.objective, SparsityAware):
            return DensityModel(DensitySet(task.workload, task.accelerator, task.objective), self.proven_bound)
        model = cost.CostModel(task.workload, task.accelerator)
        if task.accelerator.is_sparse:
            return model
        return DenseModel(model, task.objective, self.bound, self.proven_bound)

    @property
    def dense_model(self) -> DenseModel | None:
        """The model, if it is one that can be called from compiled code."""
        return self._pricer if isinstance(self._pricer, DenseModel) else None

    @cached_property
    def names(self) -> tuple[str, ...]:
        """What the rows of figures are: the reward, and what ``info`` says of a mapping."""
        objective = self.task.objective
        if isinstance(objective, SparsityAware):
            return (*FIGURES, *(f"ratio_at_{density}" for density in objective.densities), "gap")
        return PLAIN_FIGURES

    @cached_property
    def metric_names(self) -> tuple[str, ...]:
        """The same without the reward."""
        return self.names[1:]

    def unknown(self, n: int) -> NDArray[np.float64]:
        """float64[figure, n] of mappings that nobody has priced: NaN, but for the lower bound."""
        figures = np.full((len(self.names), n), np.nan)
        if self.names is PLAIN_FIGURES:
            figures[PLAIN_FIGURES.index("lower_bound")] = self.bound
        return figures

    def figures(self, batch: MappingBatch) -> NDArray[np.float64]:
        """Prices mappings.

        Returns:
            float64[figure, n], see :attr:`names`: the reward, latency_cycles, energy_pj, edp, utilization and ratio,
            then lower_bound, or over a set of densities the ratio at each of them; last the gap, -1 where no proven
            bound is stored. There are fewer columns than mappings if the evaluator's budget ended within the batch.
        """
        pricer, task = self._pricer, self.task
        if isinstance(pricer, DenseModel):
            return pricer.figures(batch.arrays(), len(batch))
        if isinstance(pricer, DensityModel):
            return pricer.figures(batch)
        costs = pricer.evaluate(batch)
        values = costs.objective(task.objective)
        ratio = values / self.bound
        rows = [
            np.where(costs.legal, -np.log(ratio), ILLEGAL_REWARD),
            *(costs.latency_cycles, costs.energy_pj, costs.edp, costs.utilization, ratio),
        ]
        if isinstance(costs, DensitySetCosts):
            rows += list(costs.ratios())
        else:
            rows.append(np.full_like(ratio, self.bound))
        proven = self.proven_bound
        rows.append(np.full_like(ratio, NOTHING) if proven is None else values / proven - 1.0)
        return np.array(rows)
