from __future__ import annotations

import dataclasses
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, strategies as st

from mapgym.agents import make_agent
from mapgym.agents.search.evolution.evolution import Evolution, _first_of_each
from mapgym.agents.search.evolution.evolution_kernels import cost_hash, dataflow
from mapgym.agents.search.gamma.genome import PLANES
from mapgym.agents.search.gamma.genome_kernels import read_genome
from mapgym.cost import CostModel
from mapgym.errors import SpecificationError
from mapgym.evaluation.best_known import best_known
from mapgym.evaluation.evaluator import Budget, Evaluator
from mapgym.evaluation.front import PARETO
from mapgym.mapping import Mapping, MappingBatch
from mapgym.mapping.mapping import factor_products
from mapgym.mapping.maps import Maps
from mapgym.mapspace import MapSpace
from mapgym.spec import catalog
from mapgym.spec.constraints import Constraints
from mapgym.spec.workload import Workload, conv2d, depthwise_conv2d, matmul
from mapgym.testing.agents import small_accelerator

AXES = ("tile", "order", "parallelism", "bypass")
MUTATIONS = [
    "move",
    "exchange",
    "parallelism",
    "retile",
    "trade",
    "refill_level",
    "refill_array",
    "promote",
    "order",
    "bypass",
    "trade_tensors",
]
CONV = conv2d("conv", N=2, C=12, M=8, P=6, Q=5, R=3, S=3, stride=2)
WORKLOADS = [
    CONV,
    depthwise_conv2d("depthwise", N=1, C=16, P=7, Q=14, R=3, S=3),
    matmul("matmul", B=3, M=30, K=16, N=8, shared_weights=True),
]


def bred(space: MapSpace, n: int = 400, **parameters: float) -> tuple[MappingBatch, MappingBatch]:
    """Random parents and their children."""
    agent = Evolution(**parameters)  # type: ignore[arg-type]
    rng = np.random.default_rng(1)
    agent.start(space, rng, "edp")
    parents = space.sample(rng, 30)
    return parents, agent._breed(parents, n)


def only(mutation: str) -> dict[str, float]:
    return {**dict.fromkeys(MUTATIONS, 0.0), mutation: 1.0, "crossover": 0.0, "persistence": 0.0, "fill": 0.0}


def cost_hashes(space: MapSpace, batch: MappingBatch) -> list[int]:
    agent = Evolution()
    agent.start(space, np.random.default_rng(0), "edp")
    levels, dims = batch.temporal.shape[1:]
    genome = np.zeros((PLANES, levels, max(dims, batch.keep.shape[2])), np.int64)
    found = []
    for i in range(len(batch)):
        read_genome(Maps(*batch.arrays()), i, genome)
        found.append(int(cost_hash(genome, agent._breeding)))
    return found


@pytest.mark.parametrize("workload", WORKLOADS, ids=lambda workload: workload.name)
@pytest.mark.parametrize("fanout_check", ["per_level", "cumulative"])
@pytest.mark.parametrize("peer_links", [True, False])
def test_children_are_members_of_the_space(workload: Workload, fanout_check: str, peer_links: bool) -> None:
    space = MapSpace(workload, small_accelerator(fanout_check=fanout_check, peer_links=peer_links), axes=AXES)
    _, children = bred(space)
    assert (factor_products(children) == workload.bounds).all()
    assert np.all(space.contains(children))


@pytest.mark.parametrize(
    ("axes", "constraints"),
    [
        (("tile", "order"), {}),
        (("parallelism", "order"), {}),
        (("order",), {}),
        (AXES, {"factors": {"Buffer": {"C": {"spatial": 2}, "M": {"temporal": 2}}}}),
        (AXES, {"factors": {"Registers": {"M": {"temporal": 4}}, "Memory": {"P": {"temporal": 1}}}}),
    ],
)
def test_children_keep_what_is_fixed(axes: tuple[str, ...], constraints: dict[str, object]) -> None:
    accelerator = small_accelerator()
    names = dict(zip(["Registers", "Buffer", "Memory"], accelerator.level_names, strict=True))
    factors = {names[level]: by_dim for level, by_dim in constraints.get("factors", {}).items()}  # type: ignore[attr-defined]
    base = MapSpace(CONV, accelerator).sample(np.random.default_rng(5), 1)[0] if len(axes) < 4 else None
    space = MapSpace(CONV, accelerator, axes=axes, constraints=Constraints(factors=factors), base=base)
    _, children = bred(space)
    assert np.all(space.contains(children))


@pytest.mark.parametrize("mutation", MUTATIONS)
def test_each_mutation_alone_changes_something_and_keeps_mappings_legal(mutation: str) -> None:
    space = MapSpace(CONV, small_accelerator(), axes=AXES)
    parents, children = bred(space, n=60, **only(mutation))
    assert np.all(space.contains(children))
    known = {tuple(array.tobytes() for array in row.arrays()) for row in space.canonical(parents)}
    new = sum(tuple(array.tobytes() for array in row.arrays()) not in known for row in space.canonical(children))
    assert new > 20


def test_filling_gives_idle_macs_work() -> None:
    space = MapSpace(matmul("matmul", M=16, K=16, N=16), small_accelerator())
    busy = [
        np.mean(bred(space, n=1000, fill=fill, screening=0.0)[1].used_macs() == space.accelerator.mac.instances)
        for fill in (0.0, 1.0)
    ]
    assert busy[1] > 0.85
    assert busy[1] > busy[0] + 0.25


def test_children_that_idle_more_macs_are_refused() -> None:
    accelerator = small_accelerator()
    space = MapSpace(matmul("matmul", M=16, K=16, N=16), accelerator)
    full = space.sample(np.random.default_rng(0), 500)
    full = full[np.flatnonzero(full.used_macs() == accelerator.mac.instances)]
    agent = Evolution(fill=0.0, screening=1.0)
    agent.start(space, np.random.default_rng(0), "edp")
    assert np.mean(agent._breed(full, 200).used_macs() == accelerator.mac.instances) > 0.95


def test_children_that_leave_much_of_a_buffer_empty_are_refused() -> None:
    workload = matmul("matmul", M=16, K=16, N=16)
    space = MapSpace(workload, small_accelerator())
    m, k, n = (workload.dims.index(dim) for dim in "MKN")

    def words(batch: MappingBatch) -> np.ndarray:
        extents = (batch.temporal[:, :2] * batch.spatial[:, :2]).prod(axis=1)
        return extents[:, m] * extents[:, k] + extents[:, k] * extents[:, n] + extents[:, m] * extents[:, n]

    drawn = space.sample(np.random.default_rng(0), 3000)
    parents = drawn[np.argsort(-words(drawn))[:30]]
    assert len(set(words(parents))) == 1
    emptier = []
    for screening in (0.0, 1.0):
        agent = Evolution(fill=0.0, crossover=0.0, screening=screening, attempts=100)
        agent.start(space, np.random.default_rng(0), "edp")
        emptier.append(np.mean(words(agent._breed(parents, 300)) < 0.75 * words(parents)[0]))
    assert emptier[0] > 0.2
    assert emptier[1] == 0.0


@pytest.mark.parametrize("workload", WORKLOADS, ids=lambda workload: workload.name)
def test_mappings_of_the_same_hash_cost_the_same(workload: Workload) -> None:
    """What the hash leaves out, a loop further outside that moves as the innermost one does, is too rare here."""
    space = MapSpace(workload, small_accelerator(peer_links=False), axes=AXES)
    rng = np.random.default_rng(3)
    mappings = space.sample(rng, 100)
    batch = mappings[np.repeat(np.arange(100), 30)]
    batch.order[:] = rng.permuted(batch.order, axis=2)
    energy = CostModel(workload, space.accelerator).evaluate(batch).energy_pj
    by_hash: dict[int, list[float]] = {}
    for key, value in zip(cost_hashes(space, batch), energy, strict=True):
        by_hash.setdefault(key, []).append(float(value))
    assert sum(len(values) > 1 for values in by_hash.values()) > 10
    for values in by_hash.values():
        assert max(values) == pytest.approx(min(values), rel=1e-12)
    assert len(by_hash) > 200


def test_cost_hash_knows_what_an_order_is_good_for() -> None:
    """M x K x N, all at the outermost level: with N innermost the inputs [M, K] stay, and what follows N is a set."""
    space = MapSpace(matmul("gemm", M=4, K=2, N=8), small_accelerator(peer_links=False))
    trivial = Mapping.trivial(space.workload, space.accelerator).batch()
    dims = space.workload.dims
    batch = MappingBatch.concatenate([trivial] * 3)
    for i, order in enumerate([("N", "M", "K"), ("N", "K", "M"), ("M", "N", "K")]):
        first = [dims.index(dim) for dim in order]
        batch.order[i, -1] = first + [d for d in range(len(dims)) if d not in first]
    a, b, c = cost_hashes(space, batch)
    assert a == b
    assert a != c


@pytest.mark.parametrize(
    ("objective", "is_busy"), [("edp", True), ("latency", True), ("energy", False), (PARETO, False)]
)
def test_a_population_begins_with_the_busiest_of_many_unless_energy_counts(objective: str, is_busy: bool) -> None:
    space = MapSpace(CONV, small_accelerator(), axes=AXES)
    agent = Evolution(oversampling=5)
    agent.start(space, np.random.default_rng(3), objective)
    first = agent.ask(1)
    rng = np.random.default_rng(3)
    rng.integers(2**63, size=1, dtype=np.uint64)
    drawn = space.sample(rng, len(first) * (5 if is_busy else 1)).used_macs()
    assert sorted(first.used_macs()) == sorted(drawn)[-len(first) :]
    assert len(set(drawn)) > 1


def test_a_population_that_has_converged_is_replaced_by_a_larger_one() -> None:
    space = MapSpace(matmul("tiny", M=2, K=2, N=2), small_accelerator(), axes=("tile",))
    agent = Evolution(population=4, drawn=1.0, batch=4, patience=2.0, growth=2.0)
    model = CostModel(space.workload, space.accelerator)
    agent.start(space, np.random.default_rng(0), "edp")
    sizes = []
    for _ in range(60):
        batch = agent.ask(1000)
        sizes.append(len(batch))
        agent.tell(batch, model.evaluate(batch))
    assert [size for size in sizes if size > 4][:2] == [8, 16]


def test_at_most_a_share_of_the_survivors_has_the_same_dataflow() -> None:
    space = MapSpace(CONV, small_accelerator(), axes=("tile", "order", "parallelism"))
    agent = Evolution(share=0.25)
    model = CostModel(space.workload, space.accelerator)
    agent.start(space, np.random.default_rng(0), "edp")
    for _ in range(20):
        batch = agent.ask(1000)
        agent.tell(batch, model.evaluate(batch))
        assert agent._parents is not None
        maps = Maps(*agent._parents.arrays())
        flows = [dataflow(maps, i, agent._breeding.rules.relevant) for i in range(len(agent._parents))]
        assert max(Counter(flows).values()) <= 5
        assert (np.diff(agent._values) > 0).all()
    assert len(flows) == 20


def test_a_dataflow_is_what_levels_keep_and_what_stays_under_the_innermost_loop_outside() -> None:
    """Weights [K, N] stay while M goes on. Loops of bound 1, and loops further outside, have no part in it."""
    accelerator = small_accelerator(peer_links=False)
    workload = matmul("gemm", M=4, K=4, N=4)
    m, k, n = (workload.dims.index(dim) for dim in "MKN")
    relevant = np.array([[dim in t.dims for t in workload.tensors] for dim in workload.dims])
    rest = [d for d in range(len(workload.dims)) if d not in (m, k, n)]

    def flow(order: tuple[int, ...], inner: int | None = None, bypassed: bool = False) -> int:
        batch = Mapping.trivial(workload, accelerator).batch()
        batch.order[0, -1] = [*rest, *order]
        if inner is not None:
            batch.temporal[0, 1, inner], batch.temporal[0, -1, inner] = 2, 2
        if bypassed:
            batch.keep[0, 0, 0] = False
        return int(dataflow(Maps(*batch.arrays()), 0, relevant))

    assert flow((m, k, n)) == flow((m, n, k))
    assert len({flow((m, k, n)), flow((k, m, n)), flow((n, m, k)), flow((m, k, n), bypassed=True)}) == 4
    # A loop M of the buffer makes the weights stay in the registers; under K outside the outputs stay in the buffer.
    assert flow((m, k, n), inner=m) == flow((m, k, n))
    assert flow((k, m, n), inner=m) not in (flow((k, m, n)), flow((m, k, n)))


def test_tensors_trade_the_levels_that_keep_them() -> None:
    space = MapSpace(CONV, small_accelerator(), axes=AXES)
    parents, children = bred(space, n=200, **only("trade_tensors"), screening=0.0)
    columns = {frozenset(Counter(map(bytes, row.keep.T)).items()) for row in parents}
    for child in children:
        assert frozenset(Counter(map(bytes, child.keep.T)).items()) in columns


def test_without_weights_there_is_nothing_to_search_with() -> None:
    space = MapSpace(CONV, small_accelerator(), axes=("order",))
    with pytest.raises(SpecificationError, match="no mutation of the axes order has a weight above 0"):
        Evolution(promote=0, order=0).search(Evaluator(space), 0)


def test_it_comes_within_two_percent_of_the_optimum() -> None:
    accelerator = dataclasses.replace(catalog.accelerator("accel_b"), peer_links=False)
    space = MapSpace(catalog.workload("resnet18/conv4_shortcut"), accelerator)
    optimum = best_known(space, "edp")
    assert optimum is not None
    values = []
    for seed in range(3):
        evaluator = Evaluator(space, budget=Budget(samples=5000))
        Evolution().search(evaluator, seed)
        values.append(evaluator.best_value)
    assert np.median(values) < 1.02 * optimum.value


@given(st.lists(st.sampled_from([1.0, 2.0, 2.5, 3.0, np.inf, np.nan]), max_size=12))
def test_of_mappings_with_the_same_cost_the_first_survives(values: list[float]) -> None:
    finite = sorted({value for value in values if np.isfinite(value)})
    expected = [values.index(value) for value in finite]
    assert _first_of_each(np.array(values)).tolist() == expected
    both = np.array([[1.0, value] for value in values]).reshape(-1, 2)
    assert _first_of_each(both).tolist() == expected


@pytest.mark.parametrize("name", ["evolution", "gamma"])
def test_children_stay_within_ranges_and_partly_free_orders(name: str) -> None:
    space = MapSpace(
        CONV,
        small_accelerator(),
        constraints={"factors": {"Registers": {"C": {"temporal": ">=2"}}}, "orders": {"Memory": ["Q", "*"]}},
    )
    priced = []

    class Recorder(Evaluator):
        def evaluate(self, batch):
            priced.append(batch)
            return super().evaluate(batch)

    make_agent(name).search(Recorder(space, budget=Budget(samples=1500)), 0)
    assert space.contains(MappingBatch.concatenate(priced)).all()
