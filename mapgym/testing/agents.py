"""The contract of agents as tests that any agent, ours or yours, can inherit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Protocol

import numpy as np
import pytest

from mapgym.cost import CostBatch, CostModel
from mapgym.errors import SpecificationError
from mapgym.evaluation.evaluator import Budget, Evaluator
from mapgym.evaluation.sparsity_aware import SPARSITY_AWARE, DensitySet, SparsityAware
from mapgym.mapping import MappingBatch
from mapgym.mapspace import MapSpace
from mapgym.spec.accelerator import Accelerator
from mapgym.spec.constraints import Constraints
from mapgym.spec.levels import Mac, StorageLevel
from mapgym.spec.sparsity import SparseAction
from mapgym.spec.workload import Workload, conv2d, matmul, mttkrp

AXES = ("tile", "order", "parallelism", "bypass")


class SearchesMapSpaces(Protocol):
    """What the contract needs to know of an agent."""

    @property
    def axes(self) -> tuple[str, ...]:
        """The axes that it can search."""

    @property
    def objectives(self) -> tuple[str, ...]:
        """What it can minimise."""

    def search(self, evaluator: Evaluator, seed: int, initial: MappingBatch | None = None) -> None:
        """Searches until the budget is spent, from mappings that are given."""


class RecordingEvaluator(Evaluator):
    """An evaluator that also keeps what an agent saw.

    Attributes:
        values: the objective of each priced mapping, in order; inf for an illegal one.
        asked_when_exhausted: how often mappings were offered after the budget was spent.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        """Takes the arguments of :class:`mapgym.evaluation.evaluator.Evaluator`."""
        super().__init__(*arguments, **options)
        self.values: list[float] = []
        self.asked_when_exhausted = 0

    def evaluate(self, batch: MappingBatch) -> CostBatch:
        """Prices, and takes notes."""
        self.asked_when_exhausted += self.exhausted
        costs = super().evaluate(batch)
        self.values += costs.objective(self.objective).tolist()
        return costs


def small_accelerator(**options: Any) -> Accelerator:
    """Two buffers and a main memory, a mesh of 2 x 2 processing elements; small enough to think about."""
    return Accelerator(
        "small",
        (
            StorageLevel("Registers", capacity_words=12, mesh_x=2, mesh_y=2, access_energy_pj=1.0),
            StorageLevel("Buffer", capacity_words=96, access_energy_pj=6.0),
            StorageLevel("Memory", access_energy_pj=200.0),
        ),
        Mac(mesh_x=2, mesh_y=2, energy_pj=1.0),
        **options,
    )


def small_sparse_accelerator() -> Accelerator:
    """The small accelerator with buffers that hold compressed weights and inputs and skip what zeros make useless."""
    dense = small_accelerator(peer_links=False)
    actions = (SparseAction("skipping", "Weights", ("Inputs",)), SparseAction("skipping", "Inputs", ("Weights",)))
    levels = []
    for s, level in enumerate(dense.levels):
        # A compressed tile of compressed tiles has their ranks as well as its own.
        ranks = (f"{10 * (s + 1)}*UOP", "CP")
        levels.append(replace(level, actions=actions, formats=(("Weights", ranks), ("Inputs", ranks))))
    return replace(
        dense, name="small_sparse", levels=tuple(levels), mac=replace(dense.mac, zero_operands=("skipping",))
    )


def _einsum(name: str, dims: dict[str, int], output: str, **operands: list[str]) -> Workload:
    """A workload with tensors of any names; ``output`` is such as "Z: rows, columns"."""
    written, _, ranks = output.partition(": ")
    tensors = {operand: {"projection": projection} for operand, projection in operands.items()}
    result = {written: {"projection": ranks.split(", "), "output": True}}
    return Workload.from_dict({"name": name, "dims": dims, "tensors": {**tensors, **result}})


def _variant(name: str, registers: dict[str, Any] | None = None, levels: int = 3, **mac: Any) -> Accelerator:
    """The small accelerator with other registers, fewer levels or another array of processing elements."""
    small = small_accelerator(peer_links=False)
    first, *others = small.levels
    chosen = (replace(first, **(registers or {})), *others)[3 - levels :]
    return replace(small, name=name, levels=chosen, mac=replace(small.mac, **mac))


def odd_tasks() -> dict[str, tuple[Workload, Accelerator]]:
    """Tasks that look like no convolution on no usual accelerator: other tensors, other dims, other levels."""
    product = _einsum(
        "product",
        {"rows": 4, "columns": 4, "depth": 2},
        "Z: rows, columns",
        A=["rows", "depth"],
        B=["depth", "columns"],
    )
    pooling = _einsum("pooling", {"C": 4, "P": 4, "R": 2}, "Y: C, P", X=["C", "2*P + R"])
    flat: dict[str, Any] = {"mesh_x": 1, "mesh_y": 1}
    return {
        "no operand": (_einsum("fill", {"M": 6}, "Y: M"), small_accelerator()),
        "one operand": (pooling, small_accelerator()),
        "three operands": (mttkrp("factors", I=4, J=4, K=2, L=2), small_accelerator()),
        "names of one's own": (product, small_accelerator()),
        "registers for tensors of other names": (product, _variant("own", {"keep_only": ("A", "Z")})),
        "registers of two words": (product, _variant("two", {"keep_only": ("A", "Z"), "capacity_words": 2})),
        "registers that are too small": (product, _variant("narrow", {"capacity_words": 2})),
        "two levels": (pooling, _variant("shallow", levels=2, **flat)),
        "one level": (product, _variant("bare", levels=1, **flat)),
        "no fan-out": (product, _variant("lone", flat, **flat)),
    }


class AgentContract:
    """Inherit this in a test module and say how your agent is made; pytest then checks what an agent owes.

    Example:
        >>> class TestMyAgent(AgentContract):
        ...     @pytest.fixture
        ...     def new_agent(self):
        ...         return MyAgent

    ``new_agent`` is called without arguments and returns an agent that has not searched yet. Set ``samples`` to the
    smallest budget in which your agent does everything that it does (a few generations, an update of a policy). An
    agent that has an attribute ``deterministic`` which is true uses no randomness: every seed must then give the same.
    """

    samples = 400

    @pytest.fixture
    def new_agent(self) -> Callable[[], SearchesMapSpaces]:
        """Makes the agent; to be overridden."""
        raise NotImplementedError("define the fixture new_agent, a function that makes your agent")

    def counted(self, agent: SearchesMapSpaces, accelerator: Accelerator) -> Accelerator:
        """The accelerator as the agent needs it; an agent that knows the costs of one rule set gets those rules."""
        return accelerator

    def workload(self, agent: SearchesMapSpaces) -> Workload:
        """A small layer with dims C, M, P and Q; an agent that takes some workloads only gets one of those."""
        return conv2d("small", N=1, C=4, M=4, P=4, Q=2, R=3, S=1)

    def space(self, agent: SearchesMapSpaces, workload: Workload | None = None, **options: Any) -> MapSpace:
        """A small space over the axes that the agent can search."""
        workload = workload or self.workload(agent)
        options.setdefault("axes", tuple(axis for axis in AXES if axis in agent.axes))
        return MapSpace(workload, self.counted(agent, small_accelerator()), **options)

    def run(
        self, agent: SearchesMapSpaces, space: MapSpace, samples: int | None = None, seed: int = 0, **options: Any
    ) -> RecordingEvaluator:
        """Searches, and returns the evaluator."""
        evaluator = RecordingEvaluator(space, budget=Budget(samples=samples or self.samples), **options)
        agent.search(evaluator, seed)
        return evaluator

    @pytest.mark.parametrize("samples", [1, 7, 150])
    def test_stays_inside_the_budget(self, new_agent: Callable[[], SearchesMapSpaces], samples: int) -> None:
        """It stops when the samples are spent, and does not ask on."""
        agent = new_agent()
        evaluator = self.run(agent, self.space(agent), samples)
        assert 1 <= evaluator.samples <= samples
        assert evaluator.asked_when_exhausted <= 1

    def test_stops_when_the_time_is_over(self, new_agent: Callable[[], SearchesMapSpaces]) -> None:
        """It stops when the seconds are spent."""
        agent = new_agent()
        evaluator = RecordingEvaluator(self.space(agent), budget=Budget(seconds=1.5))
        agent.search(evaluator, 0)
        assert evaluator.samples
        assert evaluator.asked_when_exhausted <= 1

    def test_result_is_a_legal_mapping_of_the_space(self, new_agent: Callable[[], SearchesMapSpaces]) -> None:
        """What it finds can run, belongs to the space, and is no worse than its own first try."""
        agent = new_agent()
        space = self.space(agent)
        evaluator = self.run(agent, space)
        _check_best(evaluator)
        assert evaluator.best_value <= evaluator.values[0]

    def test_same_seed_same_trace(self, new_agent: Callable[[], SearchesMapSpaces]) -> None:
        """The seed decides everything."""
        agent = new_agent()
        first = self.run(agent, self.space(agent), seed=3)
        again = self.run(new_agent(), self.space(agent), seed=3)
        assert first.values == again.values
        assert (first.trace.samples, first.trace.values) == (again.trace.samples, again.trace.values)

    def test_seed_matters(self, new_agent: Callable[[], SearchesMapSpaces]) -> None:
        """Another seed is another search, unless the agent says that it uses none."""
        agent = new_agent()
        evaluators = [self.run(new_agent(), self.space(agent), seed=seed) for seed in (0, 1)]
        assert (evaluators[0].values == evaluators[1].values) == _is_deterministic(agent)

    def test_starts_afresh_when_used_twice(self, new_agent: Callable[[], SearchesMapSpaces]) -> None:
        """A second search knows nothing of the first."""
        agent = new_agent()
        self.run(agent, self.space(agent, matmul("other", M=4, K=8, N=4)), seed=1)
        used = self.run(agent, self.space(agent), seed=2)
        fresh = self.run(new_agent(), self.space(agent), seed=2)
        assert used.values == fresh.values

    def test_survives_a_space_with_one_mapping(self, new_agent: Callable[[], SearchesMapSpaces]) -> None:
        """Nothing to decide is no reason to fail."""
        agent = new_agent()
        space = self.space(agent, matmul("point", M=1, K=1, N=1), axes=("tile", "order", "parallelism"))
        evaluator = self.run(agent, space, 50)
        _check_best(evaluator)

    def test_survives_a_tiny_space(self, new_agent: Callable[[], SearchesMapSpaces]) -> None:
        """Fewer mappings than samples are no reason to fail."""
        agent = new_agent()
        evaluator = self.run(agent, self.space(agent, matmul("tiny", M=2, K=1, N=1)))
        _check_best(evaluator)

    @pytest.mark.parametrize("count", [1, 30])
    def test_begins_with_what_it_is_given(self, new_agent: Callable[[], SearchesMapSpaces], count: int) -> None:
        """A warm start is priced first, and the result is no worse than it."""
        agent = new_agent()
        space = self.space(agent)
        initial = space.sample(np.random.default_rng(9), count)
        expected = CostModel(space.workload, space.accelerator).evaluate(initial).objective("edp")
        evaluator = RecordingEvaluator(space, budget=Budget(samples=self.samples))
        agent.search(evaluator, 0, initial)
        assert evaluator.values[:count] == expected.tolist()
        assert evaluator.best_value <= expected.min()
        _check_best(evaluator)

    @pytest.mark.parametrize("axis", AXES)
    def test_searches_one_axis_alone(self, new_agent: Callable[[], SearchesMapSpaces], axis: str) -> None:
        """Axes that are not searched keep the values of the base; an unknown axis is refused."""
        agent = new_agent()
        # A random member of the whole space: its tiles leave something to order, split and bypass.
        base = self.space(agent, axes=AXES).sample(np.random.default_rng(5), 1)[0]
        space = self.space(agent, axes=(axis,), base=base)
        if axis not in agent.axes:
            with pytest.raises(SpecificationError, match=axis):
                self.run(agent, space)
            return
        _check_best(self.run(agent, space))

    def test_obeys_constraints(self, new_agent: Callable[[], SearchesMapSpaces]) -> None:
        """What the user restricts stays so."""
        agent = new_agent()
        constraints = Constraints(
            factors={"Registers": {"C": {"temporal": 2}}, "Buffer": {"M": {"spatial": 2}}},
            orders={"Memory": ["Q", "M"]},
            parallel_dims=("M", "C", "P"),
        )
        _check_best(self.run(agent, self.space(agent, constraints=constraints)))

    @pytest.mark.parametrize("objective", ["energy", "latency"])
    def test_minimises_the_objective(self, new_agent: Callable[[], SearchesMapSpaces], objective: str) -> None:
        """It looks at the objective of the evaluator."""
        agent = new_agent()
        evaluator = self.run(agent, self.space(agent), objective=objective)
        assert evaluator.best_value == min(evaluator.values)
        _check_best(evaluator)

    def test_finds_a_front_or_says_that_it_cannot(self, new_agent: Callable[[], SearchesMapSpaces]) -> None:
        """Energy and latency at once are not for everyone; who does not declare it refuses it.

        Without links between neighbours, with which no front can be proven.
        """
        agent = new_agent()
        space = self.space(agent)
        space = MapSpace(space.workload, replace(space.accelerator, peer_links=False), space.axes)
        evaluator = Evaluator(space, "pareto", Budget(samples=self.samples))
        if "pareto" not in agent.objectives:
            with pytest.raises(SpecificationError, match="pareto"):
                agent.search(evaluator, 0)
            return
        agent.search(evaluator, 0)
        assert evaluator.front
        mappings = MappingBatch.concatenate([point.mapping.batch() for point in evaluator.front])
        costs = CostModel(space.workload, space.accelerator).evaluate(mappings)
        assert np.all(space.contains(mappings))
        assert np.all(np.diff(costs.latency_cycles) > 0)
        assert np.all(np.diff(costs.energy_pj) < 0)

    def test_minimises_over_densities_or_says_that_it_cannot(self, new_agent: Callable[[], SearchesMapSpaces]) -> None:
        """Several densities at once are not for everyone; who does not declare it refuses it."""
        agent = new_agent()
        aware = SparsityAware((1.0, 0.5, 0.1))
        space = MapSpace(
            self.space(agent).workload,
            self.counted(agent, small_sparse_accelerator()),
            ("tile", "order", "parallelism"),
        )
        evaluator = RecordingEvaluator(space, aware, Budget(samples=self.samples))
        if SPARSITY_AWARE not in agent.objectives:
            with pytest.raises(SpecificationError, match=SPARSITY_AWARE):
                agent.search(evaluator, 0)
            return
        agent.search(evaluator, 0)
        assert 1 <= evaluator.mappings == len(evaluator.values) <= self.samples // 3
        assert evaluator.samples == 3 * evaluator.mappings
        assert evaluator.best_mapping is not None
        assert np.all(space.contains(evaluator.best_mapping.batch()))
        cost = DensitySet(space.workload, space.accelerator, aware).evaluate(evaluator.best_mapping)
        assert cost.legal
        assert cost.objective(aware) == evaluator.best_value == evaluator.trace.values[-1] == min(evaluator.values)
        assert evaluator.ratio == evaluator.best_value >= 1.0

    @pytest.mark.parametrize("task", odd_tasks())
    def test_answers_about_the_task_that_it_was_given(
        self, new_agent: Callable[[], SearchesMapSpaces], task: str
    ) -> None:
        """It finds a mapping of whatever is a task, or says in one sentence whose task it cannot search."""
        agent = new_agent()
        workload, accelerator = odd_tasks()[task]
        try:
            axes = tuple(axis for axis in AXES if axis in agent.axes)
            evaluator = self.run(agent, MapSpace(workload, self.counted(agent, accelerator), axes), 60)
        except SpecificationError as error:
            message = str(error)
            names = (getattr(agent, "name", ""), workload.name, accelerator.name)
            assert any(f"'{name}'" in message for name in names), message
            assert "\n" not in message
        else:
            _check_best(evaluator)

    @pytest.mark.parametrize("seed", [-1, 2**32, 2**64, 1.5, None, "1"])
    def test_refuses_what_is_no_seed(self, new_agent: Callable[[], SearchesMapSpaces], seed: Any) -> None:
        """The same seeds are seeds for all agents."""
        agent = new_agent()
        with pytest.raises(SpecificationError, match=r"seed is .*; give a whole number from 0 to 4294967295"):
            agent.search(Evaluator(self.space(agent), budget=Budget(samples=5)), seed)

    def test_takes_the_largest_seed(self, new_agent: Callable[[], SearchesMapSpaces]) -> None:
        """No library under an agent has fewer bits."""
        agent = new_agent()
        _check_best(self.run(agent, self.space(agent), 40, seed=2**32 - 1))

    def test_can_be_interrupted(self, new_agent: Callable[[], SearchesMapSpaces]) -> None:
        """Ctrl-C comes through, and the evaluator has what was found."""
        agent = new_agent()
        # Without randomness an agent may be done after a few samples.
        enough = 1 if _is_deterministic(agent) else self.samples // 4

        def press_ctrl_c(evaluator: Evaluator) -> None:
            if evaluator.samples >= enough:
                raise KeyboardInterrupt

        evaluator = RecordingEvaluator(self.space(agent), budget=Budget(samples=self.samples), on_batch=[press_ctrl_c])
        with pytest.raises(KeyboardInterrupt):
            agent.search(evaluator, 0)
        assert evaluator.samples < self.samples
        _check_best(evaluator)


def _is_deterministic(agent: SearchesMapSpaces) -> bool:
    return bool(getattr(agent, "deterministic", False))


def _check_best(evaluator: Evaluator) -> None:
    """The best mapping is a legal member of the space, and costs what the evaluator says."""
    mapping = evaluator.best_mapping
    assert mapping is not None
    assert np.all(evaluator.space.contains(mapping.batch()))
    cost = CostModel(evaluator.space.workload, evaluator.space.accelerator).evaluate(mapping)
    assert cost.legal
    assert cost.objective(evaluator.objective) == evaluator.best_value == evaluator.trace.values[-1]
