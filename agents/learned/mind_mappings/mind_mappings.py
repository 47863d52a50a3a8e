"""Mind Mappings: gradient descent through a learned model of the costs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray

from mapgym.agents.base import AskTellAgent, parameter, register
from mapgym.agents.learned.mind_mappings.encoding import Encoding
from mapgym.agents.learned.mind_mappings.model import LOSSES, load_surrogate, shipped_rules
from mapgym.cost import OBJECTIVES, CostBatch
from mapgym.errors import SpecificationError
from mapgym.errors.text import quoted
from mapgym.mapping import MappingBatch
from mapgym.mapspace import MapSpace

if TYPE_CHECKING:
    from mapgym.evaluation.evaluator import Evaluator


@register
@dataclass(kw_only=True)
class MindMappings(AskTellAgent):
    """Mind Mappings (Hegde et al., ASPLOS 2021): a network is trained to predict costs, then followed downhill.

    A surrogate, trained once for one accelerator (``mapgym train mind-mappings``), predicts the costs of a mapping from
    a vector of real numbers. The search moves that vector along the negative gradient of the prediction, takes the
    nearest legal mapping, and now and then jumps to a random mapping: always when that is predicted to be better, with
    a falling probability otherwise. No true cost guides it. Each mapping that it proposes is priced, and is a sample;
    questions to the surrogate are none.

    On an accelerator that the surrogate was not trained for, it is used all the same, so that one can see how far it
    carries: it knows nothing of other capacities, of fan-out at other levels or of other energies. Costs that other
    rules count are other costs, and a surrogate that learned them is refused.

    What differs from the released code, and why:

    - Factors enter as log2, and costs are predicted as logarithms over their lower bounds: costs are products of
      factors. There, both are raw. Problems include matrix products, strides and depthwise convolutions.
    - The prediction of the objective is descended. There, the sum of all outputs is (``loss=outputs``).
    - The gradient is taken along the products of the factors: it moves them between levels instead of shrinking the
      problem. There, the step leaves the products, and only the projection comes back to them.
    - The projection is ``space.fit``, the nearest legal mapping by one deterministic rule. There, it is the nearest
      tuple of factors for each dim, then farther ones until the array is large enough; capacities are not looked at.
    - A step is tried at several lengths, and goes where the prediction is best among mappings not priced before. There,
      the step is doubled until it leads to another mapping, whatever that is predicted to cost.
    - Several trajectories descend side by side, so that the network is used efficiently.
    - What is injected is the best predicted of a few random mappings. There, it is any.
    - Injections are accepted by the rule of the paper. The released code has the rule and accepts all.
    """

    name = "mind-mappings"
    summary = "gradient descent through a surrogate trained for one accelerator"
    requires: ClassVar[tuple[str, ...]] = ("torch", "safetensors")
    extra = "rl"
    objectives: ClassVar[tuple[str, ...]] = OBJECTIVES

    model: str = parameter("accel_a", "shipped surrogate, or the folder or file of a trained one")
    trajectories: int = parameter(32, "descents side by side (Mind Mappings: 1)", low=1, high=4096)
    loss: str = parameter(
        "objective", "what is descended: the predicted objective, or the sum of all outputs", choices=LOSSES
    )
    learning_rate: float = parameter(0.1, "the shortest step (Mind Mappings: 1)", low=1e-6, high=1e6)
    lengths: int = parameter(12, "step lengths that are tried, each twice the one before (ours)", low=1, high=60)
    clamp: bool = parameter(True, "whether a step begins at the projected mapping (Mind Mappings: no)")
    draws: int = parameter(
        32, "random mappings of which the best predicted is injected (Mind Mappings: 1)", low=1, high=1024
    )
    interval: int = parameter(
        10, "steps from one injection of random mappings to the next (Mind Mappings: 10)", low=1, high=10**9
    )
    temperature: float = parameter(
        50.0, "of accepting injections, in units of the lower bound (Mind Mappings: 50)", low=0, high=1e300
    )
    cooling: float = parameter(0.75, "of the temperature, every 50 injections (Mind Mappings: 0.75)", low=0, high=1)

    def warm_up(self, space: MapSpace) -> None:
        """Imports the libraries, loads the surrogate and the compiled projection."""
        self.start(space, np.random.default_rng(0), "edp")
        self._gradient_step(self._encoding.encode(space.sample(self._rng, 1)))

    def search(self, evaluator: Evaluator, seed: int, initial: MappingBatch | None = None) -> None:
        """Searches, with one thread of torch: more do not help such small batches."""
        import torch

        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            super().search(evaluator, seed, initial)
        finally:
            torch.set_num_threads(threads)

    @classmethod
    def trained_under(cls) -> str:
        """The counting rules of the shipped surrogates."""
        return shipped_rules()

    def start(self, space: MapSpace, rng: np.random.Generator, objective: str) -> None:
        """Loads the surrogate; raises SpecificationError where it does not apply."""
        self._space, self._rng, self._objective = space, rng, objective
        self._surrogate = load_surrogate(self.model)
        levels = len(space.accelerator.levels)
        if self._surrogate.levels != levels:
            raise SpecificationError(
                f"agent 'mind-mappings': the model {quoted(self.model)} is for accelerators of "
                f"{self._surrogate.levels} levels, but {quoted(space.accelerator.name)} has {levels}; train one with "
                f"'mapgym train mind-mappings --accelerator {space.accelerator.name} -o DIR' and search with model=DIR"
            )
        self._encoding = Encoding(space.workload, levels)
        if (trained := self._surrogate.rules) != (rules := space.accelerator.rules):
            raise SpecificationError(
                f"agent 'mind-mappings': the model {quoted(self.model)} predicts costs under {trained}, and this task "
                f"counts as {rules}; train one with 'mapgym train mind-mappings --accelerator {space.accelerator.name} "
                f"--rules {rules} -o DIR' and search with model=DIR, or give --rules {trained}"
            )
        self._visible = self._surrogate.norm.input_scale > 0
        self._vectors = np.empty((0, self._encoding.width), np.float32)
        self._given: MappingBatch | None = None
        self._lengths = (self.learning_rate * 2.0 ** np.arange(self.lengths)).astype(np.float32)
        self._steps = self._injections = 0
        self._seen: set[bytes] = set()

    def ask(self, n: int) -> MappingBatch:
        """The mappings that the next step of every trajectory leads to."""
        self._steps += 1
        if self._steps == 1:
            batch = self._random(self.trajectories)
            if self._given is not None:
                batch = MappingBatch.concatenate([self._given, batch[len(self._given) :]])
            self._vectors = self._encoding.encode(batch)
        elif self._steps % self.interval == 0:
            batch = self._injection()
        else:
            batch = self._descent()
        self._seen.update(self._keys(batch))
        return batch

    def tell(self, batch: MappingBatch, costs: CostBatch) -> None:
        """Begins at the best mappings of a warm start; costs are not looked at otherwise."""
        if self._steps == 0:
            best = np.argsort(costs.objective(self._objective), kind="stable")[: self.trajectories]
            self._given = batch[best]

    def _injection(self) -> MappingBatch:
        """Random mappings; trajectories go on from those that are accepted."""
        batch = self._random(self.trajectories)
        vectors = self._encoding.encode(batch)
        old, new = (np.exp(self._predict(x).astype(np.float64)) for x in (self._vectors, vectors))
        temperature = self.temperature * self.cooling ** (self._injections // 50)
        with np.errstate(over="ignore", divide="ignore"):
            # A temperature of 0 accepts what is better.
            chance = np.where(new < old, 1.0, 1.0 / (1.0 + np.exp((new - old) / max(temperature, 1e-300))))
        accepted = self._rng.random(len(chance)) < chance
        self._vectors[accepted] = vectors[accepted]
        self._injections += self.trajectories
        return batch

    def _descent(self) -> MappingBatch:
        """Steps downhill: of the lengths that lead to new mappings, the one with the best prediction."""
        n, lengths = self.trajectories, len(self._lengths)
        wished = self._vectors[:, None] + self._lengths[:, None] * self._gradient_step(self._vectors)[:, None]
        wished = wished.reshape(n * lengths, -1)
        batch, legal = self._space.project(self._encoding.decode(wished))
        vectors = self._encoding.encode(batch)
        new = legal & [key not in self._seen for key in self._keys(batch)]
        predicted = np.where(new, self._predict(vectors), np.inf).reshape(n, lengths)
        chosen = np.arange(n) * lengths + predicted.argmin(axis=1)
        result = batch[chosen]
        self._vectors = vectors[chosen] if self.clamp else wished[chosen]
        stuck = np.flatnonzero(~new[chosen])
        if len(stuck):
            fresh = self._random(len(stuck))
            result[stuck] = fresh
            self._vectors[stuck] = self._encoding.encode(fresh)
        return result

    def _random(self, n: int) -> MappingBatch:
        """Random mappings, each the most promising of a few."""
        batch = self._space.sample(self._rng, n * self.draws)
        if self.draws == 1:
            return batch
        predicted = self._predict(self._encoding.encode(batch)).reshape(n, self.draws)
        return batch[np.arange(n) * self.draws + predicted.argmin(axis=1)]

    def _gradient_step(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """Where to go from vectors, for a rate of 1."""
        steps = self._surrogate.descent(vectors, self._objective, self.loss)
        self._encoding.hold_products(steps, self._visible)
        return steps

    def _predict(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        return self._surrogate.objective(self._surrogate.predict(vectors), self._objective)

    def _keys(self, batch: MappingBatch) -> list[bytes]:
        """One text for each mapping, the same for the same mapping."""
        arrays = [array.reshape(len(batch), -1) for array in self._space.canonical(batch).arrays()]
        rows = np.ascontiguousarray(np.concatenate(arrays, axis=1, dtype=np.int32))
        return rows.view(f"V{rows.shape[1] * 4}").ravel().tolist()
