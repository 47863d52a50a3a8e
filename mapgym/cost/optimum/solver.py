"""The search for a map space's optimum: best bound first, until bound and best mapping meet."""

from __future__ import annotations

import heapq
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
from numpy.typing import NDArray

from mapgym.cost.bound import lower_bound
from mapgym.cost.model import Cost, CostModel, check_objective
from mapgym.cost.optimum.bandwidth import LeastCycles
from mapgym.cost.optimum.depth.problem import make_task as make_depth_task
from mapgym.cost.optimum.depth.solver import DepthSolver
from mapgym.cost.optimum.lane_kernels import Lanes, make_lanes
from mapgym.cost.optimum.lattice import make_chains, make_lattice
from mapgym.cost.optimum.lattice_kernels import Chains, Lattice
from mapgym.cost.optimum.orders import make_order_scratch, take_records
from mapgym.cost.optimum.orders_kernels import MOST_RECORDS, OrderScratch
from mapgym.cost.optimum.polish import polish
from mapgym.cost.optimum.problem import Task, check_supported, is_flat, make_task
from mapgym.cost.optimum.solution import build_mapping
from mapgym.cost.optimum.solver_kernels import bound_roots, search_node
from mapgym.cost.optimum.work import Work, make_work
from mapgym.errors import SpecificationError
from mapgym.errors.text import quoted
from mapgym.mapping import Mapping, MappingBatch
from mapgym.mapspace import MapSpace
from mapgym.spec.accelerator import Accelerator
from mapgym.spec.levels import Mac, StorageLevel
from mapgym.spec.workload import matmul

Progress = Callable[[float, float, float], None]

# Sums of a dozen terms: an equal mapping must not look better than the incumbent by rounding.
_ROUNDING = 1e-12
# Formulas and cost model add up the same terms in another order; bounds are lowered by this share.
TOLERANCE = 1e-9
_SECONDS_BETWEEN_REPORTS = 0.5


@dataclass(frozen=True)
class Optimum:
    """The best mapping found, and how far from the best it can be at most.

    Attributes:
        mapping: legal, and in the space.
        cost: its cost by the cost model.
        objective: what was minimised.
        value: the objective of ``cost``.
        lower_bound: proven: no mapping of the space has a lower objective.
        certified: whether ``gap`` is within what was asked for.
        nodes: choices of spatial factors and kept tensors that were looked into.
        seconds: wall time, without compilation.
        interrupted: whether Ctrl-C stopped the search.
    """

    mapping: Mapping
    cost: Cost
    objective: str
    value: float
    lower_bound: float
    certified: bool
    nodes: int
    seconds: float
    interrupted: bool = False

    @property
    def gap(self) -> float:
        """How much above the lower bound the value is, as a share: 0.01 for one percent."""
        return self.value / self.lower_bound - 1.0 if self.lower_bound > 0 else math.inf


class _Branch:
    """One choice of what is kept: its tables, and its nodes by ascending bound."""

    def __init__(self, keep: NDArray[np.bool_], lattice: Lattice) -> None:
        self.keep, self.lattice = keep, lattice
        self.lanes = self.spread = np.empty((0, 0), np.int64)
        self.bounds = self.cycles = np.empty(0)
        self.next = 0

    def sort(self, keys: NDArray[np.float64]) -> None:
        """Orders the nodes by their keys."""
        order = np.argsort(keys, kind="stable")
        self.lanes, self.spread = self.lanes[order], self.spread[order]
        self.bounds, self.cycles = self.bounds[order], self.cycles[order]
        self.next = 0


class Solver:
    """State of one search; see :func:`find_optimum`."""

    def __init__(self, task: Task, objective: str) -> None:
        self.task, self.objective = task, objective
        problem = task.problem
        self.power = 0.0 if objective == "energy" else 1.0
        self.model = CostModel(task.space.workload, task.space.accelerator)
        self.chains: Chains = make_chains(problem)
        self.orders: OrderScratch = make_order_scratch(len(problem.bounds), len(problem.words))
        self.work: Work = make_work(problem)
        self.lanes: Lanes = make_lanes(len(problem.bounds), len(problem.words))
        self.least_cycles = LeastCycles(task, self.orders, self.work)
        self.value = math.inf  # by the formulas: energy in pJ, times cycles where they count
        self.floor = math.inf  # least formula that was not accepted, or accepted with slack
        self.best: tuple[Mapping, Cost] | None = None
        self.lattices: dict[tuple[bool, ...], Lattice] = {}
        self.branches: list[_Branch] = []

    @property
    def nodes(self) -> int:
        """Choices of spatial factors and kept tensors that were looked into."""
        return int(self.work.nodes[0])

    def lattice(self, kept: NDArray[np.bool_]) -> Lattice:
        """Tables for what the buffer keeps, made when first asked for."""
        key = tuple(kept.tolist())
        if key not in self.lattices:
            self.lattices[key] = make_lattice(self.task.problem, kept, self.orders)
        return self.lattices[key]

    def branch(self, keep: NDArray[np.bool_], lanes: NDArray[np.int64], spread: NDArray[np.int64]) -> _Branch:
        """Bounds all pairs of spatial factors for one choice of what is kept."""
        problem = self.task.problem
        branch = _Branch(keep, self.lattice(keep[1]))
        bounds = np.empty(len(lanes))
        bound_roots(problem, keep, branch.lattice, lanes, spread, self.work, bounds)
        possible = np.flatnonzero(np.isfinite(bounds))
        branch.lanes, branch.spread = lanes[possible], spread[possible]
        branch.bounds = bounds[possible]
        branch.cycles = self.least_cycles.of(keep, branch.lanes, branch.spread)
        branch.sort(branch.bounds * branch.cycles**self.power)
        return branch

    def visit(self, branch: _Branch, i: int, exhaustive: bool) -> float:
        """Searches one node; returns a lower bound of what is not searched below it, an energy in pJ."""
        factor = branch.cycles[i] ** self.power
        limit = self.value / factor * (1.0 - _ROUNDING) if math.isfinite(self.value) else math.inf
        self.work.lanes[0], self.work.spread[0] = branch.lanes[i], branch.spread[i]
        proven, found = search_node(
            self.task.problem,
            branch.keep,
            branch.lattice,
            self.chains,
            self.work,
            self.lanes,
            self.orders,
            limit,
            exhaustive,
        )
        if self.orders.recorded[0] >= 0:
            self._price_records(branch)
            return float(proven)
        self.floor = min(self.floor, self.work.accepted[0] * factor)
        if found < limit:
            self.value = found * factor
            work = self.work
            self.offer(self._mapping(branch, work.best_lanes, work.best_extent, work.best_loops))
        return float(proven)

    def _mapping(
        self, branch: _Branch, lanes: NDArray[np.int64], extent: NDArray[np.int64], loops: NDArray[np.int64]
    ) -> Mapping:
        return build_mapping(self.task, branch.keep, lanes, extent, loops, self.orders, branch.lattice)

    def offer(self, mapping: Mapping) -> None:
        """Prices a mapping and keeps it if it is the best by the cost model."""
        if self.task.problem.peer_links:
            mapping = polish(self.task.space, self.model, mapping, self.objective)
        cost = self.model.evaluate(mapping)
        if self.best is None or cost.objective(self.objective) < self.best[1].objective(self.objective):
            self.best = mapping, cost
            if self.task.problem.peer_links and self.objective != "latency":
                self.value = min(self.value, cost.objective(self.objective) * (1.0 + TOLERANCE))

    def close(self, gap: float) -> Iterator[float]:
        """Prices exactly all solutions that the formulas leave below the best mapping; yields the bound so far.

        The formulas round nothing up to blocks, and allow for rounding errors; so the last bit of a gap is theirs.
        """
        assert self.best is not None
        formula, self.floor = min(self.value, self.floor), math.inf
        self.orders.recorded[0] = 0
        self.value = self.best[1].objective(self.objective) * (1.0 - gap / 4)
        self.sort()
        for bound in self.sweep(exhaustive=True):
            if self.orders.recorded[0] > MOST_RECORDS:
                yield formula
                return
            yield max(formula, min(bound, self.value))
        yield self.value

    def _price_records(self, branch: _Branch) -> None:
        """Prices the solutions recorded below a node."""
        assert self.best is not None
        if not 0 < self.orders.recorded[0] <= MOST_RECORDS:
            return
        records = take_records(self.orders)
        mappings = [self._mapping(branch, self.work.lanes[0], extent, loops) for extent, loops in records]
        batch = MappingBatch.concatenate([mapping.batch() for mapping in mappings])
        values = self.model.evaluate(batch).objective(self.objective)
        best = int(np.argmin(values))
        former = self.best[1].objective(self.objective)
        if values[best] < former:
            self.value *= float(values[best]) / former
            self.offer(mappings[best])

    def sort(self) -> None:
        """Orders the nodes of all branches by their bounds."""
        for branch in self.branches:
            branch.sort(branch.bounds * branch.cycles**self.power)

    def sweep(self, exhaustive: bool) -> Iterator[float]:
        """Visits nodes, best bound first; yields the least bound of what is left, and returns when it is no better.

        A sweep that is not exhaustive raises the bounds of the nodes that it visits.
        """
        branches = self.branches
        heap = [(b.bounds[0] * b.cycles[0] ** self.power, k) for k, b in enumerate(branches) if len(b.bounds)]
        heapq.heapify(heap)
        raised = math.inf
        while heap:
            bound, k = heapq.heappop(heap)
            if bound >= self.value:
                break
            branch = branches[k]
            i = branch.next
            factor = branch.cycles[i] ** self.power
            proven = self.visit(branch, i, exhaustive)
            if not exhaustive:
                branch.bounds[i] = max(branch.bounds[i], proven)
                raised = min(raised, branch.bounds[i] * factor)
            branch.next = i + 1
            if branch.next < len(branch.bounds):
                heapq.heappush(heap, (branch.bounds[i + 1] * branch.cycles[i + 1] ** self.power, k))
            yield min(raised, heap[0][0] if heap else math.inf, self.value, self.floor)


def find_optimum(
    space: MapSpace,
    objective: str = "edp",
    *,
    seconds: float | None = None,
    gap: float = 1e-6,
    progress: Progress | None = None,
    incumbent: Mapping | None = None,
) -> Optimum:
    """Finds the best mapping of a space and proves how good it is; docs/exact.md has the proof.

    Can be stopped at any time, by ``seconds`` or by Ctrl-C: the best mapping so far and a valid bound are returned.

    Args:
        space: workloads such as convolutions and matrix products, any number of storage levels. With peer links, on two
            or three levels, the bound is proven as well, but mostly leaves a gap.
        objective: one of ``mapgym.cost.OBJECTIVES``.
        seconds: wall time after which to stop; None for no limit. At least one mapping is found whatever the limit.
        gap: stop when the value is above the bound by this share, at most.
        progress: called now and then with the best value (inf at first), the lower bound and the gap.
        incumbent: a mapping of the space to start from.

    Raises:
        SpecificationError: the theory does not cover the space, or the space is empty.
    """
    check_objective(objective)
    check_supported(space)
    if not is_flat(space.accelerator):
        _warm_up_depth()
        started = time.perf_counter()
        deep = DepthSolver(make_depth_task(space), objective)
        return _minimise(deep, deep.run(gap), seconds, gap, progress, incumbent, started)
    warm_up()
    started = time.perf_counter()
    solver = Solver(make_task(space), objective)
    steps = _fastest(solver) if objective == "latency" else _cheapest(solver, gap, seconds)
    return _minimise(solver, steps, seconds, gap, progress, incumbent, started)


def _minimise(
    solver: Solver | DepthSolver,
    steps: Iterator[float],
    seconds: float | None,
    gap: float,
    progress: Progress | None,
    incumbent: Mapping | None,
    started: float,
) -> Optimum:
    """Goes through the steps of a search, which yield the bound so far, until it is good enough or time is up."""
    space, objective = solver.task.space, solver.objective
    if incumbent is not None:
        if not space.contains(incumbent):
            raise SpecificationError("the incumbent is not a mapping of the space; give one that it contains")
        solver.offer(incumbent)
        if solver.best is not None and objective != "latency":
            # By the cost model an energy may be below the formulas by rounding errors.
            solver.value = solver.best[1].objective(objective) * (1.0 + TOLERANCE)
    bound, interrupted = 0.0, False
    reported = started
    try:
        for bound in steps:
            now = time.perf_counter()
            if progress is not None and now - reported > _SECONDS_BETWEEN_REPORTS:
                reported = now
                progress(solver.value, bound, solver.value / bound - 1.0 if bound > 0 else math.inf)
            late = seconds is not None and now - started > seconds
            if late and solver.best is None:
                _guess(solver)
            if solver.best is not None and (late or solver.best[1].objective(objective) <= bound * (1.0 + gap / 2)):
                break
    except KeyboardInterrupt:
        interrupted = True
        if solver.best is None:
            raise
    return _conclude(solver, bound, gap, time.perf_counter() - started, interrupted)


@cache
def warm_up() -> None:
    """Compiles the kernels, or loads them, so that limits of time are kept."""
    workload = matmul(M=2, K=2, N=2)
    for links in (False, True):
        level = StorageLevel("Buffer", capacity_words=64, mesh_x=2, access_energy_pj=1.0)
        memory = StorageLevel("Memory", access_energy_pj=2.0)
        hardware = Accelerator("warm-up", (level, memory), Mac(mesh_x=2), peer_links=links)
        space = MapSpace(workload, hardware, ("tile", "order", "parallelism"))
        solver = Solver(make_task(space), "edp")
        for _ in search_nodes(solver, *pairs(solver.task), 0.0):
            pass


@cache
def _warm_up_depth() -> None:
    """As :func:`warm_up`, for deep hierarchies."""
    level = StorageLevel("Buffer", capacity_words=64, access_energy_pj=1.0, energy_per_hop_pj=1.0)
    memory = StorageLevel("Memory", access_energy_pj=2.0)
    registers = StorageLevel("Registers", capacity_words=8, mesh_x=4)
    hardware = Accelerator("warm-up", (registers, level, memory), Mac(mesh_x=4), peer_links=False)
    space = MapSpace(matmul(M=2, K=2, N=2), hardware, ("tile", "order", "parallelism"))
    for _ in DepthSolver(make_depth_task(space), "edp").run(0.0):
        pass


def _guess(solver: Solver | DepthSolver) -> None:
    """Offers the best of some random mappings, where there are any."""
    space = solver.task.space
    try:
        batch = space.sample(np.random.default_rng(0), 64)
    except SpecificationError:
        return
    values = solver.model.evaluate(batch).objective(solver.objective)
    solver.offer(batch[int(np.argmin(values))])


def _start_without_links(solver: Solver, seconds: float | None) -> None:
    """Offers the optimum without links, which is a mapping that links only make better."""
    space = solver.task.space
    unlinked = MapSpace(
        space.workload, replace(space.accelerator, peer_links=False), space.axes, space.constraints, space.base
    )
    found = find_optimum(unlinked, solver.objective, seconds=None if seconds is None else seconds / 4)
    mapping = space.canonical(found.mapping.batch())[0]
    if space.contains(mapping):
        solver.offer(mapping)
    if found.interrupted:
        raise KeyboardInterrupt


def pairs(task: Task) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """All pairs of spatial factors of the two levels, int64[n, D] each, that may fit the bounds and use enough MACs."""
    lanes, spread = task.lanes, task.blocks
    found_lanes, found_spread = [], []
    for lane in lanes:
        fits = (task.problem.bounds % (spread * lane) == 0).all(axis=1)
        fits &= spread.prod(axis=1) * lane.prod() >= task.space.entries.min_used_macs
        found_spread.append(spread[fits])
        found_lanes.append(np.broadcast_to(lane, found_spread[-1].shape))
    return np.ascontiguousarray(np.concatenate(found_lanes)), np.ascontiguousarray(np.concatenate(found_spread))


def _cheapest(solver: Solver, gap: float, seconds: float | None = None) -> Iterator[float]:
    """Steps of the search for least energy, or energy times cycles; yields the bound so far."""
    if solver.task.problem.peer_links:
        _start_without_links(solver, seconds)
    yield from search_nodes(solver, *pairs(solver.task), gap)


def search_nodes(solver: Solver, lanes: NDArray[np.int64], spread: NDArray[np.int64], gap: float) -> Iterator[float]:
    """Steps of the same search among some pairs of spatial factors, with all choices of what is kept."""
    solver.branches = []
    for keep in solver.task.keeps:
        solver.branches.append(solver.branch(keep, lanes, spread))
        yield 0.0
    yield from solver.sweep(exhaustive=False)
    solver.sort()
    yield from solver.sweep(exhaustive=True)
    formula = min(solver.value, solver.floor)
    yield formula
    if solver.task.problem.peer_links or solver.best is None:
        return
    if solver.best[1].objective(solver.objective) > formula * (1.0 + gap / 2):
        yield from solver.close(gap)


def _fastest(solver: Solver) -> Iterator[float]:
    """Steps of the search for least cycles: the most parallel factors for which any tile fits."""
    solver.power = 0.0
    if solver.least_cycles.is_limited:
        yield from _fastest_within_limits(solver)
        return
    lanes, spread = pairs(solver.task)
    used = lanes.prod(axis=1) * spread.prod(axis=1)
    for parallel in np.unique(used)[::-1]:
        same = np.flatnonzero(used == parallel)
        cycles = solver.task.problem.macs / float(parallel)
        for keep in solver.task.keeps:
            branch = solver.branch(keep, lanes[same], spread[same])
            for i in range(len(branch.bounds)):
                solver.visit(branch, i, exhaustive=False)
                yield cycles
                if math.isfinite(solver.value):
                    return


def _fastest_within_limits(solver: Solver) -> Iterator[float]:
    """The same where bandwidths are limited: by least cycles, until what is left is no faster than the best mapping.

    Below each choice of spatial factors the mapping of least energy is priced, which need not be the fastest there.
    """
    lanes, spread = pairs(solver.task)
    for keep in solver.task.keeps:
        branch = solver.branch(keep, lanes, spread)
        branch.sort(branch.cycles)
        solver.branches.append(branch)
        yield 0.0
    branches = solver.branches
    heap = [(branch.cycles[0], k) for k, branch in enumerate(branches) if len(branch.cycles)]
    heapq.heapify(heap)
    least = math.inf  # of the choices that were looked into
    while heap:
        cycles, k = heapq.heappop(heap)
        if solver.best is not None and cycles >= solver.best[1].latency_cycles:
            break
        branch = branches[k]
        solver.value = math.inf
        solver.visit(branch, branch.next, exhaustive=False)
        if math.isfinite(solver.value):
            least = min(least, cycles)
        yield min(least, cycles)
        branch.next += 1
        if branch.next < len(branch.cycles):
            heapq.heappush(heap, (branch.cycles[branch.next], k))
    if solver.best is not None:
        yield min(least, float(solver.best[1].latency_cycles))


def _conclude(solver: Solver | DepthSolver, bound: float, gap: float, seconds: float, interrupted: bool) -> Optimum:
    if solver.best is None:
        space = solver.task.space
        raise SpecificationError(
            f"no mapping of {quoted(space.workload.name)} on {quoted(space.accelerator.name)} is legal; "
            "enlarge the capacities or loosen the constraints"
        )
    space, (mapping, cost) = solver.task.space, solver.best
    if bound == 0.0 and solver.task.problem.mac_energy > 0.0:
        # Stopped before the first bound.
        bound = float(lower_bound(space.workload, space.accelerator).objective(solver.objective))
    value = float(cost.objective(solver.objective))
    lower = min(float(bound), value)
    if solver.objective != "latency":
        lower *= 1.0 - TOLERANCE
    certified = value <= lower * (1.0 + gap)
    return Optimum(mapping, cost, solver.objective, value, lower, certified, solver.nodes, seconds, interrupted)
