"""What is proven about the optimum of a task, and how far a mapping is from it."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from mapgym.agents.labels import OBJECTIVE_NAMES, OBJECTIVE_UNITS, OPTIMAL_GAP, percent, short_gap
from mapgym.cost import lower_bound
from mapgym.evaluation.best_known import best_known, key_of

if TYPE_CHECKING:
    from mapgym.cost.optimum import Optimum
    from mapgym.evaluation.best_known import BestKnown
    from mapgym.mapspace import MapSpace

BEST_KNOWN, SOLVER = "best known", "solver"


@dataclass
class Progress:
    """What the solver has reached so far: it is called by the solver, and read by displays.

    Attributes:
        value: objective of the best mapping so far, infinite before the first.
        gap: how far the value may be above the optimum at most, as a share; infinite before there are both.
        lower_bound: what is proven so far.
    """

    value: float = math.inf
    lower_bound: float = 0.0
    gap: float = math.inf

    def __call__(self, value: float, lower_bound: float, gap: float) -> None:
        """Takes the state of the solver."""
        self.value, self.lower_bound, self.gap = value, lower_bound, gap


@dataclass(frozen=True)
class Certificate:
    """A mapping and a proven lower bound of a task.

    Attributes:
        key: hash of the task, None for one with constraints (see :func:`mapgym.evaluation.best_known.key_of`).
        value: objective of the best mapping that is stored or that the solver found (pJ*cycles, pJ or cycles).
        lower_bound: what no mapping of the map space can beat.
        certified: whether ``value`` is the optimum, to 1e-6 relative.
        source: ``BEST_KNOWN`` or ``SOLVER``.
        mapping: that mapping in the form that ``Mapping.from_dict`` reads.
        nodes: nodes that the solver looked at, None when nothing was solved.
        seconds: wall time of the solver, None when nothing was solved.
    """

    key: str | None
    value: float
    lower_bound: float
    certified: bool
    source: str
    mapping: dict[str, Any]
    nodes: int | None = None
    seconds: float | None = None

    def gap(self, value: float | None = None) -> float:
        """How far a value is above the proven lower bound, as a share of the bound; infinite for a bound of 0.

        Args:
            value: objective of a mapping of the same task; that of the certificate when left out.
        """
        value = self.value if value is None else value
        return value / self.lower_bound - 1.0 if self.lower_bound > 0 else math.inf

    def describe(self, value: float) -> str:
        """Where a value stands, such as "12.3 % above the certified optimum"."""
        gap = self.gap(value)
        if math.isinf(gap):
            return "at an unknown distance from the optimum (nothing is proven yet)"
        if gap < -OPTIMAL_GAP:
            return f"{-gap:.3%} BELOW the proven bound, which is therefore wrong: please report this task"
        if gap <= OPTIMAL_GAP:
            return "the certified optimum"
        if self.certified:
            return f"{percent(gap)} above the certified optimum"
        return f"at most {percent(gap)} above the optimum (proven bound)"

    def short(self, value: float | None) -> str:
        """As :meth:`describe`, for the cell of a table: "12.3 %" or "<= 12.3 %"; "-" without a value."""
        return short_gap(None if value is None else self.gap(value), certified=self.certified)

    def to_dict(self) -> dict[str, Any]:
        """A JSON-able form; ``Certificate(**...)`` reads it back."""
        return asdict(self)


def outcome_text(certificate: Certificate, objective: str) -> str:
    """What is proven, for people, such as "certified optimum: EDP 1.550362e+16 pJ*cycles, solved in 0.1 s"."""
    name, unit = OBJECTIVE_NAMES[objective], OBJECTIVE_UNITS[objective]
    how = "stored" if certificate.seconds is None else f"solved in {certificate.seconds:.3g} s"
    if certificate.certified:
        return f"certified optimum: {name} {certificate.value:.7g} {unit}, {how}"
    bound = f"proven bound: {name} {certificate.lower_bound:.7g} {unit}"
    return f"{bound}, best mapping {certificate.value:.7g} {unit}, gap {percent(certificate.gap())}, {how}"


def known_certificate(space: MapSpace, objective: str) -> Certificate | None:
    """The certificate that is stored for a task (see :mod:`mapgym.evaluation.best_known`), None if there is none."""
    stored = best_known(space, objective)
    return None if stored is None else _of_stored(stored)


def certify(space: MapSpace, objective: str, seconds: float, progress: Progress | None = None) -> Certificate:
    """Proves how good the best mapping of a task is: looks it up, or solves the task.

    Args:
        space: the map space.
        objective: what is minimised.
        seconds: wall time for the solver; a certified optimum that is stored costs none.
        progress: passed to the solver.

    Raises:
        SpecificationError: the task is not among those that the solver can treat.
    """
    from mapgym.cost.optimum import find_optimum

    stored = best_known(space, objective)
    if stored is not None and stored.certified:
        return _of_stored(stored)
    incumbent = None if stored is None else stored.to_mapping(space.workload, space.accelerator)
    optimum = find_optimum(space, objective, seconds=seconds, progress=progress, incumbent=incumbent)
    return with_stored(certificate_of(optimum, space), space, objective)


def certificate_of(optimum: Optimum, space: MapSpace) -> Certificate:
    """What the solver found, as a certificate."""
    simple = float(lower_bound(space.workload, space.accelerator).objective(optimum.objective))
    value = float(optimum.value)
    bound = min(value, max(float(optimum.lower_bound), simple))
    return Certificate(
        key=key_of(space, optimum.objective),
        value=value,
        lower_bound=bound,
        # The solver may have been told to be content with a larger gap.
        certified=value <= bound * (1.0 + OPTIMAL_GAP),
        source=SOLVER,
        mapping=optimum.mapping.to_dict(),
        nodes=int(optimum.nodes),
        seconds=float(optimum.seconds),
    )


def with_stored(found: Certificate, space: MapSpace, objective: str) -> Certificate:
    """The better mapping and the higher bound of what the solver found and of what is stored."""
    stored = best_known(space, objective)
    if stored is None or found.certified:
        return found
    return _of_stored(stored) if stored.certified else _joined(found, _of_stored(stored))


def _of_stored(stored: BestKnown) -> Certificate:
    return Certificate(
        stored.key, stored.value, stored.lower_bound, stored.certified, BEST_KNOWN, mapping=stored.mapping
    )


def _joined(found: Certificate, stored: Certificate) -> Certificate:
    better = min(found, stored, key=lambda entry: entry.value)
    bound = min(better.value, max(found.lower_bound, stored.lower_bound))
    return Certificate(
        key=found.key,
        value=better.value,
        lower_bound=bound,
        certified=better.value <= bound * (1.0 + OPTIMAL_GAP),
        source=SOLVER,
        mapping=better.mapping,
        nodes=found.nodes,
        seconds=found.seconds,
    )
