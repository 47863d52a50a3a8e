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
from mapgym.errors import SpecificationError
from mapgym.errors.text import quoted
from mapgym.evaluation.best_known import best_known
from mapgym.evaluation.sparsity_aware import DensitySet, DensitySetCosts, SparsityAware

if TYPE_CHECKING:
    from mapgym.cost import CostBatch
    from mapgym.envs.common.task import Task
    from mapgym.evaluation.evaluator import Evaluator
    from mapgym.mapping import MappingBatch
    from mapgym.mapspace import MapSpace

REWARDS = ("terminal", "shaped")
ILLEGAL_REWARD = -30.0
"""Reward of a mapping whose compressed tiles have no room for their metadata, which no mask can foresee: that of a
mapping 1e13 times as costly as the bound."""


class Pricer(Protocol):
    """What prices mappings: a cost model, or an evaluator that may price fewer than asked."""

    def evaluate(self, mapping: MappingBatch, /) -> CostBatch:
        """Costs of the first mappings of a batch, as a rule of all."""


def potential_weights(objective: str) -> tuple[float, float]:
    """Weights of the two parts of the potential: parallelism, capacity."""
    return float(objective != "energy"), float(objective != "latency")


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
    def _pricer(self) -> Pricer:
        """Who prices; made when it is needed, because a model for each of several densities takes a while to make."""
        task = self.task
        if self._evaluator is not None:
            return self._evaluator
        if isinstance(task.objective, SparsityAware):
            return DensitySet(task.workload, task.accelerator, task.objective)
        return cost.CostModel(task.workload, task.accelerator)

    def evaluate(self, batch: MappingBatch) -> dict[str, NDArray[np.float64]]:
        """Prices mappings.

        Returns:
            float64[n] each: ``reward`` and the metrics for ``info`` (latency_cycles, energy_pj, edp, utilization,
            lower_bound, ratio, and gap where a proven bound is stored; over a set of densities, the ratio at each of
            them instead of lower_bound). They are shorter than the batch if the evaluator's budget ended within it.
        """
        costs = self._pricer.evaluate(batch)
        values = costs.objective(self.task.objective)
        ratio = values / self.bound
        metrics = {
            "reward": np.where(costs.legal, -np.log(ratio), ILLEGAL_REWARD),
            "latency_cycles": costs.latency_cycles,
            "energy_pj": costs.energy_pj,
            "edp": costs.edp,
            "utilization": costs.utilization,
            "ratio": ratio,
        }
        objective = self.task.objective
        if isinstance(costs, DensitySetCosts) and isinstance(objective, SparsityAware):
            pairs = zip(objective.densities, costs.ratios(), strict=True)
            metrics |= {f"ratio_at_{density}": row for density, row in pairs}
        else:
            metrics["lower_bound"] = np.full(len(ratio), self.bound)
        if self.proven_bound is not None:
            metrics["gap"] = values / self.proven_bound - 1.0
        return metrics
