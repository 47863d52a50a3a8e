"""The tree-structured Parzen estimator over vectors of keys."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray

from mapgym.agents.base import AskTellAgent, parameter, register
from mapgym.cost import CostBatch
from mapgym.mapping import MappingBatch
from mapgym.mapspace import MapSpace
from mapgym.mapspace.keys import KeyEncoding

if TYPE_CHECKING:
    from optuna.samplers import TPESampler


@register
@dataclass(kw_only=True)
class Tpe(AskTellAgent):
    """Bayesian optimisation by a tree-structured Parzen estimator (Bergstra et al. 2011), the sampler of Optuna.

    Mappings are vectors of keys (:mod:`mapgym.mapspace.keys`); every vector is a legal mapping. Of the
    samples seen, the best tenth and the others give one density each; of some candidates drawn from the first, the one
    with the highest quotient is asked for.

    Two things differ from Optuna's ordinary use, both for speed, because a proposal costs time in proportion to the
    samples that the model holds (at 5,000 they would take hours):

    - The model holds the ``window`` best and most recent samples, half of each, instead of all.
    - A model serves for a batch of proposals. The densities are joint ones (Optuna's ``multivariate``), which is also
      several times faster than one model for each key.

    A warm start: the mappings given are samples like all others.
    """

    name = "tpe"
    summary = "tree-structured Parzen estimator of Optuna over vectors of keys"
    requires: ClassVar[tuple[str, ...]] = ("optuna",)
    extra = "optimizers"

    startup: int = parameter(350, "vectors, given or random, before the first model (Optuna: 10)", low=1)
    window: int = parameter(100, "samples that the model holds (Optuna: all)", low=10)
    candidates: int = parameter(24, "candidates for each proposal (Optuna: 24)", low=1)
    batch_size: int = parameter(50, "proposals from one model (Optuna: 1)", low=1)

    def warm_up(self, space: MapSpace) -> None:
        """Imports Optuna, asks it for silence, and loads the compiled code."""
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        encoding = KeyEncoding(space)
        encoding.decode(np.zeros((1, encoding.size)))

    def start(self, space: MapSpace, rng: np.random.Generator, objective: str) -> None:
        """Lays out the keys."""
        import optuna

        self._space, self._rng, self._objective = space, rng, objective
        self._encoding = KeyEncoding(space)
        size = self._encoding.size
        self._distributions: dict[str, optuna.distributions.BaseDistribution] = {
            f"key {k}": optuna.distributions.FloatDistribution(0.0, 1.0) for k in range(size)
        }
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            self._sampler: TPESampler = optuna.samplers.TPESampler(
                multivariate=True,
                n_startup_trials=0,
                n_ei_candidates=self.candidates,
                seed=int(rng.integers(2**31)),
            )
        self._asked: NDArray[np.float64] | None = None
        self._keys, self._values = np.empty((0, size)), np.empty(0)
        self._proposed = 0

    def ask(self, n: int) -> MappingBatch:
        """Random vectors at first, then the model's proposals."""
        if self._proposed < self.startup:
            size = min(self.batch_size, self.startup - self._proposed)
            self._asked = self._rng.random((size, self._encoding.size))
        else:
            self._asked = self._propose()
        self._proposed += len(self._asked)
        return self._encoding.decode(self._asked)

    def tell(self, batch: MappingBatch, costs: CostBatch) -> None:
        """Remembers the samples."""
        values = costs.objective(self._objective)
        if self._asked is None:
            members = np.flatnonzero(self._space.contains(batch))
            keys, values = self._encoding.encode(batch[members]), values[members]
            # The model begins with what is given, so that fewer random vectors are needed.
            self._proposed += len(keys)
        else:
            keys = self._asked[: len(values)]
        # The logarithm changes no order; it keeps the values in a range that any model can take.
        self._keys = np.concatenate([self._keys, keys])
        self._values = np.concatenate([self._values, np.log(np.maximum(values, np.finfo(np.float64).tiny))])
        self._forget()

    def _forget(self) -> None:
        """Keeps half a window of the best and fills it with the most recent samples, in the order they came in."""
        if len(self._values) <= self.window:
            return
        is_kept = np.zeros(len(self._values), np.bool_)
        is_kept[np.argsort(self._values, kind="stable")[: self.window // 2]] = True
        others = np.flatnonzero(~is_kept)
        is_kept[others[len(others) - (self.window - self.window // 2) :]] = True
        self._keys, self._values = self._keys[is_kept], self._values[is_kept]

    def _propose(self) -> NDArray[np.float64]:
        """A batch of vectors from a model of the samples in the window, float64[batch_size, size]."""
        import optuna

        study = optuna.create_study(sampler=self._sampler)
        names = list(self._distributions)
        study.add_trials(
            [
                optuna.trial.create_trial(
                    params=dict(zip(names, row, strict=True)), distributions=self._distributions, value=value
                )
                for row, value in zip(self._keys.tolist(), self._values.tolist(), strict=True)
            ]
        )
        study.ask()
        trial = study.get_trials(states=(optuna.trial.TrialState.RUNNING,))[0]
        proposals = [self._sampler.sample_relative(study, trial, self._distributions) for _ in range(self.batch_size)]
        return np.array([[proposal[name] for name in names] for proposal in proposals])
