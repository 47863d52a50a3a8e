"""The certified optimum: against every mapping of tiny spaces, and against values known for whole layers."""

from __future__ import annotations

import math
import os
from dataclasses import replace

import numpy as np
import pytest

from brute_force_optimum import brute_force_value, constrained_space, random_space, with_bandwidths
from mapgym.agents.search.exact import ExactSearch
from mapgym.cost import OBJECTIVES
from mapgym.cost.optimum import find_optimum
from mapgym.errors import SpecificationError
from mapgym.evaluation.evaluator import Budget, Evaluator
from mapgym.mapspace import MapSpace
from mapgym.spec.accelerator import Accelerator
from mapgym.spec.catalog import accelerator, workload
from mapgym.spec.workload import Workload

# MAPGYM_EXACT_CASES asks for more random spaces than a quick run has time for.
CASES = int(os.environ.get("MAPGYM_EXACT_CASES", "60"))
FIRST = int(os.environ.get("MAPGYM_EXACT_FIRST", "0"))

# Today's rules twice, as they are the default.
RULES = ("timeloop-2025", "timeloop-2022", "timeloop-2025", "timeloop-3.0.3")

KEEP_ALL = ("tile", "order", "parallelism")
EVERYTHING = (*KEEP_ALL, "bypass")


def without_links(name: str, **changes: object) -> Accelerator:
    return replace(accelerator(name), peer_links=False, **changes)


def with_innermost(**changes: object) -> Accelerator:
    """accel_b with other registers."""
    hardware = without_links("accel_b")
    return replace(hardware, levels=(replace(hardware.levels[0], **changes), *hardware.levels[1:]))


@pytest.mark.parametrize("seed", range(FIRST, FIRST + CASES))
def test_equals_brute_force(seed: int) -> None:
    space = random_space(np.random.default_rng(seed), rules=RULES[seed // 3 % len(RULES)])
    objective = OBJECTIVES[seed % 3]
    expected = brute_force_value(space, objective)
    if expected == np.inf:
        with pytest.raises(SpecificationError, match="no mapping"):
            find_optimum(space, objective)
        return
    found = find_optimum(space, objective)
    assert space.contains(found.mapping)
    assert found.cost.objective(objective) == found.value
    assert found.value == pytest.approx(expected, rel=1e-12)
    assert found.lower_bound <= expected
    assert found.certified == (found.gap <= 1e-6)
    if math.prod(space.accelerator.fanout_x[1:]) * math.prod(space.accelerator.fanout_y[1:]) < 6:
        # Six or more parallel registers may share words unevenly; the bound allows for what the model then rounds off.
        assert found.certified


@pytest.mark.parametrize("seed", range(FIRST, FIRST + CASES))
def test_with_links_the_optimum_lies_between_bound_and_value(seed: int) -> None:
    space = random_space(np.random.default_rng([seed, 1]), peer_links=True, rules=RULES[seed // 3 % len(RULES)])
    objective = OBJECTIVES[seed % 3]
    expected = brute_force_value(space, objective)
    if expected == np.inf:
        return
    found = find_optimum(space, objective)
    assert space.contains(found.mapping)
    assert found.cost.objective(objective) == found.value
    assert found.lower_bound <= expected * (1 + 1e-12)
    assert expected <= found.value * (1 + 1e-12)


@pytest.mark.parametrize(
    ("task", "hardware", "axes", "by_2022", "by_2025"),
    [
        ("paper/resnet_conv4", "accel_b", KEEP_ALL, 1.550362e16, 1.548707e16),
        ("paper/resnet_conv4", "accel_a", KEEP_ALL, 4.163612e17, 4.058615e17),
        ("paper/bert_kqv", "accel_a", KEEP_ALL, 9.276346e18, 8.727854e18),
        ("paper/bert_kqv", "accel_a", EVERYTHING, 4.798135e18, 4.783376e18),
        ("paper/bert_kqv", "accel_b", KEEP_ALL, 4.622229e17, 4.616313e17),
        ("paper/bert_kqv", "accel_b", EVERYTHING, 2.799629e17, 2.794417e17),
    ],
)
def test_known_optima(task: str, hardware: str, axes: tuple[str, ...], by_2022: float, by_2025: float) -> None:
    for rules, value in (("timeloop-2022", by_2022), ("timeloop-2025", by_2025)):
        found = find_optimum(MapSpace(workload(task), without_links(hardware, rules=rules), axes))
        assert found.value == pytest.approx(value, rel=1e-6)
        assert found.certified
        assert found.gap <= 1e-6


@pytest.mark.parametrize(
    ("task", "rules", "value"),
    [
        ("paper/resnet_conv4", "timeloop-2022", 1.244568e16),
        ("paper/resnet_conv4", "timeloop-2025", 1.243204e16),
        ("paper/resnet_conv3", "timeloop-2022", 1.208931e16),
        ("paper/resnet_conv3", "timeloop-2025", 1.202142e16),
    ],
)
def test_known_optima_with_links(task: str, rules: str, value: float) -> None:
    found = find_optimum(MapSpace(workload(task), replace(accelerator("accel_b"), rules=rules), KEEP_ALL))
    assert found.value == pytest.approx(value, rel=1e-6)
    assert found.certified


def test_axes_that_are_not_searched_and_fixed_factors_are_obeyed() -> None:
    rng = np.random.default_rng(0)
    checked = 0
    for seed in range(10_000, 10_150):
        whole = random_space(np.random.default_rng(seed), rules=RULES[seed % len(RULES)])
        space = constrained_space(rng, whole, 2)
        if space is None:
            continue
        found = find_optimum(space, OBJECTIVES[seed % 2])
        assert space.contains(found.mapping)
        assert found.value == pytest.approx(brute_force_value(space, OBJECTIVES[seed % 2]), rel=1e-12)
        checked += 1
    assert checked > 50


@pytest.mark.parametrize("objective", ["edp", "energy"])
def test_stopped_early_the_bound_is_still_valid(objective: str) -> None:
    space = MapSpace(workload("paper/bert_kqv"), without_links("accel_b"), EVERYTHING)
    early = find_optimum(space, objective, seconds=0.0)
    best = find_optimum(space, objective)
    assert early.lower_bound <= best.lower_bound <= best.value <= early.value
    assert best.certified
    assert early.nodes < best.nodes
    again = find_optimum(space, objective, incumbent=best.mapping)
    assert again.value == best.value
    assert again.certified


@pytest.mark.parametrize("task", ["mnasnet/squeeze_72_6", "toy/tiny_1d", "mobilenet_v2/depthwise_576_s2"])
def test_what_the_formulas_round_is_priced_exactly(task: str) -> None:
    # Accesses of whole blocks, or shares that are cut to whole words, cost more than the formulas say.
    found = find_optimum(MapSpace(workload(task), without_links("accel_a"), EVERYTHING))
    assert found.certified


def test_an_interruption_keeps_what_was_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mapgym.cost.optimum.solver._SECONDS_BETWEEN_REPORTS", 0.0)
    space = MapSpace(workload("paper/bert_kqv"), without_links("accel_b"), EVERYTHING)
    best = find_optimum(space)

    def interrupt(value: float, bound: float, gap: float) -> None:
        raise KeyboardInterrupt

    start = space.sample(np.random.default_rng(0), 1)[0]
    found = find_optimum(space, incumbent=start, progress=interrupt)
    assert found.interrupted
    assert not best.interrupted
    assert found.lower_bound <= best.value <= found.value


def test_a_slow_mapping_to_start_from_does_not_hide_the_fastest() -> None:
    space = MapSpace(workload("paper/bert_kqv"), without_links("accel_b"), KEEP_ALL)
    slow = space.decode(np.zeros((1, len(space.nvec)), np.int64))[0]
    found = find_optimum(space, "latency", incumbent=slow if space.contains(slow) else None)
    assert found.certified


@pytest.mark.parametrize("seed", range(FIRST, FIRST + CASES))
def test_with_limits_of_bandwidth_the_optimum_lies_between_bound_and_value(seed: int) -> None:
    rng = np.random.default_rng([seed, 2])
    space = random_space(rng, rules=RULES[seed // 3 % len(RULES)])
    limited = with_bandwidths(rng, space.accelerator)
    space = MapSpace(space.workload, limited, space.axes, space.constraints)
    objective = OBJECTIVES[seed % 3]
    expected = brute_force_value(space, objective)
    if expected == np.inf:
        with pytest.raises(SpecificationError, match="no mapping"):
            find_optimum(space, objective)
        return
    found = find_optimum(space, objective)
    assert space.contains(found.mapping)
    assert found.lower_bound <= expected <= found.value * (1 + 1e-12)
    if found.certified:
        assert found.value == pytest.approx(expected, rel=2e-6)


@pytest.mark.parametrize("objective", ["edp", "latency"])
def test_registers_that_are_too_slow_for_the_macs_are_certified(objective: str) -> None:
    # Of the words that a MAC reads, two operands and three quarters of a partial sum, the registers give two a cycle.
    hardware = replace(accelerator("accel_a_bw"), peer_links=False)
    found = find_optimum(MapSpace(workload("paper/bert_attn"), hardware, KEEP_ALL), objective)
    assert found.certified
    assert found.cost.latency_cycles == 23068672 == 16777216 * 11 // 8


@pytest.mark.parametrize(
    ("task", "hardware", "message"),
    [
        ("paper/bert_kqv", without_links("accel_b", fanout_check="cumulative"), "fanout_check"),
        ("paper/bert_kqv", with_innermost(no_temporal_reuse=("Weights",)), "no_temporal_reuse is not covered"),
        ("paper/bert_kqv", with_innermost(no_multicast=("Weights",)), "no_multicast is not covered"),
        ("paper/bert_kqv", with_innermost(minimum_utilization=0.5), "minimum_utilization is not covered"),
    ],
)
def test_what_is_not_covered_is_said_in_one_sentence(task: str, hardware: Accelerator, message: str) -> None:
    with pytest.raises(SpecificationError, match=message) as caught:
        find_optimum(MapSpace(workload(task), hardware, KEEP_ALL))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"A": ["I", "K"], "Out": ["2*I"]}, "strided or sliding"),
        ({"A": ["K"], "Out": ["I + K"]}, "strided or sliding"),
        ({"A": ["I + K", "I"], "Out": ["I"]}, "a dim in two ranks"),
        ({"A": ["I", "K"], "Out": ["I", "I"]}, "a dim in two ranks"),
    ],
)
def test_outputs_with_holes_and_dims_on_two_axes_are_not_covered(tensors: dict[str, list[str]], message: str) -> None:
    described = {name: {"projection": ranks, "output": name == "Out"} for name, ranks in tensors.items()}
    einsum = Workload.from_dict({"name": "toy", "dims": {"I": 4, "K": 3}, "tensors": described})
    with pytest.raises(SpecificationError, match=message):
        find_optimum(MapSpace(einsum, without_links("accel_b"), KEEP_ALL))


def test_the_agent_prices_the_optimum_and_keeps_the_proof() -> None:
    space = MapSpace(workload("paper/bert_kqv"), without_links("accel_b"), KEEP_ALL)
    evaluator = Evaluator(space, budget=Budget(samples=20))
    agent = ExactSearch()
    agent.search(evaluator, 0)
    assert agent.optimum is not None
    assert agent.optimum.certified
    assert evaluator.samples == 20
    assert evaluator.best_value == agent.optimum.value == pytest.approx(4.616313e17, rel=1e-6)


@pytest.mark.parametrize(
    "constraints",
    [{"factors": {"GlobalBuffer": {"M": {"temporal": "<=2"}}}}, {"orders": {"MainMemory": ["M", "*"]}}],
)
def test_ranges_and_partly_free_orders_are_not_covered(constraints: dict[str, object]) -> None:
    space = MapSpace(workload("paper/bert_kqv"), without_links("accel_b"), KEEP_ALL, constraints)
    with pytest.raises(SpecificationError, match="ranges of factors, single mesh sides and orders"):
        find_optimum(space)
