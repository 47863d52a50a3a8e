"""What the user of ``mapgym search`` asks for, and the search that is made of it."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import RenderableType
from rich.progress_bar import ProgressBar

from mapgym.agents.base import DEFAULT_AGENT, Agent, Prover, load_compiled_code, make_agent
from mapgym.agents.certificate import Progress
from mapgym.agents.commands import console, parsing
from mapgym.agents.experiment.definition.densities import task_workload
from mapgym.agents.interruption import Interruption
from mapgym.agents.labels import objective_name
from mapgym.errors import SpecificationError
from mapgym.errors.text import quoted
from mapgym.evaluation.evaluator import Budget, Evaluator
from mapgym.mapspace import MapSpace
from mapgym.spec import catalog

if TYPE_CHECKING:
    from mapgym.agents.learned.sb3.policy import StoredPolicy
    from mapgym.warmstart import Start

DEFAULT_SAMPLES = 5000


@dataclass(frozen=True)
class SearchRequest:
    """What the user asks for.

    Attributes:
        workload, accelerator: as they were named.
        axes, objective, densities: what is searched, and the fixed densities of tensors.
        peer_links: whether neighbours pass words to each other.
        rules: the counting rules, None for those of the accelerator.
        constraints: a file of them.
        agent: a name, None for the default or the one of the policy.
        parameters: of the agent, as they were typed.
        policy: the folder of a trained one.
        warm_start: where to begin.
        samples, seconds: the budget, as far as it was given.
        seed: of everything random.
    """

    workload: str
    accelerator: str
    axes: tuple[str, ...]
    objective: str
    densities: Mapping[str, object]
    peer_links: bool
    rules: str | None
    constraints: Path | None
    agent: str | None
    parameters: Mapping[str, str]
    policy: Path | None
    warm_start: str | None
    samples: int | None
    seconds: float | None
    seed: int

    @property
    def budget(self) -> Budget:
        """What the search may spend."""
        return Budget(DEFAULT_SAMPLES if self.samples is None and self.seconds is None else self.samples, self.seconds)

    def space(self) -> MapSpace:
        """What is searched."""
        workload = task_workload(catalog.workload(self.workload), self.objective, self.densities)
        accelerator = parsing.load_accelerator(self.accelerator, peer_links=self.peer_links, rules=self.rules)
        file = parsing.load_constraints(self.constraints, self.accelerator)
        if file is None:
            return MapSpace(workload, accelerator, self.axes)
        found = file.for_task(workload, accelerator)
        console.notify_ignored(found.ignored)
        return MapSpace(workload, found.accelerator, self.axes, constraints=found.constraints)


@dataclass(frozen=True)
class Search:
    """A search that can be run once.

    Attributes:
        agent: who searches.
        evaluator: holds what was found.
        start: what a warm start begins with, None without one.
        seed: of everything random.
        proof: how far the agent's proof is, if it makes one.
    """

    agent: Agent
    evaluator: Evaluator
    start: Start | None
    seed: int
    proof: Progress

    def run(self) -> bool:
        """Searches, with a display of the progress; returns whether Ctrl-C ended it."""
        initial = None if self.start is None or not self.start.sources else self.start.mappings
        # What users write may take no warm start.
        search = self.agent.search if initial is None else partial(self.agent.search, initial=initial)
        with contextlib.suppress(KeyboardInterrupt), Interruption() as interruption:
            load_compiled_code(self.evaluator.space)
            with console.live_display(console.err(), self._render, keep=False):
                search(self.evaluator, self.seed)
        return interruption.happened

    def _render(self) -> RenderableType:
        evaluator = self.evaluator
        line = console.PrintableTable.grid(padding=(0, 2))
        if self.proof.lower_bound > 0:
            line.add_row(console.solver_text(self.proof, evaluator.objective), f"{evaluator.seconds:.1f} s")
            return line
        what = "front" if evaluator.front else objective_name(evaluator.objective)
        line.add_row(
            ProgressBar(total=1.0, completed=console.fraction_done(evaluator), width=10),
            console.progress_text(evaluator),
            f"{what} {console.format_value(evaluator.best_value)}",
            f"{console.format_ratio(evaluator.ratio)} x bound",
        )
        return line


def make_search(request: SearchRequest) -> Search:
    """Reads everything that the user has named, and checks that it goes together."""
    budget, policy = request.budget, None
    if request.policy is not None:
        from mapgym.agents.learned.sb3.policy import read_policy

        policy = read_policy(request.policy)
        request = _with_policy(request, policy)
    agent = make_agent(request.agent or DEFAULT_AGENT, **request.parameters)
    proof = Progress()
    if isinstance(agent, Prover):
        agent.progress = proof
        if request.seconds is not None:
            # It watches the clock by itself; what it has found in time must still be priced.
            limit = agent.seconds if "seconds" in request.parameters else request.seconds
            agent.seconds = min(limit, request.seconds)
            budget = Budget(DEFAULT_SAMPLES if request.samples is None else request.samples)
    space = request.space()
    agent.check_axes(space)
    agent.check_objective(request.objective)
    for remark in (policy.mismatch(request.objective) if policy else "", agent.remark(space.accelerator)):
        if remark:
            console.notify(f"mapgym: {remark}")
    start = None if request.warm_start is None else _begin(request.warm_start, space, request)
    return Search(agent, Evaluator(space, request.objective, budget), start, request.seed, proof)


def _with_policy(request: SearchRequest, policy: StoredPolicy) -> SearchRequest:
    """The same for the agent whose policy it is."""
    trained = str(policy.about["agent"])
    if request.agent not in (None, trained):
        raise SpecificationError(
            f"--policy: it is of agent {quoted(trained)}, not of {quoted(request.agent)}; leave --agent out"
        )
    if fixed := [name for name in request.parameters if name not in ("num_envs", "threads")]:
        raise SpecificationError(
            f"--parameter: {quoted(fixed[0])} of a trained policy is that of its training; leave it out, only "
            "num_envs and threads can be given with --policy"
        )
    return replace(request, agent=trained, parameters={**request.parameters, "policy": str(request.policy)})


def _begin(text: str, space: MapSpace, request: SearchRequest) -> Start:
    """What a warm start begins with; says so if there is nothing."""
    from mapgym.agents.experiment.definition.warm_start import WITHIN_EXPERIMENT

    if text in WITHIN_EXPERIMENT:
        raise SpecificationError(
            f"--warm-start {text} begins from other layers of an experiment, and a search has one layer; give the path "
            "of a replay buffer or 'policy', or use 'mapgym compare', 'mapgym run' or 'mapgym map'"
        )
    warm = parsing.load_warm_start(text, within_experiment=False)
    assert warm is not None  # there is a text
    if remark := warm.remark(space.accelerator):
        console.notify(f"mapgym: {remark}")
    start = warm.begin(space, request.objective, request.seed)
    if start.failures:
        console.notify(
            f"mapgym: {len(start.failures)} mappings could not be transferred; the first: {start.failures[0]}"
        )
    if not start.sources:
        console.notify(f"mapgym: no warm start, the search begins at random: {start.why_random}")
    return start
