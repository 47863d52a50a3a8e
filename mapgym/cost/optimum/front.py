"""The whole front of energy against latency, every point of it proven.

Without limits of bandwidth the latency of a mapping is its multiply-accumulates over the MACs that it uses, so that a
map space has no more latencies than there are numbers of MACs in use. For each of them, fastest first, the search of
:mod:`mapgym.cost.optimum.solver` finds the least energy; only what is below the energies of all faster mappings counts.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mapgym.cost.model import Cost
from mapgym.cost.optimum.problem import check_supported, is_flat, make_task
from mapgym.cost.optimum.solver import TOLERANCE, Solver, pairs, search_nodes, warm_up
from mapgym.errors import SpecificationError
from mapgym.errors.text import quoted
from mapgym.mapping import Mapping
from mapgym.mapspace import MapSpace

FrontProgress = Callable[[int, int, int], None]
"""Called with the points so far, the latencies that are done, and how many there are."""


@dataclass(frozen=True)
class ProvenPoint:
    """A mapping of the front.

    Attributes:
        mapping: legal, and in the space.
        cost: its cost by the cost model.
        lower_bound: pJ, proven: no mapping of the space that is as fast has less energy.
    """

    mapping: Mapping
    cost: Cost
    lower_bound: float


@dataclass(frozen=True)
class ProvenFront:
    """The front of energy against latency.

    Attributes:
        points: by ascending latency and descending energy.
        certified: whether no mapping of the space beats a point, or lies beside the front, by more than the gap asked
            for; else that holds up to ``proven_cycles``.
        proven_cycles: the largest latency up to which the front is proven; 0 for none.
        seconds: wall time, without compilation.
        interrupted: whether Ctrl-C stopped the search.
    """

    points: tuple[ProvenPoint, ...]
    certified: bool
    proven_cycles: float
    seconds: float
    interrupted: bool = False


def find_front(
    space: MapSpace,
    *,
    seconds: float | None = None,
    gap: float = 1e-6,
    progress: FrontProgress | None = None,
) -> ProvenFront:
    """Finds all mappings that no other beats in energy and latency, and proves it; docs/exact.md has the proof.

    Can be stopped at any time, by ``seconds`` or by Ctrl-C: what is proven by then is returned, fastest first.

    Args:
        space: as for :func:`mapgym.cost.optimum.find_optimum`, without links between neighbours and without limits of
            bandwidth.
        seconds: wall time after which to stop; None for no limit.
        gap: share by which an energy may be above the least one.
        progress: called after each latency.

    Raises:
        SpecificationError: the theory does not cover the space, or no mapping of it is legal.
    """
    machine = space.accelerator
    where = f"the exact front does not cover {quoted(machine.name)}: "
    if not is_flat(machine):
        raise SpecificationError(
            f"{where}it has more than three storage levels, several instances of an outer one or network energy; use "
            "another agent"
        )
    check_supported(space)
    task = make_task(space)
    if machine.peer_links:
        raise SpecificationError(
            f"{where}neighbours pass words to each other; add --no-peer-links, or peer_links: false"
        )
    for level in machine.levels:
        if any(getattr(level, f"{kind}_bandwidth_words_per_cycle") is not None for kind in ("read", "write", "shared")):
            raise SpecificationError(
                f"{where}{quoted(level.name)} has a limited bandwidth, so that latencies depend on the tiles; take the "
                "limit out, or use another agent"
            )
    warm_up()
    started = time.perf_counter()
    search = _FrontSearch(Solver(task, "energy"), gap)
    interrupted = done = False
    try:
        for _ in search.run():
            if progress is not None and search.finished > search.reported:
                search.reported = search.finished
                progress(len(search.points), search.finished, len(search.latencies))
            if seconds is not None and time.perf_counter() - started > seconds:
                break
        else:
            done = True
    except KeyboardInterrupt:
        interrupted = True
    if done and not search.points:
        raise SpecificationError(
            f"no mapping of {quoted(space.workload.name)} on {quoted(machine.name)} is legal; enlarge the capacities "
            "or loosen the constraints"
        )
    proven = search.latencies[search.proven - 1] if search.proven else 0.0
    taken = time.perf_counter() - started
    return ProvenFront(tuple(search.points), done and not search.is_open, proven, taken, interrupted)


class _FrontSearch:
    """One search; see :func:`find_front`."""

    def __init__(self, solver: Solver, gap: float) -> None:
        self._solver, self._gap = solver, gap
        self._lanes, self._spread = pairs(solver.task)
        self._used = self._lanes.prod(axis=1) * self._spread.prod(axis=1)
        self._numbers = np.unique(self._used)[::-1]
        self.latencies = [solver.task.problem.macs / float(used) for used in self._numbers]
        self.points: list[ProvenPoint] = []
        self.finished = self.reported = self.proven = 0
        self.is_open = False

    def run(self) -> Iterator[None]:
        """Goes through all latencies, fastest first; yields now and then."""
        solver = self._solver
        for used in self._numbers:
            before = solver.best
            proven = math.inf
            for bound in self._least_energy(np.flatnonzero(self._used == used)):
                proven = bound
                yield
            if solver.best is not None:
                mapping, cost = solver.best
                bound = min(proven, cost.energy_pj) * (1.0 - TOLERANCE)
                if solver.best is not before:
                    self.points.append(ProvenPoint(mapping, cost, bound))
                self.is_open |= cost.energy_pj > bound * (1.0 + self._gap)
            self.finished += 1
            self.proven += not self.is_open
            yield

    def _least_energy(self, same: NDArray[np.int64]) -> Iterator[float]:
        """Searches mappings of one latency for an energy below that of the best so far; yields the bound so far."""
        solver = self._solver
        solver.floor = math.inf
        if solver.best is not None:
            # By the cost model an energy may be below the formulas by rounding errors, and above them by rounding up.
            solver.value = solver.best[1].energy_pj * (1.0 + TOLERANCE)
        yield from search_nodes(solver, self._lanes[same], self._spread[same], self._gap)
