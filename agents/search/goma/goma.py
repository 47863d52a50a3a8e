"""GOMA: the least energy of a matrix product on three levels, as a mixed-integer program."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mapgym.agents.base import Agent, parameter, register
from mapgym.agents.search.goma.product import read_product, rooms
from mapgym.agents.search.goma.program import Program, Solution
from mapgym.agents.search.tiny_task import tiny_task
from mapgym.cost import OBJECTIVES
from mapgym.mapping import MappingBatch
from mapgym.mapspace import MapSpace

if TYPE_CHECKING:
    from mapgym.evaluation.evaluator import Evaluator


@register
@dataclass(kw_only=True)
class Goma(Agent):
    """Solves one mixed-integer program whose optimum is the mapping of least energy, and prices it.

    After Yang et al., "GOMA: Geometrically Optimal Mapping via Analytical Modeling for Spatial Accelerators"
    (arXiv:2603.07962), re-implemented from its summary and a transcription of its model: matrix products on three
    levels; for each dim a chain of tiles that divide each other; for each boundary between levels a walking axis, the
    dim whose loop comes innermost, so that the tensor without it stays; a bit for each tensor and level that may
    bypass it; capacities and the size of the array as limits; the energy of all accesses as the objective.

    Everything about a tensor's energy is decided by the one dim that it does not depend on, so that energies of
    enumerated choices, a binary each, add up: nothing is approximated or enumerated outside of the program.
    docs/agents/goma.md has the formulation.

    The solver is HiGHS, which needs no licence. Changed, so that it serves any map space of the kind:

    - Energies as the counting rules of the accelerator have them; GOMA counts first fills of outputs.
    - Arrays of two sides, several MACs to a register level, fixed factors and orders, and bypass where it is searched.
    - A tensor may stay in the registers during the loops of both levels, if the buffer has no other loop.
    - GOMA asks that the array be full. Here that follows from the objective: for EDP and latency there is a program
      for each number of MACs in use that can still win, the largest first.
    - Products of a batch can be worked on side by side, with shares of the levels, where that fills the array.
    - A descent, side by side, gives a first solution; choices that cannot be in a better one are left out.

    The program knows nothing of links between neighbours, limits of bandwidth, leakage, clusters and the energy of
    networks, nor that accesses are rounded up to blocks: its mapping is priced with them all the same. Constraints
    beyond fixed factors and orders are met by :meth:`MapSpace.repair`.

    Nothing is random: every seed gives the same samples.

    Attributes:
        solution: the best mapping of the last search, with what the program proved about its energy; None before,
            and if none was found in time.
    """

    name = "goma"
    summary = "mixed-integer programming of the energy of matrix products on three levels"
    requires = ("scipy",)
    extra = "optimizers"
    objectives = OBJECTIVES
    deterministic = True

    seconds: float = parameter(60.0, "wall time of all programs together", low=0.01)
    gap: float = parameter(1e-7, "a program is done this close to its optimum, as a share", low=0)

    def __post_init__(self) -> None:
        super().__post_init__()
        # No parameter, and so no field.
        self.solution: Solution | None = None

    def warm_up(self, space: MapSpace) -> None:
        """Loads the solver."""
        product = read_product(tiny_task())
        Program(product, rooms(product)[0]).solve(1.0, 0.0)

    def search(self, evaluator: Evaluator, seed: int, initial: MappingBatch | None = None) -> None:
        """Prices what it is given, a first solution, then those of its programs.

        Raises:
            SpecificationError: as every agent, and if the space is no matrix product on three levels.
        """
        self.solution = None
        self.begin(evaluator, seed)
        product = read_product(evaluator.space)
        if initial is not None and len(initial):
            evaluator.evaluate(initial)
        seconds = self.seconds
        if evaluator.budget.seconds is not None:
            seconds = min(seconds, 0.8 * (evaluator.budget.seconds - evaluator.seconds))
        self._end = time.monotonic() + seconds
        single, *others = [Program(product, room) for room in rooms(product)]
        first = single.start()
        if first is not None and evaluator.remaining > 1:
            self._price(evaluator, first)
        # No batch makes energy less: it takes capacities and serves no word twice.
        least = self._solve(evaluator, single)
        if least is not None and evaluator.objective != "energy":
            self._use_more_macs(evaluator, [single, *others], least)
        if evaluator.best_mapping is None and not evaluator.exhausted:
            # Nothing was found in time, or the constraints are beyond the program: any mapping is better than none.
            evaluator.evaluate(evaluator.space.sample(np.random.default_rng(0), 1))

    def _left(self) -> float:
        return self._end - time.monotonic()

    def _use_more_macs(self, evaluator: Evaluator, programs: list[Program], least: Solution) -> None:
        """The least energy at each number of MACs in use, from the largest to where none is left that can win."""
        fast = evaluator.objective == "latency"
        numbers = sorted(
            {
                (used * program.room.lanes * program.room.blocks, -i, used)
                for i, program in enumerate(programs)
                for used in program.products().tolist()
            },
            reverse=True,
        )
        best = 1.0 / least.used_macs if fast else least.energy_pj / least.used_macs
        for total, negative, used in numbers:
            # More MACs than the machine has are no question for a solver.
            if total > evaluator.space.accelerator.mac.instances:
                continue
            limit = (1.0 if fast else least.bound_pj) / total
            if total <= least.used_macs or limit >= best * (1.0 - self.gap):
                return
            if self._left() <= 0 or evaluator.exhausted:
                return
            found = self._solve(evaluator, programs[-negative], used)
            if found is not None:
                best = min(best, (1.0 if fast else found.energy_pj) / total)

    def _solve(self, evaluator: Evaluator, program: Program, used_macs: int | None = None) -> Solution | None:
        """Prices the mapping of least energy that uses so many MACs for each product; any number if left out."""
        found = program.solve(self._left(), self.gap, used_macs)
        if found is not None and not evaluator.exhausted:
            self._price(evaluator, found)
        return found

    def _price(self, evaluator: Evaluator, found: Solution) -> None:
        space, batch = evaluator.space, found.mapping.batch()
        if not space.contains(batch)[0]:
            batch, repaired = space.repair(batch)
            if not repaired[0]:
                return
        values = evaluator.evaluate(batch).objective(evaluator.objective)
        # Of equals the later one, which has been proven.
        if len(values) and values[0] <= evaluator.best_value:
            self.solution = found
