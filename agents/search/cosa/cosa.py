"""CoSA: a mapping by mixed-integer programming, in one shot."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mapgym.agents.base import Agent, parameter, register
from mapgym.agents.search.cosa.model import Expression, Program, total
from mapgym.agents.search.tiny_task import tiny_task
from mapgym.cost import OBJECTIVES
from mapgym.mapping import Mapping, MappingBatch
from mapgym.mapspace import MapSpace

if TYPE_CHECKING:
    from mapgym.evaluation.evaluator import Evaluator

MAX_KEEP_CHOICES = 256


@register
@dataclass(kw_only=True)
class Cosa(Agent):
    """Solves a mixed-integer program over the logarithms of the factors, and prices the few mappings that come out.

    After Huang et al., "CoSA: Scheduling by Constrained Optimization for Spatial Accelerators" (ISCA 2021), as released
    (commit c4798a7): prime factors are assigned to levels, to time or to space; capacities and fan-outs are limits in
    the log domain; the objective weighs cycles, used buffers and traffic, each a sum of logarithms.

    Changed, so that it serves any accelerator and needs no licence; docs/agents/cosa.md has the formulation:

    - HiGHS instead of Gurobi, so products are linear: the one product left, "this loop costs its stationary tensor
      nothing", is a relaxed AND.
    - Equal primes are counted instead of placed one by one, which leaves no symmetric solutions.
    - Loop orders at every level, by which tensor is stationary there, instead of slots at one level.
    - Buffers are shared: the sizes of the tiles, not their logarithms, add up, by tangents of 2^x. There, each tensor
      has a fixed share of a buffer.
    - Tiles of sliding windows have their true length, instead of a surrogate. What the tangents leave over
      capacity is repaired by :meth:`MapSpace.repair`.
    - Further rounds (``rounds``, 0 for CoSA alone) replace the traffic by the energy of the objective, relative to the
      best mapping so far, and the kept tensors by those that serve that mapping best, where bypass is searched: the
      program itself takes them as given.

    Nothing is random: every seed gives the same few samples. Within ``seconds`` (and nine tenths of a budget in
    seconds), the best solution found counts; whether it is optimal can then depend on the speed of the machine.
    """

    name = "cosa"
    summary = "mixed-integer programming in the log domain, one shot"
    requires = ("scipy",)
    extra = "optimizers"
    objectives = OBJECTIVES
    deterministic = True

    compute: float = parameter(10.0, "weight of the logarithm of the cycles (CoSA: 10)", low=0)
    utilization: float = parameter(0.1, "weight of the logarithms of the tiles, to be large (CoSA: 0.1)", low=0)
    traffic: float = parameter(1.0, "weight of the logarithms of the traffic (CoSA: 1)", low=0)
    rounds: int = parameter(
        6, "further programs at most, that weigh energies around the best mapping so far (ours)", low=0
    )
    seconds: float = parameter(5.0, "wall time of each program", low=0.01)
    gap: float = parameter(
        0.01, "a program is done this close to its optimum, as a share (the first one: a tenth)", low=0
    )

    def warm_up(self, space: MapSpace) -> None:
        """Loads the solver."""
        tiny = tiny_task()
        program = Program(tiny, tiny.entries.keep)
        program.solve(program.compute(), 1.0, 0.0)

    def search(self, evaluator: Evaluator, seed: int, initial: MappingBatch | None = None) -> None:
        """Prices what it is given, then the solution of each program."""
        space = evaluator.space
        self.begin(evaluator, seed)
        if initial is not None and len(initial):
            evaluator.evaluate(initial)
        keep = space.entries.keep | space.entries.keep_free
        tried: set[tuple[bytes, float]] = set()
        ranked: list[NDArray[np.bool_]] = []
        for number in range(1 + self.rounds):
            if evaluator.exhausted:
                return
            before = evaluator.best_value
            program = Program(space, keep)
            seconds = self.seconds
            if evaluator.budget.seconds is not None:
                seconds = min(seconds, 0.9 * (evaluator.budget.seconds - evaluator.seconds))
            # A sum of logarithms is a large number, of which a small share is much.
            gap = self.gap if number else 0.1 * self.gap
            solution = program.solve(self._objective(program, evaluator, number), seconds, gap)
            self._price(evaluator, program, solution)
            if evaluator.exhausted or evaluator.best_mapping is None:
                return
            if evaluator.best_value < before:
                ranked = self._rank_keeps(evaluator, evaluator.best_mapping)
            # The next program differs in what it is built around, or in what is kept.
            untried = [each for each in ranked if (each.tobytes(), evaluator.best_value) not in tried]
            if not untried:
                return
            keep = untried[0]
            tried.add((keep.tobytes(), evaluator.best_value))

    def _objective(self, program: Program, evaluator: Evaluator, number: int) -> Expression:
        cost = evaluator.best_cost
        if number == 0 or cost is None:
            traffic = [words for _, _, words in program.traffic()]
            tiles = [tile for level in program.tiles for tile in level]
            weights = (self.compute, *[self.traffic] * len(traffic), *[-self.utilization] * len(tiles))
            return total(program.compute(), *traffic, *tiles, weights=weights)
        # Near the best mapping, ln(energy) grows as energy over the best energy does. With its own cycles taken off,
        # the objective of the best mapping is about 1, so that the gap is a share of the EDP, too.
        cycles = total(program.compute(), {-1: -math.log2(cost.latency_cycles)}, weights=(math.log(2.0),) * 2)
        if evaluator.objective == "latency":
            return total(cycles, {-1: 1.0})
        shares = program.energy_shares(cost.energy_pj)
        return shares if evaluator.objective == "energy" else total(cycles, shares)

    def _price(self, evaluator: Evaluator, program: Program, solution: NDArray[np.float64] | None) -> None:
        space = evaluator.space
        if solution is not None:
            batch = program.decode(solution).batch()
            if space.contains(batch)[0]:
                evaluator.evaluate(batch)
                return
            batch, repaired = space.repair(batch)
            if repaired[0]:
                evaluator.evaluate(batch)
                return
        if evaluator.best_mapping is None:
            # Nothing was found in time, or the constraints are beyond the program: any mapping is better than none.
            evaluator.evaluate(space.sample(np.random.default_rng(0), 1))

    def _rank_keeps(self, evaluator: Evaluator, mapping: Mapping) -> list[NDArray[np.bool_]]:
        """What a mapping might keep, best first: priced with every choice, or each single change if too many."""
        space = evaluator.space
        free = np.argwhere(space.entries.keep_free)
        if not len(free):
            return [mapping.keep]
        if 2 ** len(free) <= MAX_KEEP_CHOICES:
            choices = np.array(list(product((False, True), repeat=len(free))))
        else:
            choices = mapping.keep[tuple(free.T)] ^ np.eye(len(free) + 1, len(free), dtype=bool)
        batch = MappingBatch.concatenate([mapping.batch()] * len(choices))
        batch.keep[:, free[:, 0], free[:, 1]] = choices
        # Keeping more can exceed a capacity; no sample is spent on that.
        batch = batch[np.flatnonzero(space.contains(batch))]
        costs = evaluator.evaluate(batch)
        return list(batch.keep[np.argsort(costs.objective(evaluator.objective), kind="stable")])
