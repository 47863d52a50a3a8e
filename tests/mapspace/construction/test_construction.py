"""The construction process against brute force: what can be reached is what is legal, no more and no less."""

from __future__ import annotations

import math

import numpy as np
import pytest

from brute_force import Key, enumerate_space, key_of
from mapgym.errors import SpecificationError
from mapgym.mapping import Mapping
from mapgym.mapping.legality import batch_status
from mapgym.mapping.legality_kernels import pack_rules
from mapgym.mapspace import MapSpace
from mapgym.mapspace.construction.construction import Construction
from mapgym.mapspace.construction.decision_kernels import COMPLETE, DEAD_END, advance, choices_size, choose
from mapgym.spec.accelerator import Accelerator
from mapgym.spec.constraints import Constraints
from mapgym.spec.levels import Mac, StorageLevel
from mapgym.spec.tensor import Tensor
from mapgym.spec.workload import Workload, conv2d, matmul

GEMM = matmul("gemm", B=1, M=4, K=2, N=2)
CONV = conv2d("conv_1d", N=1, C=2, M=1, P=4, Q=1, R=2, S=1)
DIAGONAL = Workload(
    "diagonal",
    ("I", "J"),
    (4, 6),
    (
        Tensor("A", ((("I", 1),), (("I", 2), ("J", 1)))),
        Tensor("Outputs", ((("J", 1),),), is_output=True),
    ),
)


def two_levels(capacity: int | None = 6, x: int = 2, y: int = 1, links: bool = False) -> Accelerator:
    return Accelerator(
        "two",
        (StorageLevel("Buffer", capacity), StorageLevel("Memory")),
        Mac("MAC", x, y),
        peer_links=links,
    )


def three_levels(
    inner: int | None = 5,
    outer: int | None = 9,
    keep_only: tuple[str, ...] | None = None,
    check: str = "per_level",
    links: bool = False,
) -> Accelerator:
    return Accelerator(
        "three",
        (
            StorageLevel("Registers", inner, 2, 1, keep_only=keep_only),
            StorageLevel("Buffer", outer),
            StorageLevel("Memory"),
        ),
        Mac("MAC", 4, 1),
        peer_links=links,
        fanout_check=check,
    )


MESH = Accelerator(
    "mesh",
    (StorageLevel("Buffer", 10), StorageLevel("Memory")),
    Mac("MAC", 2, 3),
    peer_links=True,
)
CASES = {
    "tight capacity": MapSpace(GEMM, two_levels(5)),
    "no capacity": MapSpace(GEMM, two_levels(None)),
    "links": MapSpace(GEMM, two_levels(7, x=4, links=True)),
    "sliding window": MapSpace(CONV, two_levels(9, x=3)),
    "2-D mesh with links": MapSpace(matmul("gemm", B=1, M=2, K=2, N=3), MESH),
    "Y only": MapSpace(GEMM, two_levels(7, x=1, y=2)),
    "three levels": MapSpace(matmul("gemm", B=1, M=4, K=1, N=2), three_levels()),
    "one tensor per inner level": MapSpace(
        matmul("gemm", B=1, M=4, K=1, N=2), three_levels(4, 7, keep_only=("Weights",))
    ),
    "cumulative fan-out": MapSpace(matmul("gemm", B=1, M=4, K=1, N=2), three_levels(check="cumulative")),
    "a dim in two ranks": MapSpace(DIAGONAL, two_levels(40)),
    "bypass": MapSpace(matmul("gemm", B=1, M=2, K=1, N=2), two_levels(3), axes=("tile", "parallelism", "bypass")),
    "bypass, three levels": MapSpace(
        matmul("gemm", B=1, M=2, K=1, N=2), three_levels(2, 4), axes=("tile", "parallelism", "bypass")
    ),
    "tile only": MapSpace(GEMM, two_levels(6), axes=("tile",)),
    "order only": MapSpace(GEMM, two_levels(6), axes=("order",)),
    "bypass only": MapSpace(GEMM, two_levels(2), axes=("bypass",)),
    "fixed factors": MapSpace(
        GEMM,
        two_levels(8, x=4),
        constraints=Constraints(factors={"Buffer": {"M": {"spatial": 2}, "K": {"temporal": 2}}}),
    ),
    "fixed factor on a 2-D mesh": MapSpace(
        matmul("gemm", B=1, M=2, K=2, N=3), MESH, constraints=Constraints(factors={"Buffer": {"M": {"spatial": 2}}})
    ),
    "two fixed factors on a 2-D mesh": MapSpace(
        matmul("gemm", B=1, M=2, K=2, N=3),
        MESH,
        constraints=Constraints(factors={"Buffer": {"M": {"spatial": 2}, "K": {"spatial": 2}}}),
    ),
    "fixed outermost tile": MapSpace(
        matmul("gemm", B=1, M=4, K=1, N=2),
        three_levels(6, 12),
        constraints=Constraints(factors={"Memory": {"M": {"temporal": 1}}}),
    ),
    "fixed order, few parallel dims": MapSpace(
        GEMM, two_levels(8, x=4), constraints=Constraints(orders={"Memory": ["K", "M"]}, parallel_dims=("M", "N"))
    ),
}


def base_with_parallelism() -> tuple[MapSpace, MapSpace]:
    """Spaces whose base mapping is not the trivial one, so that what an axis keeps shows."""
    accelerator = two_levels(None, x=4)
    base = Mapping.trivial(GEMM, accelerator)
    m = GEMM.dims.index("M")
    base.temporal[:, m] = (1, 1)
    base.spatial[0, m] = 4
    base.spatial_order[0] = (m, 0, 2, 3)
    base.spatial_split[0] = 1
    return (
        MapSpace(GEMM, accelerator, axes=("parallelism",), base=base),
        MapSpace(GEMM, accelerator, axes=("tile", "order"), base=base),
    )


CASES["level factors of the base"], CASES["parallelism of the base"] = base_with_parallelism()


def reachable(construction: Construction) -> tuple[set[Key], int]:
    """All mappings that following the legal choices leads to, and the number of ways to get there."""
    size = choices_size(construction.task)
    choices, weights = np.empty(size, np.int64), np.empty(size)
    complete: list[np.ndarray] = []

    def follow(state: np.ndarray) -> None:
        count = advance(construction.task, construction.ways, state, choices, weights)
        assert count != DEAD_END
        if count == COMPLETE:
            complete.append(state)
        for choice in choices[: max(count, 0)].tolist():
            following = state.copy()
            choose(construction.task, following, choice)
            follow(following)

    follow(construction.initial_state.copy())
    batch = construction.export(np.stack(complete), np.arange(len(complete)))
    assert np.all(batch_status(batch, pack_rules(construction.space.workload, construction.space.accelerator)) == 0)
    return {key_of(batch, i) for i in range(len(batch))}, len(batch)


@pytest.mark.parametrize("name", CASES)
def test_choices__reach_exactly_the_legal_mappings(name: str) -> None:
    construction = Construction(CASES[name].definition)
    assert construction.inexact == ""
    found, paths = reachable(construction)
    assert found == enumerate_space(CASES[name])
    assert paths == len(found), "every mapping is reached in one way only"


@pytest.mark.parametrize("name", CASES)
def test_sample__is_legal_and_reaches_all(name: str) -> None:
    legal = enumerate_space(CASES[name])
    batch = CASES[name].construction.sample(np.random.default_rng(1), 3000)
    found = {key_of(batch, i) for i in range(len(batch))}
    assert found <= legal
    if len(legal) <= 200:
        assert found == legal


def test_innermost_orders__leave_one_choice_per_level() -> None:
    space = MapSpace(GEMM, two_levels(None, links=True))
    found, paths = reachable(Construction(space.definition, orders="innermost"))
    assert paths == len(found)
    dims = list(GEMM.dims)
    expected = set()
    for key in enumerate_space(space):
        loops, meshes, _ = key
        rest = [[dims.index(dim) for dim, _ in level[1:]] for level in loops]
        spatial = [[dims.index(dim) for dim, _ in axis] for level in meshes for axis in level]
        if all(order == sorted(order) for order in rest + spatial):
            expected.add(key)
    assert found == expected


def test_sample__takes_each_legal_choice_equally_often() -> None:
    workload = matmul("gemm", B=1, M=8, K=1, N=1)
    space = MapSpace(workload, three_levels(None, None), axes=("tile",))
    batch = space.construction.sample(np.random.default_rng(0), 24_000)
    found, counts = np.unique(batch.temporal.reshape(len(batch), 3, -1).max(axis=2), axis=0, return_counts=True)
    # The innermost factor is 1, 2, 4 or 8, the next one any divisor of what is left of 8.
    expected = {(a, b, 8 // a // b): 6000 / k for a, k in ((1, 4), (2, 3), (4, 2), (8, 1)) for b in (1, 2, 4, 8)[:k]}
    assert {tuple(map(int, factors)) for factors in found} == set(expected)
    for factors, count in zip(found, counts, strict=True):
        mean = expected[tuple(map(int, factors))]
        assert abs(count - mean) < 5 * math.sqrt(mean)


def test_sample__same_seed_same_mappings_and_none_asked() -> None:
    space = CASES["links"]
    first, second = (space.construction.sample(np.random.default_rng(7), 100) for _ in range(2))
    assert first == second
    assert first != space.construction.sample(np.random.default_rng(8), 100)
    assert len(space.construction.sample(np.random.default_rng(0), 0)) == 0


def test_sample__on_random_tasks_is_legal() -> None:
    rng = np.random.default_rng(5)
    for _ in range(20):
        x, y = (int(v) for v in rng.choice([1, 2, 3, 4], 2))
        accelerator = Accelerator(
            "random",
            (
                StorageLevel("A", int(rng.integers(3, 60)), 2, y),
                StorageLevel("B", int(rng.integers(20, 200)), 1, y),
                StorageLevel("C"),
            ),
            Mac("MAC", 2 * x, y),
            fanout_check=str(rng.choice(["per_level", "cumulative"])),
        )
        workload = conv2d(
            "random", N=1, C=6, M=int(rng.integers(1, 9)), P=12, Q=int(rng.integers(1, 5)), R=3, S=2, stride=2
        )
        space = MapSpace(workload, accelerator, axes=("tile", "order", "parallelism", "bypass"))
        batch = space.construction.sample(rng, 500)
        assert np.all(batch_status(batch, pack_rules(workload, accelerator)) == 0)


def test_inexact_constraints__are_named_and_sampled_by_retrying() -> None:
    constraints = Constraints(factors={"Memory": {"M": {"temporal": 1}}, "Buffer": {"M": {"temporal": 1}}})
    accelerator = Accelerator(
        "wide", (StorageLevel("Registers", 12, 4), StorageLevel("Buffer", 40), StorageLevel("Memory")), Mac("MAC", 4)
    )
    workload = matmul("gemm", B=1, M=8, K=2, N=4)
    space = MapSpace(workload, accelerator, constraints=constraints)
    assert "M" in Construction(space.definition).inexact
    batch = space.construction.sample(np.random.default_rng(0), 300)
    assert np.all(batch_status(batch, pack_rules(workload, accelerator)) == 0)
    assert np.all(batch.temporal[:, 1:, 1] == 1)


def test_empty_spaces__are_refused_in_one_sentence() -> None:
    with pytest.raises(SpecificationError, match="must hold at least 3 words"):
        Construction(MapSpace(GEMM, two_levels(2)).definition)
    full = Accelerator("full", (StorageLevel("Buffer"), StorageLevel("Memory", 15)), Mac("MAC"))
    with pytest.raises(SpecificationError, match="must hold at least 20 words"):
        Construction(MapSpace(GEMM, full).definition)
    with pytest.raises(SpecificationError, match="orders is 'inner'"):
        Construction(MapSpace(GEMM, two_levels()).definition, orders="inner")
