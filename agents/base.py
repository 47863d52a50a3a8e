"""What an agent is, and the registry that finds agents by name."""

from __future__ import annotations

import importlib.util
import math
import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, fields
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeVar, runtime_checkable

import numpy as np

from mapgym.agents.tuning import chosen_parameters
from mapgym.cost import OBJECTIVES
from mapgym.errors import SpecificationError, require_keys, suggest
from mapgym.errors.seeds import check_seed
from mapgym.errors.text import quoted
from mapgym.evaluation.sparsity_aware import SPARSITY_AWARE
from mapgym.mapping import MappingBatch
from mapgym.mapspace.entries import AXES
from mapgym.system.blas import blas_put_off

if TYPE_CHECKING:
    from mapgym.cost import CostBatch
    from mapgym.cost.optimum import Optimum
    from mapgym.evaluation.evaluator import Evaluator
    from mapgym.mapspace import MapSpace
    from mapgym.spec.accelerator import Accelerator

DEFAULT_AGENT = "evolution"
"""The best all-rounder that we have; what a search uses when no agent is named."""


MOST_WHOLE, MOST_REAL = 10**6, 1e9
"""Upper limits of parameters that declare none: of whole numbers, which are mostly numbers of mappings that are held at
once, and of others, which are mostly weights."""


def parameter(
    default: Any,
    help: str,
    *,
    low: float = -math.inf,
    high: float | None = None,
    choices: Sequence[str] | None = None,
) -> Any:
    """A parameter of an agent: a dataclass field with a range and one line of documentation.

    Args:
        default: its value when left out; its type (bool, int, float, str) is the parameter's type.
        help: what it does, where the default comes from.
        low, high: limits, both allowed; without a high one, ``MOST_WHOLE`` or ``MOST_REAL``.
        choices: the allowed texts.
    """
    if high is None:
        high = MOST_WHOLE if isinstance(default, int) else MOST_REAL
    return field(default=default, metadata={"help": help, "low": low, "high": high, "choices": choices})


@dataclass(kw_only=True)
class Agent(ABC):
    """Anything that searches a map space: a classical searcher or a learned policy.

    Who calls what, when:

    1. Somebody (the command line, an experiment, you) makes the agent with its parameters, and an
       :class:`~mapgym.evaluation.evaluator.Evaluator` with a map space, an objective and a budget.
    2. They call ``agent.search(evaluator, seed)`` once. The agent sees costs only through the evaluator: it prices
       batches of mappings (``evaluator.evaluate``), or it lets a policy act in an environment made by the evaluator
       (:func:`mapgym.envs.make_env`, :func:`mapgym.envs.make_vec_env`), where each finished episode is one sample.
    3. The agent returns when ``evaluator.exhausted`` is true, or earlier when it has nothing more to try. It returns
       nothing: the best mapping, the trace and the number of samples are in the evaluator, which kept them itself.

    What the agent owes in exchange, and :class:`mapgym.testing.agents.AgentContract` checks:

    - Everything random comes from ``seed``, so that the same seed gives the same trace on the same machine.
    - It takes task knowledge from ``evaluator.space`` (workload, accelerator, axes, constraints) and costs from the
      evaluator, and builds no cost model of its own.
    - It survives a space with one legal mapping, and a budget of one sample.
    - An agent that is searched with twice starts afresh; nothing is carried over unless a parameter says so.

    A subclass is a dataclass whose fields, made by :func:`parameter`, are its parameters. It sets the class
    attributes below and is registered by :func:`register`. Most searchers want :class:`AskTellAgent` instead.

    Attributes:
        name: what users call it; lower case, words joined by hyphens.
        summary: one line for lists.
        axes: the axes that it can search; the others keep the values of ``space.base``.
        objectives: what it can minimise; "pareto", the front of energy against latency, is not for everyone.
            "sparsity-aware" stands for all :class:`~mapgym.evaluation.sparsity_aware.SparsityAware`, and asks nothing
            of an agent that knows costs by ``costs.objective(...)`` alone.
        requires: modules that it imports and that are not among the core dependencies.
        extra: the optional extra that installs them.
        deterministic: whether it does the same with every seed; such an agent may be done after a few samples.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    axes: ClassVar[tuple[str, ...]] = AXES
    objectives: ClassVar[tuple[str, ...]] = (*OBJECTIVES, SPARSITY_AWARE)
    requires: ClassVar[tuple[str, ...]] = ()
    extra: ClassVar[str] = ""
    deterministic: ClassVar[bool] = False

    def __post_init__(self) -> None:
        for entry in fields(self):
            setattr(self, entry.name, _checked(self.name, entry.name, getattr(self, entry.name), entry.default, entry))

    @abstractmethod
    def search(self, evaluator: Evaluator, seed: int, initial: MappingBatch | None = None) -> None:
        """Searches until the budget is spent.

        Args:
            evaluator: the task and the only source of costs; it keeps the result.
            seed: of everything random; :func:`mapgym.errors.seeds.check_seed` says what it may be.
            initial: mappings to begin from (a warm start), best first if that is known; they are priced first, and
                count as samples like all others. None to begin from nothing.

        Raises:
            SpecificationError: the space searches an axis that the agent cannot, the objective is not among its own, or
                the seed is none.
        """

    def warm_up(self, space: MapSpace) -> None:  # noqa: B027 - an agent that has nothing to load need not say so
        """Loads what is loaded once per process (libraries, compiled code), before the clock of a search starts.

        Args:
            space: the map space that will be searched.
        """

    def remark(self, accelerator: Accelerator) -> str:
        """A sentence for the user before a search on an accelerator, such as about where a policy comes from; or ""."""
        return ""

    @classmethod
    def trained_under(cls) -> str:
        """The counting rules under which the shipped weights were trained that the agent uses; "" if it uses none."""
        return ""

    def begin(self, evaluator: Evaluator, seed: int) -> int:
        """What a search does first: refuses what it cannot do, loads what it needs, and starts the clock.

        Returns:
            The seed, as an int.

        Raises:
            SpecificationError: as :meth:`search`.
        """
        self.check_axes(evaluator.space)
        self.check_objective(evaluator.objective)
        seed = check_seed(seed)
        self.warm_up(evaluator.space)
        evaluator.start()
        return seed

    def check_axes(self, space: MapSpace) -> None:
        """Raises SpecificationError if the space leaves an axis open that this agent does not search."""
        for axis in space.axes:
            if axis not in self.axes:
                raise SpecificationError(
                    f"agent {quoted(self.name)} does not search the axis {quoted(axis)}; leave it out of the axes, or "
                    f"use an agent that does, such as {quoted(DEFAULT_AGENT)}"
                )

    def check_objective(self, objective: str) -> None:
        """Raises SpecificationError if this agent cannot minimise the objective."""
        kind = objective.partition(":")[0]
        if kind not in self.objectives:
            others = [name for name in agent_names() if kind in agent_class(name).objectives]
            raise SpecificationError(
                f"agent {quoted(self.name)} does not search with the objective {quoted(kind)}; use one that does: "
                f"{', '.join(others)}"
            )


@runtime_checkable
class Prover(Protocol):
    """An agent that proves how good its result is, and watches the clock by itself.

    Attributes:
        seconds: wall time after which it stops.
        progress: called now and then with the best value, the proven bound and the gap, if set.
        optimum: what the last search found and proved, None before.
    """

    seconds: float
    progress: Callable[[float, float, float], None] | None
    optimum: Optimum | None


class AskTellAgent(Agent):
    """An agent that proposes mappings and is told their costs; the loop is here.

    ``search`` calls :meth:`start` once, then alternates :meth:`ask` and :meth:`tell` until the budget is spent.
    A subclass keeps no loop, no budget and no best mapping. To drive an agent by hand, do the same three calls.

    A warm start is a :meth:`tell` before the first :meth:`ask`, with mappings that the agent did not propose. What it
    does with them is its own: a population takes them in, a local search begins at the best of them.

    :meth:`ask` is free to return fewer or more mappings than there are samples left: the evaluator prices the first
    ones, and :meth:`tell` gets those only. An agent that ignores the number left behaves the same under every budget,
    so that the trace of a small budget is the beginning of the trace of a large one.
    """

    @abstractmethod
    def start(self, space: MapSpace, rng: np.random.Generator, objective: str) -> None:
        """Begins a search; forgets the one before.

        Args:
            space: the map space.
            rng: the only source of randomness.
            objective: what ``costs.objective(...)`` to minimise; one of the ``objectives`` of the agent.
        """

    @abstractmethod
    def ask(self, n: int) -> MappingBatch:
        """The mappings to price next; an empty batch ends the search.

        Args:
            n: mappings that the budget still pays for.
        """

    @abstractmethod
    def tell(self, batch: MappingBatch, costs: CostBatch) -> None:
        """Learns the costs of what was asked for last, or, before the first question, of a warm start.

        Args:
            batch: the mappings that were priced: what :meth:`ask` returned, or its beginning when the budget ran out.
            costs: their costs; an illegal mapping costs inf.
        """

    def search(self, evaluator: Evaluator, seed: int, initial: MappingBatch | None = None) -> None:
        """Runs the loop; see the class docstring."""
        seed = self.begin(evaluator, seed)
        self.start(evaluator.space, np.random.default_rng(seed), evaluator.objective)
        batch = initial if initial is not None and len(initial) else self.ask(evaluator.remaining)
        while len(batch):
            costs = evaluator.evaluate(batch)
            # The seconds can run out between a question and the pricing.
            if not len(costs):
                break
            self.tell(batch if len(costs) == len(batch) else batch[: len(costs)], costs)
            if evaluator.exhausted:
                break
            batch = self.ask(evaluator.remaining)


_AGENTS: dict[str, type[Agent]] = {}
_PACKAGES = ("search", "learned")
"""Folders beside this file whose modules register agents when they are imported, which happens when they are asked for.

A new module needs no entry anywhere. Modules that import an optional package when they are imported are for agents' own
use: their names begin with an underscore.
"""

AgentType = TypeVar("AgentType", bound=type[Agent])


def register(agent: AgentType) -> AgentType:
    """Class decorator that makes an agent known by its ``name``.

    Raises:
        SpecificationError: another class has the name.
    """
    if not _is_ours(agent.__module__):
        import_modules()
    known = _AGENTS.get(agent.name)
    if known is not None and known.__qualname__ != agent.__qualname__:
        raise SpecificationError(f"two agents are called {quoted(agent.name)}; give the new one a name of its own")
    _AGENTS[agent.name] = agent
    return agent


def agent_names() -> list[str]:
    """Names of the registered agents, in alphabetical order."""
    import_modules()
    return sorted(_AGENTS)


def agent_class(name: str) -> type[Agent]:
    """The class of an agent; raises SpecificationError for an unknown name."""
    if name not in _AGENTS:
        # The module of an agent has its name, as a rule.
        import_modules(str(name).replace("-", "_"))
    if name not in _AGENTS:
        import_modules()
    if name not in _AGENTS:
        raise SpecificationError(f"unknown agent {quoted(name)}; {suggest(str(name), agent_names())}")
    return _AGENTS[name]


def _is_ours(module: str) -> bool:
    return any(module.startswith(f"{__package__}.{package}.") for package in _PACKAGES)


@cache
def import_modules(stem: str | None = None) -> None:
    """Imports all modules of searchers and learned mappers, or those of one name only, so that they register."""
    here = Path(__file__).parent
    for package in _PACKAGES:
        for module in _modules(here / package, f"{__package__}.{package}"):
            name = module.rpartition(".")[2]
            if not name.startswith("_") and stem in (None, name):
                importlib.import_module(module)


def _modules(folder: Path, package: str) -> Iterator[str]:
    """Names of all modules in a package; nothing is imported."""
    for found in pkgutil.iter_modules([str(folder)]):
        name = f"{package}.{found.name}"
        yield name
        if found.ispkg:
            yield from _modules(folder / found.name, name)


def make_agent(name: str, **parameters: Any) -> Agent:
    """Makes an agent.

    Args:
        name: one of :func:`agent_names`.
        **parameters: its parameters, as values or as the text that a command line has. The others have the values that
            tuning has chosen (:mod:`mapgym.agents.tuning`), as a rule the defaults of the class, which
            ``agent_class(name)()`` has in any case.

    Raises:
        SpecificationError: unknown agent or parameter, a value out of range, or a package that is not installed.
    """
    agent = agent_class(name)
    require_keys(parameters, [entry.name for entry in fields(agent)], f"agent {quoted(name)}")
    if (missing := missing_package(name)) is not None:
        raise SpecificationError(missing)
    return agent(**{**chosen_parameters(name), **parameters})


def missing_package(name: str) -> str | None:
    """A sentence that names the first package that an agent needs and that is not installed; None if there is none."""
    agent = agent_class(name)
    for module in agent.requires:
        if importlib.util.find_spec(module) is None:
            return (
                f"agent {quoted(name)} needs the package {quoted(module)}; "
                f"install it with: pip install 'mapgym[{agent.extra}]'"
            )
    return None


def _checked(agent: str, name: str, value: Any, default: Any, entry: Any) -> Any:
    """The value in the type of the default, or SpecificationError."""
    where = f"agent {quoted(agent)}: {name} is {quoted(value)}"
    kind = type(default)
    try:
        if kind is bool:
            value = {"true": True, "false": False}[str(value).lower()]
        elif kind is int and (isinstance(value, bool) or float(value) != int(float(value))):
            raise ValueError
        else:
            value = kind(value)
    except (KeyError, ValueError, TypeError, OverflowError):
        wanted = {bool: "true or false", int: "a whole number", float: "a number"}.get(kind, "a text")
        raise SpecificationError(f"{where}; give {wanted}") from None
    if entry.metadata.get("choices") and value not in entry.metadata["choices"]:
        raise SpecificationError(f"{where}; {suggest(str(value), entry.metadata['choices'])}")
    low, high = entry.metadata.get("low", -math.inf), entry.metadata.get("high", MOST_REAL)
    if kind in (int, float) and value != default and not (low <= value <= high and math.isfinite(value)):
        raise SpecificationError(f"{where}; give a number from {low:g} to {high:g}")
    return value


def load_compiled_code(space: MapSpace) -> None:
    """Compiles what all searches of a space use, or loads it from the disk, so that no search is charged for it.

    What only one agent needs is loaded by its ``warm_up``, before the clock of its search starts.
    """
    with blas_put_off():
        space.sample(np.random.default_rng(0), 1)
