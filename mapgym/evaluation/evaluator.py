"""The one door through which a searcher sees costs: it prices, counts, limits and records."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterable, Mapping as AbcMapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mapgym.cost import OBJECTIVES, Cost, CostBatch, CostModel, LowerBound, lower_bound
from mapgym.errors import SpecificationError, positive_int, require_kind, suggest
from mapgym.errors.text import quoted
from mapgym.evaluation.front import PARETO, ParetoFront
from mapgym.evaluation.sparsity_aware import SPARSITY_AWARE, DensitySet, SparsityAware, is_sparsity_aware
from mapgym.mapping import Mapping, MappingBatch
from mapgym.mapspace import MapSpace
from mapgym.spec import ranges


@dataclass(frozen=True)
class Budget:
    """What a search may spend; it ends when either limit is reached.

    Attributes:
        samples: cost-model calls, as a rule one for each mapping, legal or not; None for no limit.
        seconds: wall time from the start of the search; None for no limit. It is looked at between batches, so a
            search overruns it by at most one batch.
    """

    samples: int | None = None
    seconds: float | None = None

    def __post_init__(self) -> None:
        if self.samples is None and self.seconds is None:
            raise SpecificationError("a budget without a limit never ends; give samples, seconds or both")
        if self.samples is not None:
            positive_int(self.samples, "budget: samples")
        if self.seconds is not None:
            ranges.number(
                self.seconds, "budget: seconds", "a finite number above 0", math.ulp(0.0), ranges.MOST_SECONDS
            )


@dataclass
class Trace:
    """The anytime curve of a search: one point for each improvement of the best value.

    Attributes:
        samples: samples priced up to and including the improvement, strictly ascending.
        seconds: seconds since the start when its batch had been priced, ascending.
        values: the new best value of the objective, strictly descending.
    """

    samples: list[int] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    values: list[float] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.samples)

    def best_at(self, samples: int) -> float:
        """The best value after this many samples; inf before the first legal mapping."""
        return self._before(self.samples, samples)

    def best_at_seconds(self, seconds: float) -> float:
        """The best value after this many seconds; inf before the first legal mapping."""
        return self._before(self.seconds, seconds)

    def samples_to(self, value: float) -> int | None:
        """Samples until the best value was this or lower; None if it never was."""
        return next((count for count, best in zip(self.samples, self.values, strict=True) if best <= value), None)

    def _before(self, positions: Sequence[float], limit: float) -> float:
        reached = int(np.searchsorted(positions, limit, side="right"))
        return self.values[reached - 1] if reached else math.inf

    def to_dict(self) -> dict[str, list[Any]]:
        """A plain, JSON-able form that :meth:`from_dict` reads back."""
        return {"samples": list(self.samples), "seconds": list(self.seconds), "values": list(self.values)}

    @classmethod
    def from_dict(cls, data: AbcMapping[str, Any], where: str = "trace") -> Trace:
        """Reads the plain form; raises SpecificationError when a column is missing or shorter than the others."""
        columns = [data.get(key) for key in ("samples", "seconds", "values")]
        lists = [list(column) for column in columns if isinstance(column, list)]
        if len(lists) < 3 or len({len(column) for column in lists}) > 1:
            raise SpecificationError(f"{where} needs three lists of one length: samples, seconds and values")
        return cls(*lists)


Callback = Callable[["Evaluator"], None]


class Evaluator:
    """Prices mappings for one search, and keeps its books.

    Every priced mapping is one sample, or several (see below), legal or not, new or seen before. The best mapping is
    chosen among those that are legal **and** inside the map space: a searcher that leaves the space (changes an axis
    that is fixed, breaks a constraint) pays for the sample and gains nothing by it.

    The state changes only after a batch has been priced completely. A search that is interrupted (Ctrl-C) leaves an
    evaluator that can be read, and used further, as it was after the last batch.

    The books are kept once: a copy of an evaluator is the evaluator itself, so that copies of an environment (a tree
    search makes many) spend one budget. It cannot be pickled, because a copy elsewhere would count for itself.

    Example:
        >>> from mapgym.spec.catalog import accelerator, workload
        >>> from mapgym.mapspace import MapSpace
        >>> space = MapSpace(workload("paper/resnet_conv4"), accelerator("accel_b"))
        >>> evaluator = Evaluator(space, "edp", Budget(samples=100))
        >>> costs = evaluator.evaluate(space.sample(np.random.default_rng(0), 150))
        >>> len(costs), evaluator.samples, evaluator.exhausted
        (100, 100, True)

    With the objective "pareto" it keeps the front of energy against latency as well. The value is then
    :attr:`mapgym.evaluation.front.ParetoFront.value` (lower is better, at least 1), and the best mapping is the one of
    the front that has the lowest EDP.

    With a :class:`mapgym.evaluation.sparsity_aware.SparsityAware` objective of k densities, a mapping costs k samples,
    one for each density, whether or not it turns out to be illegal at the first. ``remaining`` stays what a searcher
    may still
    ask for: mappings. Costs and bounds are means over the densities, see there.

    Attributes:
        space: the map space that is searched.
        objective: one of ``mapgym.cost.OBJECTIVES``, "pareto", or a ``SparsityAware``; lower is better.
        samples_per_mapping: cost-model calls that price one mapping.
        budget: the limits.
        trace: the anytime curve so far.
        front: the mappings none of which another beats in energy and latency; None unless the objective is "pareto".
        on_improvement: called with the evaluator after each batch in which the best value fell.
        on_batch: called with the evaluator after each batch, after ``on_improvement``.
    """

    def __init__(
        self,
        space: MapSpace,
        objective: str = "edp",
        budget: Budget | None = None,
        *,
        on_improvement: Iterable[Callback] = (),
        on_batch: Iterable[Callback] = (),
    ) -> None:
        """Opens the books.

        Args:
            space: the map space to search. With a ``SparsityAware`` objective that of the highest density, see
                :meth:`mapgym.evaluation.sparsity_aware.SparsityAware.densest`.
            objective: what to minimise; a ``SparsityAware`` may be given as its text.
            budget: the limits; 5,000 samples when left out.
            on_improvement, on_batch: callbacks, see the attributes.

        Raises:
            SpecificationError: unknown objective, an argument of another kind, a ``SparsityAware`` objective for
                hardware that does not use zeros or for a map space of too low a density, or a budget that does not pay
                for one mapping.
        """
        require_kind(space, MapSpace, "space", "MapSpace(workload, accelerator)")
        if budget is not None:
            require_kind(budget, Budget, "budget", "Budget(samples=5000)")
        known = (*OBJECTIVES, PARETO, SPARSITY_AWARE)
        if not is_sparsity_aware(objective) and (not isinstance(objective, str) or objective not in known):
            raise SpecificationError(f"unknown objective {quoted(objective)}; {suggest(str(objective), known)}")
        self.space = space
        self.objective = objective
        self.budget = Budget(samples=5000) if budget is None else budget
        self.samples_per_mapping = 1
        self._model: CostModel | DensitySet
        if is_sparsity_aware(objective):
            self.objective, self._model = self._density_set(SparsityAware.parse(objective))
        else:
            self._model = CostModel(space.workload, space.accelerator)
        self.trace = Trace()
        self.front = ParetoFront(self.lower_bound) if objective == PARETO else None
        self.on_improvement = list(on_improvement)
        self.on_batch = list(on_batch)
        self._samples = 0
        self._best: tuple[Mapping, Cost, float] | None = None
        self._started_at: float | None = None

    def __copy__(self) -> Evaluator:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Evaluator:
        return self

    def __reduce__(self) -> Any:
        raise SpecificationError(
            "an evaluator cannot be pickled, because a copy in another process would spend a budget of its own; make "
            "one there, or leave it out of the environment"
        )

    def _density_set(self, aware: SparsityAware) -> tuple[SparsityAware, DensitySet]:
        space, highest = self.space, aware.densities[0]
        model = DensitySet(space.workload, space.accelerator, aware)
        if (own := space.workload.tensor(aware.tensor).density) < highest:
            raise SpecificationError(
                f"the map space is that of {aware.tensor} with density {own:g}, and has mappings that have no room at "
                f"the density {highest:g} of the objective; give {aware.tensor} the density {highest:g} in the workload"
            )
        self.samples_per_mapping = len(aware.densities)
        if self.budget.samples is not None and self.budget.samples < self.samples_per_mapping:
            raise SpecificationError(
                f"a budget of {self.budget.samples} samples does not pay for one mapping at {self.samples_per_mapping} "
                f"densities; give at least {self.samples_per_mapping}"
            )
        return aware, model

    def start(self) -> None:
        """Starts the clock, once; later calls do nothing. Searches call it first, pricing calls it otherwise.

        The compiled code is loaded before the clock starts, so that the first search of a process is not charged
        for it.
        """
        if self._started_at is None:
            trivial = MappingBatch.trivial(self.space.workload, self.space.accelerator, 1)
            self._model.evaluate(trivial)
            self.space.contains(trivial)
            self._started_at = time.perf_counter()

    def evaluate(self, batch: MappingBatch) -> CostBatch:
        """Prices the first mappings of a batch, as many as the budget still allows.

        Args:
            batch: n mappings of the space's workload onto its accelerator.

        Returns:
            Costs of the first k <= n mappings; k = 0 when the budget is exhausted.
        """
        self.start()
        allowed = 0 if self.exhausted else self.remaining
        if len(batch) > allowed:
            batch = batch[:allowed]
        costs = self._model.evaluate(batch)
        if len(batch) and self.front is not None:
            self._extend_front(self.front, batch, costs)
        elif len(batch):
            values = costs.objective(self.objective)
            records = self._improvements(batch, values)
            # Fancy indexing copies: the caller may overwrite its batch.
            best = (batch[records[-1:]][0], costs[int(records[-1])]) if len(records) else None
            self._record(len(batch), records, values[records], best)
        return costs

    def _extend_front(self, front: ParetoFront, batch: MappingBatch, costs: CostBatch) -> None:
        candidates = front.candidates(costs)
        if len(candidates):
            candidates = candidates[self.space.contains(batch[candidates])]
        self.front, joined = front.extended(batch, costs, candidates)
        values = np.array([value for _, value in joined], np.float64)
        # A mapping can join far off, where the value of the front does not count it.
        lower = _running_minima(np.append(self.best_value, values))[1:]
        records = np.array([i for i, _ in joined], np.intp)[lower]
        self._record(len(batch), records, values[lower], self.front.best_edp if joined else None)

    def _improvements(self, batch: MappingBatch, values: NDArray[np.float64]) -> NDArray[np.intp]:
        """Indices of the mappings inside the space that beat all before them, ascending."""
        better = (values < self.best_value).nonzero()[0]
        if not len(better):
            return better
        records = better[_running_minima(values[better])]
        if np.all(self.space.contains(batch[records])):
            return records
        # A record outside the space hides the ones behind it, so that all candidates must be looked at.
        better = better[self.space.contains(batch[better])]
        return better[_running_minima(values[better])]

    def _record(
        self, count: int, records: NDArray[np.intp], values: NDArray[np.float64], best: tuple[Mapping, Cost] | None
    ) -> None:
        """Books a batch of ``count`` mappings, of which those at ``records`` lowered the best value to ``values``."""
        first, seconds, each = self._samples, self.seconds, self.samples_per_mapping
        if best is not None:
            self._best = (*best, float(values[-1]) if len(values) else self.best_value)
            self.trace.samples += [first + (int(i) + 1) * each for i in records]
            self.trace.seconds += [seconds] * len(records)
            self.trace.values += [float(value) for value in values]
        self._samples = first + count * each
        for callback in [*(self.on_improvement if len(records) else ()), *self.on_batch]:
            callback(self)

    @property
    def samples(self) -> int:
        """Cost-model calls so far."""
        return self._samples

    @property
    def mappings(self) -> int:
        """Mappings priced so far."""
        return self._samples // self.samples_per_mapping

    @property
    def remaining(self) -> int:
        """Mappings that the budget still pays for; ``sys.maxsize`` when only seconds are limited."""
        if self.budget.samples is None:
            return sys.maxsize
        return (self.budget.samples - self._samples) // self.samples_per_mapping

    @property
    def seconds(self) -> float:
        """Seconds since the start; 0 before it."""
        return 0.0 if self._started_at is None else time.perf_counter() - self._started_at

    @property
    def exhausted(self) -> bool:
        """Whether the budget is spent; a search then returns."""
        return self.remaining <= 0 or (self.budget.seconds is not None and self.seconds >= self.budget.seconds)

    @property
    def best_mapping(self) -> Mapping | None:
        """The best legal mapping of the space so far; None before the first."""
        return None if self._best is None else self._best[0]

    @property
    def best_cost(self) -> Cost | None:
        """Cost of the best mapping; None before the first."""
        return None if self._best is None else self._best[1]

    @property
    def best_value(self) -> float:
        """The objective of the best mapping; inf before the first."""
        return math.inf if self._best is None else self._best[2]

    @cached_property
    def lower_bound(self) -> LowerBound:
        """Costs that no legal mapping of the workload can beat."""
        if isinstance(self._model, DensitySet):
            return self._model.lower_bound
        return lower_bound(self.space.workload, self.space.accelerator)

    @property
    def ratio(self) -> float:
        """Best value over its lower bound, at least 1; inf before the first legal mapping."""
        # The value of a front is relative to the lower bounds already.
        return self.best_value / (1.0 if self.front is not None else self.lower_bound.objective(self.objective))


def _running_minima(values: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which values are below all values before them."""
    if not len(values):
        return np.zeros(0, np.bool_)
    before = np.concatenate(([np.inf], np.minimum.accumulate(values)[:-1]))
    return values < before
