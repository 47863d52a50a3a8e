"""The certified optimum of deep hierarchies with networks, against every mapping of tiny spaces."""

from __future__ import annotations

import os
from dataclasses import replace

import numpy as np
import pytest

from brute_force_optimum import brute_force_value, constrained_space, random_deep_space
from mapgym.cost import OBJECTIVES
from mapgym.cost.optimum import find_optimum
from mapgym.errors import SpecificationError
from mapgym.mapspace import MapSpace
from mapgym.spec.accelerator import Accelerator
from mapgym.spec.catalog import accelerator, workload
from mapgym.spec.levels import Mac, StorageLevel
from mapgym.spec.workload import matmul

# MAPGYM_EXACT_CASES asks for more random spaces than a quick run has time for.
CASES = int(os.environ.get("MAPGYM_EXACT_CASES", "60"))
FIRST = int(os.environ.get("MAPGYM_EXACT_FIRST", "0"))

# Today's rules twice, as they are the default.
AXES = ("tile", "order", "parallelism", "bypass")
RULES = ("timeloop-2025", "timeloop-2022", "timeloop-2025", "timeloop-3.0.3")


@pytest.mark.parametrize("seed", range(FIRST, FIRST + CASES))
def test_equals_brute_force(seed: int) -> None:
    space = random_deep_space(np.random.default_rng([seed, 3]), rules=RULES[seed // 3 % len(RULES)])
    objective = OBJECTIVES[seed % 3]
    expected = brute_force_value(space, objective)
    if expected == np.inf:
        with pytest.raises(SpecificationError, match="no mapping"):
            find_optimum(space, objective)
        return
    found = find_optimum(space, objective)
    assert space.contains(found.mapping)
    assert found.cost.objective(objective) == found.value
    assert found.lower_bound <= expected
    assert found.value == pytest.approx(expected, rel=1e-12)
    assert found.certified == (found.gap <= 1e-6)


def test_axes_that_are_not_searched_and_fixed_factors_are_obeyed() -> None:
    rng = np.random.default_rng(0)
    checked = 0
    for seed in range(FIRST, FIRST + 3 * CASES):
        whole = random_deep_space(np.random.default_rng([seed, 4]), rules=RULES[seed % len(RULES)])
        space = constrained_space(rng, whole, len(whole.accelerator.levels))
        if space is None:
            continue
        found = find_optimum(space, OBJECTIVES[seed % 2])
        assert space.contains(found.mapping)
        assert found.value == pytest.approx(brute_force_value(space, OBJECTIVES[seed % 2]), rel=1e-12)
        assert found.certified == (found.gap <= 1e-6)
        checked += 1
    assert checked > CASES // 2


@pytest.mark.parametrize(
    ("task", "hardware", "value"),
    [
        ("resnet50/conv4_3x3", "simba_like", 4.570108e13),
        ("vit_b16/projection", "simba_like", 5.608804e13),
        ("vit_b16/projection", "eyeriss_like", 8.298289e14),
    ],
)
def test_known_optima(task: str, hardware: str, value: float) -> None:
    # Values of an independent solver.
    machine = replace(accelerator(hardware), peer_links=False)
    found = find_optimum(MapSpace(workload(task), machine, AXES[:3]))
    assert found.value == pytest.approx(value, rel=1e-6)
    assert found.certified


def test_stopped_early_the_bound_is_still_valid() -> None:
    machine = replace(accelerator("simba_like"), peer_links=False)
    space = MapSpace(workload("resnet50/conv4_3x3"), machine, AXES[:3])
    early = find_optimum(space, seconds=0.0)
    best = find_optimum(space)
    assert early.lower_bound <= best.lower_bound <= best.value <= early.value
    assert best.certified
    again = find_optimum(space, incumbent=best.mapping)
    assert again.value == best.value
    assert again.certified


def test_an_interruption_keeps_what_was_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mapgym.cost.optimum.solver._SECONDS_BETWEEN_REPORTS", 0.0)
    machine = replace(accelerator("simba_like"), peer_links=False)
    space = MapSpace(workload("resnet50/conv4_3x3"), machine, AXES[:3])

    def interrupt(value: float, bound: float, gap: float) -> None:
        if value < np.inf:
            raise KeyboardInterrupt

    found = find_optimum(space, progress=interrupt)
    assert found.interrupted
    assert found.lower_bound <= found.value
    assert space.contains(found.mapping)


def test_links_are_not_covered_in_deep_hierarchies() -> None:
    with pytest.raises(SpecificationError, match=r"neighbours pass words to each other.*add --no-peer-links"):
        find_optimum(MapSpace(workload("paper/bert_kqv"), accelerator("simba_like"), AXES))


def test_one_level_is_not_covered() -> None:
    machine = Accelerator("bare", (StorageLevel("Memory", access_energy_pj=1.0),), Mac(mesh_x=2), peer_links=False)
    with pytest.raises(SpecificationError, match="one storage level"):
        find_optimum(MapSpace(matmul(M=2, K=2, N=2), machine, AXES))
