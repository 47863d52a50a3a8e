"""Mappings that the amortized policy proposes for one task, none of them twice."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mapgym.agents.learned.amortized.episodes import PolicyTask, roll_out
from mapgym.agents.learned.amortized.model import DEFAULT_MODEL, Policy, load_policy
from mapgym.evaluation.sparsity_aware import plain_objective
from mapgym.mapping import MappingBatch
from mapgym.mapspace import MapSpace

_HOTTER, _HOTTEST = 1.5, 12.0
_FEWEST, _MOST = 64, 1024
# After the first proposals, one of so many makes a tenth of its decisions at random: where the policy is sure and wrong
# (a bound that is prime), nothing else leads away from it.
_SURE, _CYCLE, _UNIFORM = 16, 4, 0.1
_BUSY = 0.9
"""Proposals that use this share of the most MACs that any proposal uses come first."""


class Proposals:
    """What the policy proposes for one task, in an order that the generator decides.

    One proposal makes the choice of the highest score everywhere; the others draw from the softmax of the scores.
    Unless only energy counts, those that keep the array busy come first: the policy decides on parallelism early and
    cannot take it back, and how many MACs a mapping uses is known without its cost. Once most of what is drawn is
    known, it is drawn hotter; when even that is known, random mappings follow.
    """

    def __init__(self, space: MapSpace, objective: str, policy: Policy) -> None:
        """Builds the tables; raises SpecificationError if the space is empty."""
        self._space, self._policy = space, policy
        objective = plain_objective(objective)
        self._task = PolicyTask(space, objective)
        self._busy_first = objective != "energy"
        self._seen: set[bytes] = set()
        self._temperature = 1.0

    def draw(self, rng: np.random.Generator, n: int) -> MappingBatch:
        """The next n proposals, all in the space."""
        parts, missing = [self._space.sample(rng, 0)], n
        while missing and self._temperature < _HOTTEST:
            batch = self._roll_out(rng, min(max(missing, _FEWEST), _MOST))
            new = self._new(batch, missing)
            if len(new) < min(missing, len(batch)) / 2 or not len(batch):
                self._temperature *= _HOTTER
            parts.append(batch[new])
            missing -= len(new)
        if missing:
            parts.append(self._space.sample(rng, missing))
        return MappingBatch.concatenate(parts)

    def _roll_out(self, rng: np.random.Generator, n: int) -> MappingBatch:
        temperatures, uniform = np.full(n, self._temperature), np.zeros(n)
        places = len(self._seen) + np.arange(n)
        uniform[(places >= _SURE) & (places % _CYCLE == 0)] = _UNIFORM
        if not self._seen:
            temperatures[0] = 0.0
        of_one_task = np.zeros(n, np.int64)
        seed = int(rng.integers(2**63))
        batch = roll_out(self._policy, [self._task], of_one_task, seed, temperatures, uniform).mappings(0)[1]
        if not self._space.construction_is_exact:
            # Constraints that no single decision can foresee are looked at here.
            batch = batch[self._space.contains(batch)]
        return batch[_busy_first(batch)] if self._busy_first else batch

    def _new(self, batch: MappingBatch, most: int) -> NDArray[np.intp]:
        """The first of the mappings that have not been proposed before; they now have."""
        if not len(batch):
            return np.empty(0, np.intp)
        arrays = [array.reshape(len(batch), -1) for array in batch.arrays()]
        rows = np.ascontiguousarray(np.concatenate(arrays, axis=1, dtype=np.int32))
        new: list[int] = []
        for i, key in enumerate(rows.view(f"V{rows.shape[1] * 4}").ravel().tolist()):
            if len(new) < most and key not in self._seen:
                self._seen.add(key)
                new.append(i)
        return np.array(new, np.intp)


def _busy_first(batch: MappingBatch) -> NDArray[np.intp]:
    """The mappings that use most MACs, then the others, both in the order in which they are."""
    used = batch.used_macs()
    return np.argsort(used < _BUSY * used.max(initial=0), kind="stable")


def propose(
    space: MapSpace, objective: str, rng: np.random.Generator, n: int, model: str = DEFAULT_MODEL
) -> MappingBatch:
    """Mappings that the policy proposes for a task, such as a population to begin a search with.

    Args:
        space: the map space.
        objective: edp, energy or latency, or a ``SparsityAware``, for which the policy knows one density only.
        rng: source of randomness.
        n: how many.
        model: shipped policy, or the folder or file of a trained one.

    Raises:
        SpecificationError: the space is empty, or there is no such policy.
    """
    return Proposals(space, objective, load_policy(model)).draw(rng, n)
