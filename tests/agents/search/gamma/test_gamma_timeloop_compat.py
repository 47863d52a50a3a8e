from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from mapgym.agents.search.gamma.timeloop_compat import (
    GammaTimeloopCompat,
    _batch_dim,
    _filter_dims,
    _genomes,
    _make_rules,
    _trivial_genome,
)
from mapgym.agents.search.gamma.timeloop_compat_kernels import (
    FACTOR,
    KEEP,
    ORDER,
    PARALLEL,
    CompatRules,
    exchange,
    express,
    fits,
    mutate,
    randomise,
)
from mapgym.cost import CostModel
from mapgym.mapping import MappingBatch
from mapgym.mapping.mapping import factor_products
from mapgym.mapping.maps import Maps
from mapgym.mapspace import MapSpace
from mapgym.spec import catalog
from mapgym.spec.accelerator import Accelerator
from mapgym.spec.constraints import Constraints
from mapgym.spec.levels import Mac, StorageLevel
from mapgym.spec.workload import Workload, conv2d, depthwise_conv2d, matmul, mttkrp
from mapgym.testing.agents import small_accelerator

AXES = ("tile", "order", "parallelism", "bypass")
CONV = conv2d("conv", N=2, C=12, M=8, P=6, Q=10, R=3, S=3)
N, C, P, Q, R, S, M = range(7)
"""The dims of a convolution, in the order of the workload."""


def array(fanout: int = 4, words: int = 1000) -> Accelerator:
    """A buffer of a given size, a row of processing elements, a memory."""
    return Accelerator(
        "row",
        (
            StorageLevel("Registers", capacity_words=words, mesh_x=fanout),
            StorageLevel("Buffer", capacity_words=10**6),
            StorageLevel("Memory"),
        ),
        Mac(mesh_x=fanout),
    )


def setup(space: MapSpace, seed: int = 0) -> tuple[CompatRules, NDArray[np.int64], NDArray[np.uint64]]:
    rules = _make_rules(space, np.random.default_rng(seed))
    return rules, _trivial_genome(space, rules), np.array([seed + 1], np.uint64)


def expressed(space: MapSpace, rules: CompatRules, genome: NDArray[np.int64]) -> MappingBatch:
    batch = MappingBatch.trivial(space.workload, space.accelerator, 1)
    express(genome, rules, space.sorting, Maps(*batch.arrays()), 0)
    return batch


def generation(agent: GammaTimeloopCompat, space: MapSpace) -> MappingBatch:
    agent.start(space, np.random.default_rng(0), "edp")
    return agent.ask(1)


@pytest.mark.parametrize(
    ("workload", "filters", "batch", "parallel", "crossed", "weights"),
    [
        (CONV, {"R", "S"}, "N", "NCPQM", "CPQM", [0.1, 0.2, 0.2, 0.2, 0.05, 0.05, 0.2]),
        (depthwise_conv2d("d", C=4, P=4, Q=4, R=3, S=3), {"R", "S"}, "N", "NCPQ", "CPQ", None),
        (matmul("m", B=2, M=4, K=4, N=4), set(), "B", "BMKN", "MKN", [1 / 7, 2 / 7, 2 / 7, 2 / 7]),
        (mttkrp("t", I=2, J=2, K=2, L=2), set(), "N", "IJKL", "IJKL", [0.25] * 4),
    ],
)
def test_roles_of_dims(
    workload: Workload, filters: set[str], batch: str, parallel: str, crossed: str, weights: list[float] | None
) -> None:
    assert _filter_dims(workload) == filters
    assert _batch_dim(workload) == batch
    rules = _make_rules(MapSpace(workload, array()), np.random.default_rng(0))
    assert "".join(workload.dims[d] for d in rules.parallel_dims) == parallel
    assert "".join(workload.dims[d] for d in rules.crossed_dims) == crossed
    if weights:
        assert np.diff(rules.dim_weights, prepend=0) == pytest.approx(weights)


def test_the_trivial_individual() -> None:
    space = MapSpace(CONV, array())
    _, genome, _ = setup(space)
    assert genome[FACTOR].tolist() == [[1] * 7, [1] * 7, list(CONV.bounds)]
    assert [CONV.dims[d] for d in genome[ORDER, 0]] == list("NMCPQRS")
    # Only the buffer has a fan-out; channels, rows and columns of the output are parallel there.
    assert [level.tolist() for level in genome[PARALLEL]] == [[0] * 7, [0, 0, 1, 1, 0, 0, 1], [0] * 7]


def test_whole_factors_are_spatial_and_excess_goes_to_memory() -> None:
    space = MapSpace(CONV, array(fanout=4))
    rules, genome, _ = setup(space)
    rules = rules._replace(walk=np.array([M, P, C, N, Q, R, S]))
    genome[FACTOR, 1, [M, P, C]] = [2, 3, 2]
    genome[FACTOR, 2, [M, P, C]] = [4, 2, 6]
    genome[PARALLEL, 1] = [0, 1, 1, 0, 0, 0, 1]
    batch = expressed(space, rules, genome)
    # 12 > 4: M goes first, 6 > 4: P goes as well, and then C fits.
    assert batch.spatial[0, 1].tolist() == [1, 2, 1, 1, 1, 1, 1]
    assert batch.temporal[0, 1].tolist() == [1] * 7
    assert batch.temporal[0, 2, [M, P, C]].tolist() == [8, 6, 6]
    assert (factor_products(batch) == CONV.bounds).all()


def test_a_mesh_is_filled_along_x_first() -> None:
    space = MapSpace(CONV, small_accelerator())
    rules, genome, _ = setup(space)
    rules = rules._replace(walk=np.arange(7))
    genome[FACTOR, 1, [N, M]] = 2
    genome[FACTOR, 2, [N, M]] = [1, 4]
    genome[PARALLEL, 1, [N, M]] = 1
    mapping = expressed(space, rules, genome)[0]
    assert mapping.spatial_sides(1) == ([("N", 2)], [("M", 2)])
    # A factor of 4 fits the whole mesh of 2 x 2, but neither of its sides.
    genome[FACTOR, 1, [N, M]] = [1, 4]
    genome[FACTOR, 2, [N, M]] = [2, 2]
    mapping = expressed(space, rules, genome)[0]
    assert mapping.spatial_sides(1) == ([], [])
    assert mapping.temporal[2, M] == 8


def test_words_are_counted_without_strides() -> None:
    """A tile of 2 x 1 outputs under a 3 x 1 filter: 4 inputs at any stride, 3 weights, 2 outputs."""
    for words, fitting in ((9, True), (8, False)):
        space = MapSpace(replace(conv2d("s", C=1, M=1, P=6, Q=1, R=3, S=1, stride=2)), array(words=words))
        rules, genome, _ = setup(space)
        genome[FACTOR, 0, [P, R]] = [2, 3]
        genome[FACTOR, 2, [P, R]] = [3, 1]
        assert fits(genome, rules, np.empty(7)) is fitting
        genome[KEEP, 0, :3] = [0, 1, 1]
        assert fits(genome, rules, np.empty(7))


def test_mutations_happen_as_often_as_in_the_released_code() -> None:
    space = MapSpace(CONV, array(), AXES)
    rules, trivial, state = setup(space)
    start = trivial.copy()
    randomise(start, rules, np.empty(7, np.int64), state)
    counts = np.zeros(4)
    retiled = np.zeros(7)
    n = 20_000
    for _ in range(n):
        g = start.copy()
        mutate(g, rules._replace(tile=False), state)
        counts += [(g[plane] != start[plane]).any() for plane in range(4)]
        g = start.copy()
        g[FACTOR, :] = trivial[FACTOR]
        mutate(g, rules._replace(bypass=False), state)
        # Tiles of two levels change places in half of the cases, so only what was spread inwards counts.
        retiled += (np.sort(g[FACTOR, :, :7], axis=0) != np.sort(trivial[FACTOR, :, :7], axis=0)).any(axis=0)
    # One level of three has no fan-out below, so every flip of a tensor counts; all dims may be added or removed.
    assert counts / n == pytest.approx([0, 0.1, 0.1, 0.5], abs=0.015)
    # Primes stay together at one of three levels in 1/3 ** (primes - 1) of the cases: C has 3 primes, S one.
    changed = retiled / n
    assert changed[C] == pytest.approx(0.2 * (1 - 1 / 9), abs=0.015)
    assert changed[M] == pytest.approx(0.2 * (1 - 1 / 9), abs=0.015)
    assert changed[P] == pytest.approx(0.2 * (1 - 1 / 3), abs=0.015)
    assert changed[S] == 0


def test_crossover_exchanges_one_thing_between_two_children() -> None:
    space = MapSpace(CONV, array(), AXES)
    rules, trivial, state = setup(space)
    parents = np.repeat(trivial[None], 2, axis=0)
    for parent in parents:
        randomise(parent, rules, np.empty(7, np.int64), state)
    planes = np.zeros(4)
    dims = np.zeros(7, np.int64)
    for _ in range(2000):
        pair = parents.copy()
        exchange(pair, 0, 1, rules, state)
        planes += [(pair[0, plane] != parents[0, plane]).any() for plane in range(4)]
        changed = (pair[0, FACTOR] != parents[0, FACTOR]).any(axis=0)
        assert changed.sum() <= 1
        dims += changed
        for plane in (ORDER, PARALLEL, KEEP):
            assert (pair[:, plane] == parents[:, plane]).all() or (pair[:, plane] == parents[::-1, plane]).all()
        assert (pair[:, FACTOR].prod(axis=1) == CONV.bounds).all()
    assert planes[1:] / 2000 == pytest.approx([0.25] * 3, abs=0.03)
    assert set(np.flatnonzero(dims)) <= {C, M, P, Q}
    assert len(np.flatnonzero(dims)) >= 2


def test_the_first_parents_are_trivial() -> None:
    """The random half of the first population is never priced nor bred: all fitnesses are still alike."""
    agent = GammaTimeloopCompat(population=10, inject=0.0)
    generation(agent, MapSpace(CONV, array()))
    trivial = _trivial_genome(agent._space, agent._rules)
    assert len(agent._parents) == 5
    assert (agent._parents == trivial).all()


def test_illegal_individuals_cost_a_sample_and_come_last() -> None:
    """Nothing fits registers of two words, so that every sample is illegal; the search goes on."""
    space = MapSpace(CONV, array(words=2))
    agent = GammaTimeloopCompat(population=20, repairs=3)
    batch = generation(agent, space)
    costs = CostModel(space.workload, space.accelerator).evaluate(batch)
    assert not np.isfinite(costs.objective("edp")).any()
    agent.tell(batch, costs)
    assert (agent._parents[0] == agent._children[0]).all()  # type: ignore[index]
    assert len(agent.ask(1)) == 20


@pytest.mark.parametrize("workload", [CONV, matmul("m", B=3, M=30, K=16, N=8)], ids=["conv", "matmul"])
@pytest.mark.parametrize("axes", [AXES, ("tile",), ("parallelism",), ("tile", "parallelism"), ("order", "bypass")])
def test_individuals_leave_alone_what_the_space_fixes(workload: Workload, axes: tuple[str, ...]) -> None:
    accelerator = small_accelerator()
    base = MapSpace(workload, accelerator, AXES).sample(np.random.default_rng(4), 1)[0]
    constraints = Constraints(factors={"Buffer": {"M": {"temporal": 2}}}) if axes == AXES else None
    space = MapSpace(workload, accelerator, axes, constraints, base)
    model = CostModel(workload, accelerator)
    agent = GammaTimeloopCompat(population=60)
    batch = generation(agent, space)
    for _ in range(5):
        costs = model.evaluate(batch)
        legal = np.isfinite(costs.objective("edp"))
        assert legal.any()
        assert np.all(space.contains(batch[legal]))
        agent.tell(batch, costs)
        batch = agent.ask(1)


def test_warm_starts_become_the_first_parents() -> None:
    space = MapSpace(catalog.workload("paper/resnet_conv4"), catalog.accelerator("accel_b"))
    agent = GammaTimeloopCompat(population=10)
    agent.start(space, np.random.default_rng(0), "edp")
    warm = space.sample(np.random.default_rng(1), 2)
    costs = CostModel(space.workload, space.accelerator).evaluate(warm)
    agent.tell(warm, costs)
    order = np.argsort(costs.objective("edp"))
    told = _genomes(space, agent._rules, warm)[order]
    assert (agent._parents[:2] == told).all()
    assert (agent._parents[2:] == _trivial_genome(space, agent._rules)).all()
