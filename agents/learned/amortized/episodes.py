"""Episodes of the amortized policy: many unfinished mappings of many tasks, built side by side."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mapgym.agents.learned.amortized import episodes_kernels as kernels
from mapgym.agents.learned.amortized.model import Policy, one_thread
from mapgym.agents.search.dataflow.templates import dim_roles, tensor_roles
from mapgym.cost import OBJECTIVES
from mapgym.mapping import MappingBatch
from mapgym.mapspace import MapSpace
from mapgym.mapspace.construction import packed_kernels as packed
from mapgym.mapspace.construction.decision_kernels import choices_size
from mapgym.mapspace.construction.packed_kernels import ORDER, SIDE_X, SIDE_Y, TILE
from mapgym.mapspace.projection import mesh_sides
from mapgym.spec.actions import ACCESSES

ROLES = "GNCMPQRS"
"""Roles of dims in the order in which the policy knows them, see :mod:`mapgym.agents.search.dataflow.templates`."""

_VISITED = "RSCMGPQN"
_OPERANDS = "WIO"
_SLIDING = "PQRS"


class PolicyTask:
    """One task with everything that its episodes need.

    Attributes:
        space, objective: the task; the objective is edp, energy or latency.
        construction: the decision process.
        table: the ``task`` of the construction, with the decisions that the policy takes.
        roles, operands, depends, static, metrics: the task as ``episodes_kernels.Tables``
            have it.
        initial_state: int32[...].
        widest: no decision has more legal choices.
    """

    def __init__(self, space: MapSpace, objective: str) -> None:
        """Builds the tables; raises SpecificationError if the space is empty."""
        workload = space.workload
        self.space, self.objective = space, objective
        self.construction = space.construction
        self.table = packed.select_groups(self.construction.task, lambda kind, level: _counts(space, kind, level))
        self.roles = np.array([ROLES.index(role) for role in dim_roles(workload)])
        operands = tensor_roles(workload)
        self.operands = np.array([_OPERANDS.index(operands[tensor.name]) for tensor in workload.tensors])
        self.depends = np.array([[dim in tensor.dims for dim in workload.dims] for tensor in workload.tensors])
        self.static, self.metrics = _static(space, objective), _metrics(space)
        self.widest = int(choices_size(self.table))
        # The reduction first, then channels, then positions; tried in no other order.
        active = [d for d, bound in enumerate(workload.bounds) if bound > 1]
        active.sort(key=lambda d: _VISITED.index(ROLES[self.roles[d]]))
        self.initial_state = self.construction.initial_state.copy()
        visited = np.tile(active, len(space.accelerator.levels))
        packed.write_block(self.table, self.initial_state, packed.VISITED, visited)


def _counts(space: MapSpace, kind: int, level: int) -> bool:
    """Whether decisions change costs by more than the policy can tell.

    Nothing depends on the order of the loops of the innermost level unless MACs exchange words; that of parallel loops
    changes the cost of a random mapping by 0.2 % where it counts most.
    """
    accelerator = space.accelerator
    innermost = accelerator.peer_links and accelerator.fanout_x[0] * accelerator.fanout_y[0] > 1
    return kind <= TILE or (kind == ORDER and (level > 0 or innermost))


def _static(space: MapSpace, objective: str) -> NDArray[np.float64]:
    """float64[STATIC]: what is the same in all decisions of a task."""
    workload, accelerator = space.workload, space.accelerator
    bounds, steps = np.zeros(len(ROLES)), np.zeros(len(_SLIDING))
    words, densities = np.zeros(len(_OPERANDS)), np.ones(len(_OPERANDS))
    operands, roles = tensor_roles(workload), dict(zip(workload.dims, dim_roles(workload), strict=True))
    for dim, bound in zip(workload.dims, workload.bounds, strict=True):
        bounds[ROLES.index(roles[dim])] += math.log2(bound) / kernels.SCALE
    for tensor in workload.tensors:
        operand = _OPERANDS.index(operands[tensor.name])
        words[operand] += math.log2(workload.tensor_size(tensor.name)) / kernels.SCALE
        densities[operand] *= tensor.density
        for rank in tensor.ranks:
            for dim, coefficient in rank:
                if len(rank) > 1 and roles[dim] in _SLIDING:
                    steps[_SLIDING.index(roles[dim])] = math.log2(coefficient) / kernels.SCALE
    flags = [accelerator.peer_links, "bypass" in space.axes, accelerator.is_sparse]
    sizes = [math.log2(workload.macs) / kernels.SCALE, math.log2(accelerator.mac.instances) / kernels.SCALE]
    static = np.concatenate(
        [
            [float(objective == name) for name in OBJECTIVES],
            np.array(flags, np.float64),
            sizes,
            [len(accelerator.levels) / 4],
            bounds,
            steps,
            words,
            densities,
        ]
    )
    assert len(static) <= kernels.STATIC
    return np.concatenate([static, np.zeros(kernels.STATIC - len(static))])


def _metrics(space: MapSpace) -> NDArray[np.float64]:
    """float64[levels, LEVEL_METRICS]: capacity, energies per word, fan-outs, bandwidth, energy of the network."""
    accelerator = space.accelerator
    # A multiply-accumulate can cost nothing; then a picojoule is the unit.
    unit = accelerator.mac.energy_pj or 1.0
    metrics = []
    for s, (level, energies) in enumerate(zip(accelerator.levels, accelerator.action_energies, strict=True)):
        limits = (
            level.read_bandwidth_words_per_cycle,
            level.write_bandwidth_words_per_cycle,
            level.shared_bandwidth_words_per_cycle,
        )
        bandwidth = min((limit for limit in limits if limit), default=2.0**16)
        metrics.append(
            [
                math.log2(level.usable_words or 2**32),
                *(math.log2(max(energies[action] / level.block_size_words / unit, 2.0**-8)) for action in ACCESSES),
                math.log2(accelerator.fanout_x[s]),
                math.log2(accelerator.fanout_y[s]),
                math.log2(bandwidth),
                math.log2(max((level.hop_energy_pj + level.router_energy_pj) / unit, 2.0**-8)),
            ]
        )
    return np.array(metrics) / kernels.SCALE


@dataclass
class Decisions:
    """What a network learns from: decisions, their legal choices, and which was made.

    Attributes:
        episode: int64[n], of each decision.
        decisions: float32[n, STATE_FEATURES].
        options: float32[m, CHOICE_FEATURES], the legal choices of all decisions, in their order.
        counts: int64[n], how many of them each decision has.
        picked: int64[n], position in options of the one that was made.
    """

    episode: NDArray[np.int64]
    decisions: NDArray[np.float32]
    options: NDArray[np.float32]
    counts: NDArray[np.int64]
    picked: NDArray[np.int64]

    @classmethod
    def concatenate(cls, parts: Sequence[Decisions]) -> Decisions:
        """Joins decisions in order."""
        starts = np.cumsum([0, *(len(part.options) for part in parts)])
        return cls(
            np.concatenate([part.episode for part in parts]),
            np.concatenate([part.decisions for part in parts]),
            np.concatenate([part.options for part in parts]),
            np.concatenate([part.counts for part in parts]),
            np.concatenate([part.picked + start for part, start in zip(parts, starts, strict=False)]),
        )


@dataclass
class Episodes:
    """Finished episodes.

    Attributes:
        tasks: the tasks.
        task_of: int64[n], task of each episode.
        states: int32[n, ...].
        finished: bool[n]; one that is not has come to a dead end, which only inexact constraints have.
        record: the decisions of all of them, step by step, if they were asked for.
    """

    tasks: Sequence[PolicyTask]
    task_of: NDArray[np.int64]
    states: NDArray[np.int32]
    finished: NDArray[np.bool_]
    record: list[Decisions] = field(default_factory=list)

    def mappings(self, k: int) -> tuple[NDArray[np.int64], MappingBatch]:
        """The finished episodes of task k, and their mappings."""
        rows = np.flatnonzero((self.task_of == k) & self.finished)
        return rows, self.tasks[k].construction.export(self.states, rows)


class _Rollout:
    """Episodes that go on side by side: what :func:`roll_out` and :func:`retrace` share."""

    def __init__(self, tasks: Sequence[PolicyTask], task_of: NDArray[np.int64], *, record: bool) -> None:
        n = len(task_of)
        tables, ways = [task.table for task in tasks], [task.construction.ways for task in tasks]
        starts = np.array([np.cumsum([0, *map(len, tables)]), np.cumsum([0, *map(len, ways)])])
        padded = [_stack(tasks, name) for name in ("roles", "operands", "depends", "static", "metrics")]
        self.tables: tuple[Any, ...] = np.concatenate(tables), np.concatenate(ways), starts, *padded
        states = np.zeros((n, max(len(task.initial_state) for task in tasks)), np.int32)
        for k, task in enumerate(tasks):
            states[task_of == k, : len(task.initial_state)] = task.initial_state
        self.episodes = Episodes(tasks, task_of, states, np.zeros(n, np.bool_))
        self._rows, self._made = np.arange(n), np.full(n, -1, np.int64)
        self._outcomes, self._record = np.zeros(n, np.int8), record
        most = n * max(task.widest for task in tasks)
        self.offers = kernels.Offers(
            np.empty((n, kernels.STATE_FEATURES), np.float32),
            np.empty((most, kernels.CHOICE_FEATURES), np.float32),
            np.empty(most, np.int64),
            np.empty(n + 1, np.int64),
        )
        self.offered: tuple[Any, ...] = tuple(self.offers)
        self.picked = np.empty(n, np.int64)
        self._running = n

    def advance(self) -> bool:
        """Makes the choices and describes the decisions that follow; whether there are any."""
        running, episodes = self._running, self.episodes
        rows, made = self._rows[:running], self._made[:running]
        self._running = kernels.step(
            self.tables, episodes.task_of, episodes.states, rows, made, self._outcomes, self.offered
        )
        episodes.finished[:] = self._outcomes == kernels.FINISHED
        return self._running > 0

    def present(self) -> Decisions:
        """The decisions to be made now, with picked still to be filled in."""
        running, offers = self._running, self.offers
        return Decisions(
            self._rows[:running],
            offers.decisions[:running],
            offers.options[: offers.first[running]],
            np.diff(offers.first[: running + 1]),
            self.picked[:running],
        )

    def make(self, present: Decisions) -> None:
        """Remembers which choices were picked."""
        self._made[: self._running] = self.offers.choices[present.picked]
        if self._record:
            self.episodes.record.append(Decisions(*(getattr(present, entry.name).copy() for entry in fields(present))))


def roll_out(
    policy: Policy,
    tasks: Sequence[PolicyTask],
    task_of: NDArray[np.int64],
    seed: int,
    temperature: NDArray[np.float64],
    uniform: NDArray[np.float64],
    *,
    record: bool = False,
) -> Episodes:
    """Lets a policy build mappings.

    Args:
        policy: scores the legal choices.
        tasks: the tasks.
        task_of: int64[n], which of them each episode is about.
        seed: of the draws, below 2**64.
        temperature: float64[n], of the softmax of each episode; 0 takes the best choice.
        uniform: float64[n], probability that a choice of the episode is uniform among the legal ones.
        record: whether to keep the decisions.
    """
    rollout, generator = _Rollout(tasks, task_of, record=record), np.array([seed], np.uint64)
    with one_thread():
        while rollout.advance():
            now = rollout.present()
            logits = policy.score(now.decisions, now.options, now.counts)
            first = rollout.offers.first
            kernels.draw(logits, first, temperature[now.episode], uniform[now.episode], generator, now.picked)
            rollout.make(now)
    return rollout.episodes


def retrace(tasks: Sequence[PolicyTask], batches: Sequence[MappingBatch]) -> Episodes:
    """The episodes that lead to given mappings, with their decisions.

    Of an order only the innermost loop is retraced; the others follow by the rule.

    Args:
        tasks: the tasks.
        batches: mappings of each, in canonical form and in its space.
    """
    task_of = np.repeat(np.arange(len(tasks)), [len(batch) for batch in batches])
    rollout = _Rollout(tasks, task_of, record=True)
    wanted = rollout.episodes.states.copy()
    for k, (task, batch) in enumerate(zip(tasks, batches, strict=True)):
        wanted[task_of == k, : len(task.initial_state)] = _complete_states(task, batch)
    while rollout.advance():
        now = rollout.present()
        states, offered = rollout.episodes.states, rollout.offered
        kernels.follow(rollout.tables, task_of, states, wanted, now.episode, offered, now.picked)
        assert (now.picked >= 0).all()
        rollout.make(now)
    return rollout.episodes


def _complete_states(task: PolicyTask, batch: MappingBatch) -> NDArray[np.int32]:
    """int32[n, ...]: what decides the choices of mappings, where a state has it."""
    states = np.tile(task.initial_state, (len(batch), 1))
    is_loop = np.take_along_axis(batch.temporal, batch.order.astype(np.intp), axis=2) > 1
    innermost = np.take_along_axis(batch.order, is_loop.argmax(axis=2)[..., None], axis=2)
    sides = np.where(mesh_sides(batch), SIDE_Y, SIDE_X)
    packed.write_block(task.table, states, packed.TEMPORAL, batch.temporal)
    packed.write_block(task.table, states, packed.SPATIAL, batch.spatial)
    packed.write_block(task.table, states, packed.SIDE, sides)
    packed.write_block(task.table, states, packed.ORDER_POSITION, innermost == np.arange(len(batch.dims)))
    packed.write_block(task.table, states, packed.KEPT, batch.keep)
    return states


def _stack(tasks: Sequence[PolicyTask], name: str) -> NDArray[Any]:
    """An array of each task, one row for each, filled up with zeros to the size of the largest."""
    arrays = [getattr(task, name) for task in tasks]
    stacked = np.zeros((len(arrays), *np.max([array.shape for array in arrays], axis=0)), arrays[0].dtype)
    for row, array in zip(stacked, arrays, strict=True):
        row[tuple(map(slice, array.shape))] = array
    return stacked
