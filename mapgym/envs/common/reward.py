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
from mapgym.envs.common.reward_kernels import FIGURES, ILLEGAL_REWARD, make_figures
from mapgym.errors import SpecificationError
from mapgym.errors.text import quoted
from mapgym.evaluation.best_known import best_known
from mapgym.evaluation.sparsity_aware import DensitySet, DensitySetCosts, SparsityAware

if TYPE_CHECKING:
    from mapgym.cost import CostBatch
    from mapgym.envs.common.task import Task
    from mapgym.evaluation.evaluator import Evaluator
    from mapgym.mapping import MappingBatch
    from mapgym.mapping.maps import Arrays
    from mapgym.mapspace import MapSpace

REWARDS = ("terminal", "shaped")
_FIGURE_OF = {"edp": "edp", "energy": "energy_pj", "latency": "latency_cycles"}


class Pricer(Protocol):
    """What prices mappings: a cost model, or an evaluator that may price fewer than asked."""

    def evaluate(self, mapping: MappingBatch, /) -> CostBatch:
        """Costs of the first mappings of a batch, as a rule of all."""


def potential_weights(objective: str) -> tuple[float, float]:
    """Weights of the two parts of the potential: parallelism, capacity."""
    return float(objective != "energy"), float(objective != "latency")


class DenseModel:
    """Prices mappings where they are few: what a cost model does, without what it makes for its callers."""

    def __init__(self, model: cost.CostModel, objective: str, bound: float) -> None:
        self._model = model
        numbers = cost.OBJECTIVES.index(objective), bound, model.workload.macs, model.accelerator.mac.instances
        self._numbers = np.array(numbers, np.float64)

    def figures(self, arrays: Arrays, n: int) -> NDArray[np.float64]:
        """float64[figure, n] of the mappings of a batch with these arrays."""
        status, costs, figures = np.empty(n, np.int32), np.empty((2, n)), np.empty((len(FIGURES), n))
        self._model._price_small_batch(arrays, *self._model._memory, status, costs)
        make_figures(status, costs, self._numbers, figures)
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
    def _pricer(self) -> Pricer | DenseModel:
        """Who prices; made when it is needed, because a model for each of several densities takes a while to make."""
        task = self.task
        if self._evaluator is not None:
            return self._evaluator
        if isinstance(task.objective, SparsityAware):
            return DensitySet(task.workload, task.accelerator, task.objective)
        model = cost.CostModel(task.workload, task.accelerator)
        return model if task.accelerator.is_sparse else DenseModel(model, task.objective, self.bound)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """What the rows of figures are."""
        objective = self.task.objective
        densities = objective.densities if isinstance(objective, SparsityAware) else ()
        return (*FIGURES, *(f"ratio_at_{density}" for density in densities))

    @property
    def metric_names(self) -> tuple[str, ...]:
        """What :meth:`metrics` may have."""
        is_plain = len(self.names) == len(FIGURES)
        return (*self.names[1:], *(("lower_bound",) if is_plain else ()), "gap")

    def figures(self, batch: MappingBatch) -> NDArray[np.float64]:
        """Prices mappings.

        Returns:
            float64[figure, n]: the reward, and what metrics are made of, see :attr:`names`. There are fewer columns
            than mappings if the evaluator's budget ended within the batch.
        """
        pricer, task = self._pricer, self.task
        if isinstance(pricer, DenseModel):
            return pricer.figures(batch.arrays(), len(batch))
        costs = pricer.evaluate(batch)
        ratio = costs.objective(task.objective) / self.bound
        rows = [
            np.where(costs.legal, -np.log(ratio), ILLEGAL_REWARD),
            *(costs.latency_cycles, costs.energy_pj, costs.edp, costs.utilization, ratio),
        ]
        if isinstance(costs, DensitySetCosts):
            rows += list(costs.ratios())
        return np.array(rows)

    def metrics(self, figures: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
        """float64[n] each: what ``info`` says of mappings with these figures.

        These are latency_cycles, energy_pj, edp, utilization, lower_bound, ratio, and gap where a proven bound is
        stored; over a set of densities, the ratio at each of them instead of lower_bound.
        """
        metrics = dict(zip(self.names[1:], figures[1:], strict=True))
        is_plain = len(self.names) == len(FIGURES)
        if is_plain:
            metrics["lower_bound"] = np.full(figures.shape[1], self.bound)
        if self.proven_bound is not None:
            values = metrics[_FIGURE_OF[self.task.metric]] if is_plain else metrics["ratio"]
            metrics["gap"] = values / self.proven_bound - 1.0
        return metrics

    def evaluate(self, batch: MappingBatch) -> dict[str, NDArray[np.float64]]:
        """Prices mappings; float64[n] each: ``reward`` and the :meth:`metrics`."""
        figures = self.figures(batch)
        return {"reward": figures[0], **self.metrics(figures)}
