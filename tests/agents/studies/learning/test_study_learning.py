"""``mapgym study learning``: figures by hand, and the command."""

from __future__ import annotations

import copy

import numpy as np
import pytest

from mapgym.agents.base import make_agent
from mapgym.agents.commands.study.learning import _plan
from mapgym.agents.learned.amortized.training import Recipe
from mapgym.agents.studies.cells import run_cells
from mapgym.agents.studies.learning import study as learning
from mapgym.agents.studies.learning.study import (
    EVOLUTION,
    GAMMA,
    GAMMA_WARM,
    POLICY,
    PROPOSERS,
    RANDOM,
    SEARCHES,
    SIMILAR,
    STORED,
    WARM,
    Buffers,
    Outcome,
    Plan,
    learning_cells,
)
from mapgym.agents.studies.learning.tables import learning_tables
from mapgym.errors import SpecificationError
from mapgym.evaluation.evaluator import Budget, Evaluator
from mapgym.mapspace import MapSpace
from mapgym.spec import catalog


def trace(who, seed, *points):
    """A run that was at each value after so many samples, a millisecond each."""
    samples, values = (list(column) for column in zip(*points, strict=True))
    return {
        "who": who,
        "seed": seed,
        "spent": 1.0,
        "samples": samples,
        "values": values,
        "seconds": [n / 1000 for n in samples],
    }


def result(layer, machine, known, **runs):
    return {
        "layer": layer,
        "accelerator": machine,
        "samples": 1000,
        "known": known,
        "policy": {"model": "standard", "priced": 1000, "seconds": 7.0},
        "runs": [run for of_one in runs.values() for run in of_one],
        "summary": "",
    }


def everybody(best, **others):
    """Everybody reaches a value with the first sample, but for those who are named."""
    runs = {name: [trace(name, 0, (1, best))] for name in (*PROPOSERS, *SEARCHES)}
    return {**runs, **others}


@pytest.fixture
def outcome():
    one = everybody(
        10.0,
        **{
            POLICY: [trace(POLICY, 0, (1, 40.0), (10, 20.0)), trace(POLICY, 1, (1, 10.0))],
            RANDOM: [trace(RANDOM, 0, (20, 30.0))],
            GAMMA: [trace(GAMMA, 0, (1, 80.0), (400, 10.2))],
            EVOLUTION: [trace(EVOLUTION, 0, (100, 10.3), (300, 10.0))],
            WARM: [trace(WARM, 0, (4, 10.4), (100, 10.0)), trace(WARM, 1, (16, 10.0))],
        },
    )
    two = everybody(5.0, **{GAMMA: [trace(GAMMA, 0, (1, 6.0))]})
    return Outcome([{"solved": {}}, result("one", "a", 10.0, **one), result("two", "b", None, **two)])


class TestByHand:
    def test_ratios(self, outcome):
        # 40 and 10 over 10, then 20 and 10 over 10.
        assert outcome.ratios(POLICY, 1) == pytest.approx([2.0, 1.0])
        assert outcome.ratios(POLICY, 16) == pytest.approx([np.sqrt(2.0), 1.0])
        assert outcome.ratios(RANDOM, 16, "a") == [np.inf]
        assert outcome.ratios(GAMMA, 1000, "b") == pytest.approx([1.2])

    def test_the_best_of_any_run_is_the_reference_where_none_is_stored(self, outcome):
        assert outcome.ratios(SIMILAR, 1, "b") == pytest.approx([1.0])

    def test_samples_to_a_target(self, outcome):
        assert outcome.needed(WARM, 1.05) == pytest.approx([8.0, 1.0])
        assert outcome.needed(WARM, 1.01) == pytest.approx([40.0, 1.0])
        # Never within 1 %: the whole budget counts.
        assert outcome.needed(GAMMA, 1.01) == pytest.approx([1000.0, 1000.0])
        assert outcome.reached(GAMMA, 1.05) == 0.5
        assert outcome.reached(WARM, 1.01) == 1.0
        # At 4 and 16 ms; a run that never comes there counts with all its time.
        assert outcome.seconds(WARM, 1.05) == pytest.approx([0.010, 0.001])
        assert outcome.seconds(GAMMA, 1.01) == [1.0, 1.0]

    def test_the_training_pays_after_so_many_layers(self, outcome):
        table = next(t for t in learning_tables(None, outcome, "b") if t.title.startswith("When"))
        # To 1.05x gamma needs 400 and 1,000 samples, warm-started evolution 8 and 1: 695.5 saved; 1,000 were paid.
        row = next(row for row in table.rows if row[:2] == ["1.05x", GAMMA])
        assert row[2:4] == [pytest.approx(695.5), 2]
        # Evolution from nothing: 100 and 1 sample, 46 saved, 22 layers.
        row = next(row for row in table.rows if row[:2] == ["1.05x", EVOLUTION])
        assert row[2:4] == [pytest.approx(46.0), 22]

    def test_several_policies_are_averaged_and_told_apart(self):
        def of(model, samples, value, known=10.0):
            made = {POLICY: [trace(POLICY, 0, (1, value))], WARM: [trace(WARM, 0, (samples, 10.0))]}
            policy = {"model": model, "priced": samples * 100, "seconds": 1.0}
            return {**result("one", "a", known, **made), "policy": policy}

        base = result("one", "a", 10.0, **everybody(10.0))
        base["runs"] = [run for run in base["runs"] if run["who"] not in (POLICY, WARM)]
        del base["policy"]
        outcome = Outcome([base, of("x", 4, 20.0), of("y", 16, 80.0)])
        assert outcome.ratios(POLICY, 1) == pytest.approx([4.0])
        assert outcome.ratios(POLICY, 1, policy="y") == pytest.approx([8.0])
        tables = learning_tables(None, outcome, None)
        assert "4.000x (2.000 to 8.000 over 2 policies)" in str(tables[0].rows)
        rows = {row[1]: row[2:] for row in tables[2].rows}
        assert rows["x"] == pytest.approx([2.0, 2.0, 2.0, 4.0, 4.0])
        assert rows["mean"] == pytest.approx([4.0, 4.0, 4.0, 8.0, 8.0])
        assert rows["least"] == rows["x"]
        assert rows["most"] == rows["y"]
        # The trainings priced 400 and 1,600 mappings.
        assert any("prices 1,000 mappings" in table.note for table in tables)

    def test_what_is_not_faster_never_pays(self, outcome):
        slow = result("three", "a", 10.0, **everybody(10.0, **{WARM: [trace(WARM, 0, (900, 10.0))]}))
        tables = learning_tables(None, Outcome([slow]), None)
        table = next(t for t in tables if t.title.startswith("When"))
        assert {row[3] for row in table.rows} == {"never"}
        assert "times more than gamma" in str(tables[0].rows)

    def test_sentences_follow_from_the_figures(self, outcome):
        answers = dict(learning_tables(None, outcome, "b")[0].rows)
        text = answers["unseen layers, one proposal of the policy"]
        assert text.startswith("1.414x, the worst 2.000x (one on a); ahead of gamma's 256 samples")
        assert text.endswith("With as many: random at no legal mapping, similar layers at 1.000x.")
        paid = answers["when the training has paid for itself (to 1.05x, instead of gamma)"]
        assert paid.startswith("By samples: after 2 layers; by seconds")
        assert "not trained on (b)" in " ".join(answers)


def save_policy(path, seed):
    """A policy that nobody trained; the same description whatever the seed of its weights."""
    torch = pytest.importorskip("torch")
    from mapgym.agents.learned.amortized.model import Policy, make_network

    torch.manual_seed(seed)
    network = make_network()
    torch.nn.init.normal_(network.score_out.weight)
    Policy(network, {"command": "", "recipe": {"samples": 600_000}, "cpu_seconds": 1.0}).save(path)


def test_other_weights_under_the_same_description_are_measured_anew(tmp_path):
    settings = []
    for seed in (0, 1, 0):
        save_policy(tmp_path / "model.safetensors", seed)
        plan = _plan(1000, 1, "tiny", str(tmp_path), peer_links=False, quick=True)
        assert plan.policies[0]["priced"] == Recipe(samples=600_000).priced
        settings.append([cell.settings for cell in learning_cells(plan, Buffers(plan))])
    assert settings[0] == settings[2]
    same = [one == other for one, other in zip(settings[0], settings[1], strict=True)]
    # Replay buffers and searches from nothing depend on no policy.
    assert same == ["policy" not in cell for cell in settings[0]]
    assert not all(same)


def test_cells_measure_everybody_and_buffers_learn_from_them(tmp_path, monkeypatch):
    monkeypatch.setattr(learning, "BUFFER_SAMPLES", 50)
    for seed in (0, 1):
        (tmp_path / f"seed{seed}").mkdir()
        save_policy(tmp_path / f"seed{seed}" / "model.safetensors", seed)
    first, second = (str(tmp_path / f"seed{seed}") for seed in (0, 1))
    layers, machine = catalog.workloads("toy/tiny_gemm"), catalog.accelerator("tiny")
    space = MapSpace(layers[0], machine)

    def carry_out(*models):
        policies = tuple({"model": name, "sha256": name[::-1], "priced": 10, "seconds": 1.0} for name in models)
        plan = Plan(tuple(layers), (machine,), tuple(layers), samples=300, seeds=2, policies=policies)
        buffers, computed = Buffers(plan), []

        def finished(cell, found, was_there):
            buffers.learn(found)
            computed.extend([] if was_there else [cell.name])

        results = run_cells(learning_cells(plan, buffers), tmp_path / "out", finished=finished)
        # The layer itself was in the buffer.
        assert len(buffers.initial(space, 256)) == 1
        return Outcome(results), computed

    alone, computed = carry_out(first)
    assert len(computed) == 3
    assert alone.tasks == [("toy/tiny_gemm", "tiny")]
    for who in (*PROPOSERS, *SEARCHES):
        assert alone.ratios(who, 300)[0] >= 1.0
    for who in (STORED, GAMMA_WARM):
        assert alone.ratios(who, 64)[0] < np.inf
    assert alone.ratios(SIMILAR, 1)[0] < 2.0
    # Of another policy only what depends on it is measured.
    both, computed = carry_out(first, second)
    assert len(computed) == 1
    firsts = {}
    for model in (first, second):
        values = []
        for seed in range(2):
            evaluator = Evaluator(space, budget=Budget(samples=1))
            make_agent("amortized", model=model).search(evaluator, seed)
            values.append(evaluator.best_value)
        firsts[model] = np.sqrt(np.prod(values))
    one, other = (both.ratios(POLICY, 1, policy=model)[0] for model in (first, second))
    assert one / other == pytest.approx(firsts[first] / firsts[second])
    assert both.ratios(POLICY, 1)[0] == pytest.approx(np.sqrt(one * other))


@pytest.mark.parametrize("name", [GAMMA, EVOLUTION])
def test_searches_from_nothing_begin_with_random_mappings(name):
    """So that they are the search from a policy, but for what it begins with."""
    space = MapSpace(catalog.workload("toy/tiny_conv"), catalog.accelerator("tiny"))
    agent, rng = make_agent(name), np.random.default_rng(0)
    agent.start(space, rng, "edp")
    same = copy.deepcopy(rng)
    first = agent.ask(1000)
    assert len(first) == {GAMMA: 100, EVOLUTION: 50}[name]
    drawn = space.sample(same, {GAMMA: 100, EVOLUTION: 400}[name])
    if name == EVOLUTION:
        drawn = drawn[np.argsort(-drawn.used_macs(), kind="stable")[:50]]
    for ours, theirs in zip(first.arrays(), drawn.arrays(), strict=True):
        assert np.array_equal(ours, theirs)


def test_a_policy_is_named_once(tmp_path):
    save_policy(tmp_path / "model.safetensors", seed=0)
    models = f"{tmp_path},{tmp_path / 'model.safetensors'}"
    with pytest.raises(SpecificationError, match="more than once"):
        _plan(1000, 1, "tiny", models, peer_links=False, quick=True)
