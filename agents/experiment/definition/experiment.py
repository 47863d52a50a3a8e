"""What an experiment consists of: tasks, agents, seeds and a budget that all of its runs share."""

from __future__ import annotations

import json
from collections.abc import Hashable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from mapgym.agents.base import Agent, make_agent
from mapgym.agents.experiment.definition.warm_start import PREVIOUS_LAYER, WITHIN_EXPERIMENT, WarmStart
from mapgym.agents.tuning import chosen_parameters
from mapgym.errors import SpecificationError, require_name
from mapgym.errors.text import quoted
from mapgym.evaluation.evaluator import Budget, Evaluator
from mapgym.evaluation.sparsity_aware import is_sparsity_aware
from mapgym.evaluation.task import Task
from mapgym.mapspace import MapSpace
from mapgym.spec.accelerator import Accelerator
from mapgym.system.file_names import file_name

MOST_RUNS = 200_000
"""Of an experiment."""


@dataclass(frozen=True)
class AgentEntry:
    """An agent as an experiment uses it.

    Attributes:
        agent: its registered name.
        label: what tables call it, unique within the experiment; the name, and the warm start, when left out.
        parameters: those that differ from what searches use anyway: what tuning has chosen, or the agent's defaults.
        axes: the axes that it searches, among those of the task; all of the task's when None. What it does not search
            keeps the values of the trivial mapping, so that its mappings belong to the task's map space all the same.
        seeds: how many of the experiment's seeds it uses, the first ones; all of them when None. For slow agents.
        warm_start: where its searches begin; None for nowhere in particular.
    """

    agent: str
    label: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict, hash=False)
    axes: tuple[str, ...] | None = None
    seeds: int | None = None
    warm_start: WarmStart | None = None

    def __post_init__(self) -> None:
        if not self.label:
            label = self.agent if self.warm_start is None else f"{self.agent}, {self.warm_start.label}"
            object.__setattr__(self, "label", label)
        require_name(self.label, f"agent {quoted(self.agent)}: label", "small population")

    def warm(self, warm_start: WarmStart) -> AgentEntry:
        """The same with a warm start, and a label that says so; itself if it has one already."""
        if self.warm_start is not None:
            return self
        return replace(self, label=f"{self.label}, {warm_start.label}", warm_start=warm_start)

    def make(self) -> Agent:
        """The agent; raises SpecificationError for an unknown name or a parameter that it does not take."""
        return make_agent(self.agent, **self.parameters)

    def remarks(self, accelerator: Accelerator) -> list[str]:
        """Sentences for the user before searches on an accelerator."""
        warm = "" if self.warm_start is None else self.warm_start.remark(accelerator)
        return [text for text in (self.make().remark(accelerator), warm) if text]

    @property
    def tuning(self) -> str:
        """How its parameters were chosen, in words."""
        given = ["parameters of the experiment"] if self.parameters else []
        chosen = ["chosen by mapgym tune"] if chosen_parameters(self.agent).keys() - self.parameters.keys() else []
        return "; others ".join([*given, *chosen]) or "default parameters"

    def space(self, task: Task) -> MapSpace:
        """The part of a task's map space that it searches."""
        return task.space() if self.axes is None else MapSpace(task.workload, task.accelerator, self.axes)


@dataclass(frozen=True)
class Run:
    """One cell of the matrix: an agent with a seed on a task.

    Attributes:
        task, agent, seed: which.
        before: the tasks of the experiment that come before it and differ in their workloads only, for an agent that
            begins from the results of these; the task itself decides them within an experiment.
    """

    task: Task
    agent: AgentEntry
    seed: int
    before: tuple[Task, ...] = field(default=(), compare=False)

    @property
    def begins_from(self) -> tuple[Run, ...]:
        """The runs whose results it begins from, in their order."""
        first = len(self.before) - 1 if self._warm_source == PREVIOUS_LAYER else 0
        return tuple(
            Run(self.before[i], self.agent, self.seed, self.before[:i]) for i in range(max(first, 0), len(self.before))
        )

    @property
    def chain(self) -> tuple[object, ...] | None:
        """Equal for runs that must be done one after the other, in the order of ``before``; None for all others."""
        if self._warm_source not in WITHIN_EXPERIMENT:
            return None
        machine = self.task.accelerator
        on = (machine.name, machine.peer_links, machine.rules)
        return (self.agent.label, self.seed, *on, self.task.axes, self.task.objective)

    @property
    def _warm_source(self) -> str:
        return "" if self.agent.warm_start is None else self.agent.warm_start.source

    @property
    def name(self) -> str:
        """Such as "paper/resnet_conv4 on accel_b, gamma, seed 0"."""
        return f"{self.task.name}, {self.agent.label}, seed {self.seed}"

    @property
    def file_name(self) -> str:
        """Where its result is kept within the folder of the experiment; differs for different runs."""
        return f"runs/{self.task.file_stem}/{file_name(self.agent.label)}-seed{self.seed}.parquet"

    def config(self, budget: Budget) -> dict[str, Any]:
        """Everything that the result depends on, as plain JSON values; equal for runs that are the same."""
        config = {
            "workload": self.task.workload.to_dict(),
            "accelerator": self.task.accelerator.to_dict(),
            "axes": self.task.axes,
            "objective": self.task.objective,
            "agent": self.agent.agent,
            "label": self.agent.label,
            "parameters": asdict(self.agent.make()),
            "searched_axes": self.task.axes if self.agent.axes is None else self.agent.axes,
            "seed": self.seed,
            "budget": asdict(budget),
        }
        if self.agent.warm_start is not None:
            names = [other.task.workload.name for other in self.begins_from]
            config["warm_start"] = self.agent.warm_start.config(names)
        plain: dict[str, Any] = json.loads(json.dumps(config))
        return plain


@dataclass(frozen=True)
class Experiment:
    """A full matrix of tasks, agents and seeds.

    Attributes:
        tasks: what is searched.
        agents: who searches; an agent may take part several times, under different labels.
        seeds: each agent searches each task once with each of them, unless its entry says that fewer will do.
        budget: of each run.
        description: one line for reports.
        absent: about each agent that was left out because a package is not installed, a sentence.

    Raises:
        SpecificationError: nothing to do, something that is named twice, or an agent that cannot search a task,
            or a task that cannot be searched for its objective.
    """

    tasks: tuple[Task, ...]
    agents: tuple[AgentEntry, ...]
    seeds: tuple[int, ...] = (0, 1, 2)
    budget: Budget = field(default_factory=lambda: Budget(samples=5000))
    description: str = ""
    absent: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_size(len(self.tasks), len(self.agents), len(self.seeds))
        for what, names in (
            ("task", [(task.name, task.identity) for task in self.tasks]),
            ("agent", [(entry.label, entry.label) for entry in self.agents]),
            ("seed", [(str(seed), seed) for seed in self.seeds]),
        ):
            if not names:
                raise SpecificationError(f"the experiment has no {what}; give at least one")
            if (twice := _first_repeated(names)) is not None:
                remedy = "name it once" + (", or give each entry a label of its own" if what == "agent" else "")
                raise SpecificationError(f"the experiment names the {what} {quoted(twice)} twice; {remedy}")
        for entry in self.agents:
            agent = entry.make()
            for task in self.tasks:
                if not set(entry.axes or ()) <= set(task.axes):
                    raise SpecificationError(
                        f"agent {quoted(entry.label)}: its axes {','.join(entry.axes or ())} are not all among those "
                        f"of the task {quoted(task.name)}, {','.join(task.axes)}; leave some out"
                    )
                agent.check_axes(entry.space(task))
                agent.check_objective(task.objective)
        for task in self.tasks:
            if is_sparsity_aware(task.objective):
                # What the evaluator of each run would refuse is better known before the first.
                Evaluator(task.space(), task.objective, self.budget)

    @property
    def runs(self) -> tuple[Run, ...]:
        """All runs, task by task and, within a task, seed by seed, so that agents can be compared early on."""
        return tuple(self._runs())

    def _runs(self) -> Iterator[Run]:
        earlier: dict[tuple[object, ...], tuple[Task, ...]] = {}
        for task in self.tasks:
            for i, seed in enumerate(self.seeds):
                for agent in self.agents:
                    if agent.seeds is None or i < agent.seeds:
                        run = Run(task, agent, seed)
                        if (chain := run.chain) is not None:
                            run = replace(run, before=earlier.get(chain, ()))
                            earlier[chain] = (*run.before, task)
                        yield run


def check_size(tasks: int, agents: int, seeds: int) -> None:
    """Raises SpecificationError if an experiment has more runs than can be kept account of."""
    if (runs := tasks * agents * seeds) > MOST_RUNS:
        raise SpecificationError(
            f"the experiment has {quoted(runs)} runs ({tasks:,} tasks, {agents:,} agents, {quoted(seeds)} seeds); "
            f"give at most {MOST_RUNS:,}, or make several experiments of it"
        )


def _first_repeated(named: Iterable[tuple[str, Hashable]]) -> str | None:
    """The first name of something that equals something before it."""
    seen: set[Hashable] = set()
    for name, thing in named:
        if thing in seen:
            return name
        seen.add(thing)
    return None
