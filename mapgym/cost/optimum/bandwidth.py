"""What limits of bandwidth say of the cycles of a choice of spatial factors, before any tile is chosen.

A level that moves w words takes at least w / b cycles at b words a cycle. The least number of words that it moves is
found as the least energy is: with an energy of 1 pJ for each word that the limit counts, and none for anything else.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mapgym.cost.optimum.lattice import make_lattice
from mapgym.cost.optimum.lattice_kernels import Lattice
from mapgym.cost.optimum.orders_kernels import OrderScratch
from mapgym.cost.optimum.problem import BUFFER, MEMORY, REGISTERS, Problem, Task
from mapgym.cost.optimum.solver_kernels import bound_roots
from mapgym.cost.optimum.work import Work

_ROUNDING = 1e-9
"""The share by which sums of words may be off."""

_KINDS = {"read": (1, 0), "write": (0, 1), "shared": (1, 1)}
"""Whether reads, and fills and updates, count towards a limit."""


class Limit(NamedTuple):
    """One limit of one level.

    Attributes:
        problem: the task, in which an energy is a number of words that count.
        place: which level it is.
        words_per_cycle: of one instance.
    """

    problem: Problem
    place: int
    words_per_cycle: float


def make_limits(task: Task) -> list[Limit]:
    """The limits of all levels; none if no bandwidth is limited."""
    problem, accelerator, workload = task.problem, task.space.accelerator, task.space.workload
    outputs = np.array([tensor.is_output for tensor in workload.tensors], np.float64)
    elided = outputs if accelerator.counting.first_fills_elided else 0.0 * outputs
    limits = []
    for s, level in enumerate(accelerator.levels):
        place = MEMORY if s == len(accelerator.levels) - 1 else (REGISTERS, BUFFER)[s]
        scales = dict(level.bandwidth_scale) if accelerator.counting.leakage else {}
        scale = np.array([scales.get(tensor.name, 1.0) for tensor in workload.tensors])
        for kind, (counts_reads, counts_writes) in _KINDS.items():
            most = getattr(level, f"{kind}_bandwidth_words_per_cycle")
            if most is None:
                continue
            read, fill, update = np.zeros((3, *problem.read.shape))
            read[place] = counts_reads * scale
            update[place] = counts_writes * scale * outputs
            if place != MEMORY:
                fill[place] = counts_writes * scale
            counted = problem._replace(
                read=read,
                fill=fill,
                update=update,
                first_read=read * outputs,
                first_fill=fill * elided,
                mac_energy=0.0,
                leak=np.zeros(2),
                clusters=np.inf,
            )
            limits.append(Limit(counted, place, most))
    return limits


class LeastCycles:
    """Least cycles of pairs of spatial factors at the bandwidths of all levels."""

    def __init__(self, task: Task, orders: OrderScratch, work: Work) -> None:
        self._macs, self._orders, self._work = task.problem.macs, orders, work
        self._limits = make_limits(task)
        self._lattices: dict[tuple[int, tuple[bool, ...]], Lattice] = {}

    @property
    def is_limited(self) -> bool:
        """Whether any bandwidth is limited."""
        return bool(self._limits)

    def of(self, keep: NDArray[np.bool_], lanes: NDArray[np.int64], spread: NDArray[np.int64]) -> NDArray[np.float64]:
        """Whole cycles, float64[n], that no mapping with these factors can go below.

        Args:
            keep: bool[2, T] what is kept.
            lanes, spread: int64[n, D], spatial factors below the register level and below the buffer.
        """
        used = spread.prod(axis=1)
        cycles = self._macs / (lanes.prod(axis=1) * used)
        words = np.empty(len(lanes))
        for number, limit in enumerate(self._limits):
            lattice = self._lattice(number, keep[1])
            bound_roots(limit.problem, keep, lattice, lanes, spread, self._work, words)
            each = words / used if limit.place == REGISTERS else words
            needed = np.ceil(each * ((1.0 - _ROUNDING) / limit.words_per_cycle))
            cycles = np.maximum(cycles, np.where(np.isfinite(needed), needed, 0.0))
        return cycles

    def _lattice(self, number: int, kept: NDArray[np.bool_]) -> Lattice:
        key = number, tuple(kept.tolist())
        if key not in self._lattices:
            self._lattices[key] = make_lattice(self._limits[number].problem, kept, self._orders)
        return self._lattices[key]
