"""The compiled kernel against the enumerating reference model, on random tasks and mappings.

MAPGYM_CROSS_CHECK_CASES sets how many mappings are compared in all (100000 before a release).
"""

from __future__ import annotations

import os
from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings

from mapgym.cost import CostBatch, CostModel
from mapgym.spec.rules import RULE_SETS
from random_cases import Case, cases, random_case
from reference_model import AMOUNTS, COUNTS, ReferenceCost, evaluate
from reference_traffic import Memory, Walk, walk_literally

MAPPINGS = int(os.environ.get("MAPGYM_CROSS_CHECK_CASES", "5400"))
PARTS = 3
PER_TASK = 24
EXACT = (*COUNTS, "ingresses", "link_transfers")
MEMORIES = get_args(Memory)
PER_LEVEL = ("used_instances", "used_clusters", "fanout_used", "level_cycles")
ENERGIES = (
    *("energy_pj", "access_energy_pj", "address_energy_pj", "energy_per_hop_pj", "wire_energy_pj_per_bit_mm"),
    *("router_energy_pj", "energy_per_ingress_pj"),
)
KIND_WORDS = {
    "factors": "multiply to",
    "kept nowhere": "kept nowhere",
    "keep": "keep",
    "fan-out": "parallelism",
    "capacity": "tile of",
    "utilization": "minimum_utilization",
}


def compare(where: str, case: Case, costs: CostBatch, i: int, expected: ReferenceCost) -> None:
    """Fails with the mapping in words at the first figure that differs."""

    def same(name: str, mine: object, theirs: object, tolerance: float = 0.0) -> None:
        if not np.allclose(mine, theirs, rtol=tolerance, atol=0.0):
            pytest.fail(
                f"{where}: {name} is\n{mine}\ninstead of\n{theirs}\n{case.workload}\n{case.accelerator}\n"
                f"{case.batch[i].to_text()}\n{case.batch[i].to_dict()}"
            )

    same("legal", costs.legal[i], expected.legal)
    if not expected.legal:
        kind, name = expected.violations[0]
        reason = costs.reason(i)
        if KIND_WORDS[kind] not in reason or name not in reason:
            pytest.fail(f"{where}: the reason is {reason!r}, expected {kind} of {name}")
        same("cost of an illegal mapping", [costs.latency_cycles[i], costs.energy_pj[i], costs.edp[i]], [np.inf] * 3)
        same("utilization", costs.utilization[i], 0.0)
        return
    detail = costs.detail
    assert detail is not None
    for name in EXACT:
        same(name, getattr(detail, name)[i], expected.counts[name])
    for name in (*PER_LEVEL, "compute_cycles"):
        same(name, getattr(detail, name)[i], getattr(expected, name))
    for name in sorted(set(AMOUNTS) - set(EXACT)):
        same(name, getattr(detail, name)[i], expected.counts[name], 1e-9)
    same("leakage_energy_pj", detail.leakage_energy_pj[i], expected.leakage_energy_pj, 1e-9)
    same("latency_cycles", costs.latency_cycles[i], expected.latency_cycles)
    same("energy_pj", costs.energy_pj[i], expected.energy_pj, 1e-9)
    same("edp", costs.edp[i], expected.energy_pj * expected.latency_cycles, 1e-9)
    same("utilization", costs.utilization[i], expected.utilization, 1e-12)


@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.parametrize("rules", RULE_SETS)
def test_every_figure_agrees_with_enumeration(rules, part):
    seen = 0
    task = 0
    first = list(RULE_SETS).index(rules) * PARTS + part
    while seen < MAPPINGS / (PARTS * len(RULE_SETS)):
        case = random_case(np.random.default_rng([first, task]), PER_TASK, rules=rules)
        costs = CostModel(case.workload, case.accelerator).evaluate(case.batch, detail=True)
        for i, mapping in enumerate(case.batch):
            compare(
                f"task ({first}, {task}), mapping {i}",
                case,
                costs,
                i,
                evaluate(case.workload, case.accelerator, mapping),
            )
        seen += PER_TASK
        task += 1


@settings(deadline=None, max_examples=60)
@given(case=cases())
def test_costs_without_detail_are_the_same(case):
    model = CostModel(case.workload, case.accelerator)
    plain, detailed = model.evaluate(case.batch), model.evaluate(case.batch, detail=True)
    assert plain.detail is None
    for name in ("status", "latency_cycles", "energy_pj", "edp", "utilization"):
        np.testing.assert_array_equal(getattr(plain, name), getattr(detailed, name))


@settings(deadline=None, max_examples=60)
@given(case=cases())
def test_one_mapping_costs_the_same_alone_and_in_a_batch(case):
    model = CostModel(case.workload, case.accelerator)
    batch = model.evaluate(case.batch, detail=True)
    for i, mapping in enumerate(case.batch):
        alone = model.evaluate(mapping, detail=True)
        together = batch[i]
        for name in ("legal", "reason", "latency_cycles", "energy_pj", "edp", "utilization"):
            assert getattr(alone, name) == getattr(together, name)
        if alone.legal:
            for name in (*COUNTS, *AMOUNTS):
                np.testing.assert_array_equal(getattr(alone.detail, name), getattr(together.detail, name))


@settings(deadline=None, max_examples=60)
@given(case=cases())
def test_energy_scales_with_all_energies_and_nothing_else_does(case):
    def scaled(factor: float) -> CostBatch:
        def times_factor(part):
            changes = {key: getattr(part, key) * factor for key in ENERGIES if hasattr(part, key)}
            table = tuple((name, energy * factor) for name, energy in part.action_energies_pj)
            return replace(part, **changes, action_energies_pj=table)

        levels = tuple(times_factor(level) for level in case.accelerator.levels)
        accelerator = replace(case.accelerator, levels=levels, mac=times_factor(case.accelerator.mac))
        return CostModel(case.workload, accelerator).evaluate(case.batch)

    once, fourfold = scaled(1.0), scaled(4.0)
    np.testing.assert_array_equal(fourfold.energy_pj, 4.0 * once.energy_pj)
    np.testing.assert_array_equal(fourfold.latency_cycles, once.latency_cycles)
    np.testing.assert_array_equal(fourfold.status, once.status)


@settings(deadline=None, max_examples=60)
@given(case=cases())
def test_links_never_add_accesses_to_the_level_that_feeds_them(case):
    with_links, without = (
        CostModel(case.workload, replace(case.accelerator, peer_links=links)).evaluate(case.batch, detail=True)
        for links in (True, False)
    )
    np.testing.assert_array_equal(with_links.legal, without.legal)
    assert not without.detail.link_transfers[without.legal].any()
    # A bypassed level's demand is spread in proportion over what links leave, which can be more.
    plain = with_links.legal & case.batch.keep.all(axis=(1, 2))
    assert (with_links.detail.ingresses[plain] <= without.detail.ingresses[plain]).all()


@settings(deadline=None, max_examples=40)
@given(case=cases())
def test_bandwidth_only_stretches_time(case):
    levels = tuple(
        replace(
            level,
            read_bandwidth_words_per_cycle=None,
            write_bandwidth_words_per_cycle=None,
            shared_bandwidth_words_per_cycle=None,
        )
        for level in case.accelerator.levels
    )
    limited = CostModel(case.workload, case.accelerator).evaluate(case.batch)
    free = CostModel(case.workload, replace(case.accelerator, levels=levels)).evaluate(case.batch)
    assert (free.latency_cycles <= limited.latency_cycles).all()
    # What leaks longer leaks more.
    assert (free.energy_pj <= limited.energy_pj).all()
    if not any(level.energies_pj(case.accelerator.counting.action_names)["leak"] for level in levels):
        np.testing.assert_array_equal(free.energy_pj, limited.energy_pj)


@pytest.mark.parametrize("seed", range(200))
def test_reference_walk_is_the_literal_one(seed):
    rng = np.random.default_rng(seed)
    ranks, loops = int(rng.integers(1, 4)), int(rng.integers(0, 7))
    lengths = tuple(rng.integers(1, 6, ranks).tolist())
    nest = tuple(
        (tuple((rng.integers(0, 5, ranks) * rng.integers(0, 2, ranks)).tolist()), int(rng.integers(2, 5)))
        for _ in range(loops)
    )
    memory = MEMORIES[int(rng.integers(3))]
    assert Walk(lengths, nest, memory).steps() == walk_literally(lengths, nest, memory)
