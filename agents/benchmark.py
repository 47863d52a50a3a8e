"""Speed of the cost model, of learning in environments, and of agents, several times over.

CPU time (``time.process_time``) of one thread rather than wall time, so that other work on the machine disturbs a
measurement less; learning is timed in both. Compilation is never timed.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np

from mapgym.agents.base import Agent, agent_class, agent_names, make_agent
from mapgym.agents.learned.sb3.stock import StockAgent
from mapgym.cost import CostModel
from mapgym.errors import MAX_INTEGER, SpecificationError, suggest
from mapgym.errors.text import quoted
from mapgym.evaluation.evaluator import Budget, Evaluator
from mapgym.mapping import MappingBatch
from mapgym.mapspace import MapSpace
from mapgym.spec.accelerator import Accelerator
from mapgym.spec.constraints import Constraints
from mapgym.spec.workload import Workload

STANDARD_CASES = (
    ("accel_a", "paper/resnet_conv4"),
    ("accel_b", "paper/resnet_conv4"),
    ("accel_a", "paper/bert_kqv"),
    ("accel_b", "paper/bert_kqv"),
    ("accel_a", "paper/bert_attn"),
    ("accel_b", "paper/bert_attn"),
    ("accel_b_2d", "paper/resnet_conv4"),
    ("eyeriss_like", "paper/resnet_conv4"),
    ("simba_like", "paper/resnet_conv4"),
    ("accel_b", "mobilenet_v2/depthwise_384"),
    ("accel_b", "mobilenet_v2/conv1"),
)
"""(accelerator, workload): arrays with one and two axes, three to five levels, convolutions with and without channels
to reduce, matrix products with shared (bert_kqv) and with separate weights."""

STANDARD_AGENTS = (
    "random",
    "random-pruned",
    "gamma",
    "gamma-timeloop-compat",
    "genetic",
    "annealing",
    "hill-climb",
    "factor-greedy",
    "evolution",
    "differential-evolution",
    "cma-es",
    "mcts",
)
"""Agents that neither model the costs nor solve for the optimum; they should cost next to nothing themselves."""

MINIMUM_UTILIZATION = 0.5
"""Share of the MACs that the mappings of a sample use at least."""

_SINGLE_CALLS = 1000


@dataclass(frozen=True)
class CostSpeed:
    """Speed of the cost model in one case.

    Attributes:
        accelerator, workload: names.
        evaluations_per_second: mappings priced per second of CPU time, in one batch.
        single_call_seconds: CPU time of ``evaluate`` with one mapping.
        mappings: size of the sample.
        mean_utilization: mean share of the MACs that the sample uses.
    """

    accelerator: str
    workload: str
    evaluations_per_second: float
    single_call_seconds: float
    mappings: int
    mean_utilization: float


@dataclass(frozen=True)
class LearningSpeed:
    """Speed of an agent that learns in an environment, the learning included.

    Attributes:
        agent, workload, accelerator: names.
        num_envs: environments side by side.
        threads: of torch.
        steps: of a round.
        steps_per_second: of wall time; what else runs on the machine slows it down.
        steps_per_cpu_second: of CPU time of all threads.
    """

    agent: str
    workload: str
    accelerator: str
    num_envs: int
    threads: int
    steps: int
    steps_per_second: float
    steps_per_cpu_second: float


@dataclass(frozen=True)
class TaskSpeed:
    """What the search of one task costs per sample.

    Attributes:
        workload, accelerator: names.
        samples: that were priced; fewer than allowed if the agent had nothing more to try.
        own_seconds: CPU time per sample outside the cost model.
        pricing_seconds: CPU time per sample inside the cost model.
    """

    workload: str
    accelerator: str
    samples: int
    own_seconds: float
    pricing_seconds: float


@dataclass(frozen=True)
class AgentSpeed:
    """What an agent itself costs per sample; CPU time, and all but ``tasks`` over the tasks.

    Attributes:
        agent: its name.
        own_seconds: median of the time outside the cost model.
        slowest_own_seconds: largest time outside the cost model.
        pricing_seconds: median of the time inside the cost model.
        samples_per_second: median.
        tasks: for each task the seed with the least time outside the cost model.
    """

    agent: str
    own_seconds: float
    slowest_own_seconds: float
    pricing_seconds: float
    samples_per_second: float
    tasks: tuple[TaskSpeed, ...]


def sample_busy_mappings(accelerator: Accelerator, workload: Workload, n: int, seed: int = 0) -> MappingBatch:
    """Random legal mappings that use at least half of the MACs, which is what a search visits.

    Axes tile, order and parallelism; every tensor is kept wherever the level may hold it.

    Args:
        accelerator, workload: the task.
        n: how many.
        seed: of the sample.

    Raises:
        SpecificationError: no mapping of the task uses that many MACs.
    """
    space = MapSpace(workload, accelerator, constraints=Constraints(min_utilization=MINIMUM_UTILIZATION))
    return space.sample(np.random.default_rng(seed), n)


def measure_cost_model(
    accelerator: Accelerator, workload: Workload, *, rounds: int = 9, mappings: int = 20_000
) -> CostSpeed:
    """Times the cost model on a sample of :func:`sample_busy_mappings`.

    Args:
        accelerator, workload: the task.
        rounds: timed rounds; the median counts.
        mappings: size of the sample.
    """
    batch = sample_busy_mappings(accelerator, workload, mappings)
    model = CostModel(workload, accelerator)
    singles = [batch[i % len(batch)] for i in range(_SINGLE_CALLS)]
    model.evaluate(batch)
    model.evaluate(singles[0])
    batch_seconds, single_seconds = [], []
    for _ in range(rounds):
        start = time.process_time()
        model.evaluate(batch)
        batch_seconds.append(time.process_time() - start)
        start = time.process_time()
        for mapping in singles:
            model.evaluate(mapping)
        single_seconds.append(time.process_time() - start)
    return CostSpeed(
        accelerator=accelerator.name,
        workload=workload.name,
        evaluations_per_second=len(batch) / median(batch_seconds),
        single_call_seconds=median(single_seconds) / len(singles),
        mappings=len(batch),
        mean_utilization=float(batch.used_macs().mean()) / accelerator.mac.instances,
    )


def measure_learning(
    agent: str,
    workload: Workload,
    accelerator: Accelerator,
    *,
    num_envs: int = 64,
    threads: int = 1,
    steps: int = 50_000,
    rounds: int = 3,
    parameters: Mapping[str, Any] | None = None,
) -> LearningSpeed:
    """Times the training of an agent of Stable-Baselines3 from nothing: environments, pricing, rollouts and updates.

    Args:
        agent: its name; it has the parameters that it searches with.
        workload, accelerator: the task.
        num_envs: environments side by side.
        threads: of torch.
        steps: of a round, at least; what the algorithm has begun it ends.
        rounds: timed rounds; the median counts.
        parameters: of the agent, where they are not those that it searches with.

    Raises:
        SpecificationError: the agent does not learn in an environment.
    """
    known = agent_class(agent)
    if not issubclass(known, StockAgent):
        stock = [name for name in agent_names() if issubclass(agent_class(name), StockAgent)]
        raise SpecificationError(f"agent {quoted(agent)} does not learn in an environment; {suggest(agent, stock)}")
    learner = make_agent(agent, **{**(parameters or {}), "num_envs": num_envs, "threads": threads})
    assert isinstance(learner, StockAgent)
    space = MapSpace(workload, accelerator)
    learner.warm_up(space)
    wall, cpu = [], []
    for seed in range(rounds):
        evaluator = Evaluator(space, budget=Budget(samples=MAX_INTEGER))
        clocks = time.perf_counter(), time.process_time()
        done = learner.train_until(evaluator, seed, steps)
        wall.append((time.perf_counter() - clocks[0]) / done)
        cpu.append((time.process_time() - clocks[1]) / done)
    return LearningSpeed(
        agent, workload.name, accelerator.name, num_envs, threads, steps, 1.0 / median(wall), 1.0 / median(cpu)
    )


def measure_agent(agent: Agent, spaces: Sequence[MapSpace], *, samples: int = 5000, seeds: int = 3) -> AgentSpeed:
    """Times searches for the lowest EDP, and the cost model within them.

    What is not the cost model's is the agent's own: how it proposes and learns, and the few operations by which the
    evaluator keeps its books. Other work on the machine and unlucky seeds only add to it, hence the best of the seeds.

    Args:
        agent: with its parameters.
        spaces: the tasks, at least one.
        samples: budget of a search.
        seeds: searches of each task.
    """
    for space in spaces:
        agent.warm_up(space)
    tasks = tuple(
        min((_time_search(agent, space, samples, seed) for seed in range(seeds)), key=lambda speed: speed.own_seconds)
        for space in spaces
    )
    return AgentSpeed(
        agent=agent.name,
        own_seconds=median(task.own_seconds for task in tasks),
        slowest_own_seconds=max(task.own_seconds for task in tasks),
        pricing_seconds=median(task.pricing_seconds for task in tasks),
        samples_per_second=median(1.0 / (task.own_seconds + task.pricing_seconds) for task in tasks),
        tasks=tasks,
    )


class _TimedCostModel(CostModel):
    """A cost model that adds up the CPU time of its calls, for batches alone."""

    seconds = 0.0

    def evaluate(self, mapping: Any, detail: bool = False) -> Any:
        start = time.process_time()
        costs = super().evaluate(mapping, detail)
        self.seconds += time.process_time() - start
        return costs


class _TimedEvaluator(Evaluator):
    """An evaluator whose cost model is timed."""

    def __init__(self, space: MapSpace, budget: Budget) -> None:
        super().__init__(space, budget=budget)
        self._model = self.model = _TimedCostModel(space.workload, space.accelerator)


def _time_search(agent: Agent, space: MapSpace, samples: int, seed: int) -> TaskSpeed:
    evaluator = _TimedEvaluator(space, Budget(samples=samples))
    evaluator.start()
    evaluator.model.seconds = 0.0
    start = time.process_time()
    agent.search(evaluator, seed)
    seconds = time.process_time() - start
    pricing = evaluator.model.seconds
    return TaskSpeed(
        workload=space.workload.name,
        accelerator=space.accelerator.name,
        samples=evaluator.samples,
        own_seconds=(seconds - pricing) / evaluator.samples,
        pricing_seconds=pricing / evaluator.samples,
    )
