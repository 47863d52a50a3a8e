"""How good a policy is on layers that it was not trained on: best of 1, 16 and 256 over a reference."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from mapgym.agents.learned.amortized.data import AXES
from mapgym.agents.learned.amortized.episodes import PolicyTask, roll_out
from mapgym.agents.learned.amortized.model import Policy
from mapgym.agents.search.evolution.evolution import Evolution
from mapgym.cost import CostModel
from mapgym.evaluation.best_known import best_known
from mapgym.evaluation.evaluator import Budget, Evaluator
from mapgym.mapspace import MapSpace
from mapgym.spec import catalog
from mapgym.spec.random_accelerators import RandomAccelerators
from mapgym.spec.random_layers import RandomLayers
from mapgym.spec.rules import DEFAULT_RULES
from mapgym.spec.splits import TRAINING, VALIDATION, load_split

SIZES = (1, 16, 256)
_RANDOM_LAYERS = 30
_SEED = 20_000_003
_REFERENCE_SAMPLES = 4000


class Validation:
    """The tasks of validation: EDP with every tensor kept.

    Layers of the validation network on the accelerators of training, over their best known mappings, and on the
    accelerators of validation; random layers on random accelerators. Where no best mapping is known, the reference is
    what ``evolution`` finds with 4,000 samples.

    Attributes:
        selected_by: the score by which a policy is chosen: the mean, on a log scale, of the best of 16 and of 256.
    """

    selected_by = "selection"

    def __init__(self, rules: str = DEFAULT_RULES) -> None:
        """Prepares the tasks and their references, under some counting rules; takes a few seconds."""
        rng = np.random.default_rng(_SEED)
        spaces = [
            MapSpace(layer, replace(catalog.accelerator(name), peer_links=False, rules=rules), AXES)
            for layer in load_split(VALIDATION).layers()
            for name in (*load_split(TRAINING).accelerators, *load_split(VALIDATION).accelerators)
        ]
        layers, accelerators = RandomLayers(), RandomAccelerators(rules=rules)
        while len(spaces) < len(load_split(VALIDATION).layers()) * 3 + _RANDOM_LAYERS:
            space = MapSpace(layers.draw(rng), accelerators.draw(rng), AXES)
            if space.log10_size() > 3:
                spaces.append(space)
        self._tasks = [PolicyTask(space, "edp") for space in spaces]
        self._references = [_reference(space) for space in spaces]

    def scores(self, policy: Policy) -> dict[str, float]:
        """Geometric means over the tasks of the best of 1, 16 and 256 over the reference, and what is selected by."""
        ratios = np.array([self._logs(policy, k) for k in range(len(self._tasks))])
        means = dict(zip((f"best of {size}" for size in SIZES), ratios.mean(axis=0), strict=True))
        means[self.selected_by] = (means["best of 16"] + means["best of 256"]) / 2
        return {name: round(math.exp(value), 4) for name, value in means.items()}

    def _logs(self, policy: Policy, k: int) -> NDArray[np.float64]:
        task, n = self._tasks[k], max(SIZES)
        episodes = roll_out(policy, [task], np.zeros(n, np.int64), k, np.ones(n), np.zeros(n))
        costs = CostModel(task.space.workload, task.space.accelerator).evaluate(episodes.mappings(0)[1])
        return best_of_logs(costs.edp, self._references[k], SIZES)


def validation_mappings(times: int) -> int:
    """Mappings that are priced, at most, to validate a policy so many times, the references included.

    Stored optima are free; those of random layers, and on accelerators that are only validated on, count as if they
    were searched.
    """
    layers, known = len(load_split(VALIDATION).layers()), len(load_split(TRAINING).accelerators)
    searched = layers * len(load_split(VALIDATION).accelerators) + _RANDOM_LAYERS
    return searched * _REFERENCE_SAMPLES + times * (searched + layers * known) * max(SIZES)


def best_of_logs(values: NDArray[np.float64], reference: float, sizes: Sequence[int]) -> NDArray[np.float64]:
    """float64[sizes]: mean of ln(best of so many / reference) over the disjoint groups that values fall into."""
    logs = np.log(values / reference)
    return np.array(
        [logs[: len(logs) // size * size].reshape(-1, size).min(axis=1).mean() for size in sizes], np.float64
    )


def _reference(space: MapSpace) -> float:
    entry = best_known(space, "edp")
    if entry is not None:
        return entry.value
    evaluator = Evaluator(space, "edp", Budget(samples=_REFERENCE_SAMPLES))
    Evolution().search(evaluator, 0)
    return evaluator.best_value
