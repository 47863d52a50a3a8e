"""The amortized policy: what it sees, how it draws, how it is trained, and the agents that use it."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from mapgym.agents import make_agent
from mapgym.agents.cli import main
from mapgym.agents.experiment.definition.experiment import AgentEntry, Experiment
from mapgym.agents.experiment.definition.warm_start import read_warm_start
from mapgym.agents.experiment.execution.runner import run_experiment
from mapgym.agents.experiment.report.report import warm_start_lines
from mapgym.agents.experiment.storage.folder import load_results
from mapgym.cost import CostModel
from mapgym.errors import SpecificationError
from mapgym.evaluation.best_known import all_best_known, best_known
from mapgym.evaluation.evaluator import Budget, Evaluator
from mapgym.evaluation.task import Task
from mapgym.mapping import MappingBatch
from mapgym.mapspace import MapSpace
from mapgym.spec import catalog
from mapgym.spec.constraints import Constraints
from mapgym.spec.rules import DEFAULT_RULES, RULE_SETS, RULES_BEFORE_NAMES
from mapgym.spec.splits import VALIDATION, load_split
from mapgym.spec.workload import Workload, conv2d, depthwise_conv2d, matmul, mttkrp
from mapgym.testing.agents import RecordingEvaluator, small_accelerator

pytest.importorskip("torch")
pytest.importorskip("safetensors")

import torch

from mapgym.agents.learned.amortized import episodes_kernels as kernels, training, validation
from mapgym.agents.learned.amortized.data import AXES, random_task
from mapgym.agents.learned.amortized.episodes import ROLES, PolicyTask, retrace, roll_out
from mapgym.agents.learned.amortized.model import Policy, load_policy, make_network, shipped_models
from mapgym.agents.learned.amortized.proposals import Proposals, _busy_first, propose
from mapgym.agents.learned.amortized.tasks import SOLVER_SAMPLES
from mapgym.agents.learned.amortized.training import Recipe, advantages
from mapgym.agents.learned.amortized.validation import Validation, best_of_logs, validation_mappings
from mapgym.agents.learned.stored_arrays import SHIPPED, read_arrays, write_arrays
from mapgym.agents.learned.training import CHECKPOINT, TrainingProgress, TrainingRequest, make_trainer

BYPASS = (*AXES, "bypass")
# Two iterations that imitate and two of policy gradient.
TINY = Recipe(
    samples=4 * 4 * 8,
    imitated=0.5,
    imitated_tasks=4,
    tasks=4,
    group=8,
    best_of=2,
    fresh=2,
    first=4,
    pool=7,
    validations=2,
)

workloads = st.sampled_from(
    [
        conv2d(N=2, C=6, M=4, P=8, Q=8, R=3, S=3, stride=2),
        depthwise_conv2d(N=2, C=8, P=6, Q=7, R=3, S=3),
        matmul(B=2, M=8, K=13, N=4),
        matmul(B=2, M=8, K=12, N=4, shared_weights=True),
        mttkrp(I=4, J=6, K=8, L=2),
    ]
)
accelerators = st.sampled_from(
    [
        small_accelerator(),
        small_accelerator(peer_links=False),
        catalog.accelerator("accel_b"),
        catalog.accelerator("simba_like"),
        catalog.accelerator("accel_a_sparse_md"),
    ]
)


def random_policy(seed: int = 0) -> Policy:
    """A policy with strong opinions of no value."""
    torch.manual_seed(seed)
    network = make_network()
    torch.nn.init.normal_(network.score_out.weight)
    return Policy(network)


@settings(max_examples=25, deadline=None)
@given(
    workload=workloads,
    accelerator=accelerators,
    axes=st.sampled_from([AXES, BYPASS, ("tile",), ("order",), ("parallelism", "bypass")]),
    objective=st.sampled_from(["edp", "energy", "latency"]),
    seed=st.integers(0, 2**32),
)
def test_proposals_are_in_the_space(workload: Workload, accelerator, axes, objective: str, seed: int) -> None:
    if accelerator.is_sparse:
        workload = workload.with_densities({tensor.name: 0.5 for tensor in workload.tensors})
        if "Weights" not in {tensor.name for tensor in workload.tensors}:
            return  # the accelerator names its tensors
    space = MapSpace(workload, accelerator, axes)
    batch = Proposals(space, objective, random_policy()).draw(np.random.default_rng(seed), 40)
    assert len(batch) == 40
    assert space.contains(batch).all()


def test_proposals_obey_constraints() -> None:
    """Also one that no single decision can foresee."""
    constraints = Constraints(
        factors={"Registers": {"C": {"temporal": 2}}}, orders={"Memory": ["Q", "M"]}, min_utilization=0.5
    )
    space = MapSpace(conv2d(N=1, C=4, M=4, P=4, Q=2, R=3, S=1), small_accelerator(), AXES, constraints)
    batch = Proposals(space, "edp", random_policy()).draw(np.random.default_rng(0), 60)
    assert len(batch) == 60
    assert space.contains(batch).all()


def test_no_mapping_is_proposed_twice_while_there_are_others() -> None:
    space = MapSpace(matmul("layer", M=16, K=16, N=16), small_accelerator())
    proposals = Proposals(space, "edp", random_policy())
    rng = np.random.default_rng(0)
    batch = space.canonical(proposals.draw(rng, 300)), space.canonical(proposals.draw(rng, 300))
    texts = {mapping.to_text() for part in batch for mapping in part}
    assert len(texts) == 600


def test_a_space_with_one_mapping_is_proposed_again_and_again() -> None:
    space = MapSpace(matmul("point", M=1, K=1, N=1), small_accelerator())
    assert len(propose(space, "edp", np.random.default_rng(0), 5)) == 5


def test_proposals_that_keep_the_array_busy_come_first() -> None:
    space = MapSpace(matmul("gemm", B=1, M=16, K=8, N=4), small_accelerator(), AXES)
    batch = MappingBatch.trivial(space.workload, space.accelerator, 5)
    batch.spatial[:, 1, 1] = [4, 19, 1, 20, 18]
    # Nine tenths of 20 MACs are 18.
    assert _busy_first(batch).tolist() == [1, 3, 4, 0, 2]
    assert _busy_first(batch[:0]).tolist() == []


@pytest.mark.parametrize("objective", ["edp", "latency", "energy"])
def test_what_comes_first_is_busy_unless_only_energy_counts(objective: str) -> None:
    space = MapSpace(catalog.workload("paper/resnet_conv4"), catalog.accelerator("accel_b"), AXES)
    batch = propose(space, objective, np.random.default_rng(0), 64)
    used = batch.spatial.prod(axis=(1, 2))
    busy = (used >= 0.9 * used.max()).tolist()
    assert not all(busy)
    assert (busy == sorted(busy, reverse=True)) == (objective != "energy")


def test_the_first_proposal_does_not_depend_on_the_seed() -> None:
    """Where only energy counts; otherwise that of the highest scores may come later."""
    space = MapSpace(matmul("layer", M=16, K=16, N=16), small_accelerator())
    first, second = (propose(space, "energy", np.random.default_rng(seed), 20) for seed in (0, 1))
    assert first[0].to_text() == second[0].to_text()
    assert first != second
    assert first == propose(space, "energy", np.random.default_rng(0), 20)


def test_a_decision_by_hand() -> None:
    """M=16, K=8, N=4 on the small accelerator; the first decision is the tile factor of K in the registers."""
    workload = matmul("layer", M=16, K=8, N=4)
    task = PolicyTask(MapSpace(workload, small_accelerator(), AXES), "energy")
    episodes = roll_out(random_policy(), [task], np.zeros(1, np.int64), 0, np.ones(1), np.zeros(1), record=True)
    decision, count = episodes.record[0].decisions[0] * kernels.SCALE, episodes.record[0].counts[0]
    c, m, n = (ROLES.index(role) for role in "CMN")
    assert count == 3  # 1, 2 or 4: with 8, weights and inputs alone would take 16 of 12 words
    assert decision[kernels.S_KIND : kernels.S_KIND + kernels.KINDS].tolist() == [0, 0, kernels.SCALE, 0]
    outside = decision[kernels.S_OUTSIDE : kernels.S_OUTSIDE + len(ROLES)]
    assert outside[[c, m, n]].tolist() == [3, 2, 4]
    assert decision[kernels.S_ROLE + c] == kernels.SCALE
    # Three tiles of one word in 12 and in 96 words; of the fan-out nothing is used.
    assert decision[kernels.S_SUMS : kernels.S_SUMS + 6].tolist() == pytest.approx([2, 5, 0, 0, 0, 6], abs=1e-5)


def test_draws_follow_the_softmax() -> None:
    logits, first = np.log(np.array([1, 3, 4, 8], np.float32)), np.array([0, 3, 4])
    picked, generator = np.empty(2, np.int64), np.array([5], np.uint64)

    def shares(temperature: float, uniform: float) -> np.ndarray:
        counts = np.zeros(4)
        for _ in range(4000):
            kernels.draw(logits, first, np.full(2, temperature), np.full(2, uniform), generator, picked)
            counts[picked] += 1
        return counts / 4000

    assert shares(1.0, 0.0) == pytest.approx([1 / 8, 3 / 8, 4 / 8, 1], abs=0.03)
    assert shares(0.0, 0.0).tolist() == [0, 0, 1, 1]
    assert shares(1.0, 1.0) == pytest.approx([1 / 3, 1 / 3, 1 / 3, 1], abs=0.03)


@settings(max_examples=20, deadline=None)
@given(workload=workloads, axes=st.sampled_from([AXES, BYPASS]), seed=st.integers(0, 2**32))
def test_the_decisions_of_a_mapping_lead_to_it(workload: Workload, axes, seed: int) -> None:
    space = MapSpace(workload, catalog.accelerator("accel_b_2d"), axes)
    task = PolicyTask(space, "edp")
    batch = space.canonical(Proposals(space, "edp", random_policy()).draw(np.random.default_rng(seed), 10))
    rows, again = retrace([task], [batch]).mappings(0)
    assert rows.tolist() == list(range(10))
    assert space.canonical(again) == batch


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_loops_that_reuse_a_tensor_with_the_innermost_follow_it(seed: int) -> None:
    workload = conv2d(N=4, C=8, M=8, P=8, Q=8, R=3, S=3)
    space = MapSpace(workload, catalog.accelerator("accel_b"))
    for mapping in Proposals(space, "edp", random_policy(1)).draw(np.random.default_rng(seed), 5):
        for s in (1, 2):
            loops = [workload.dims[d] for d in mapping.order[s] if mapping.temporal[s, d] > 1]
            idle = [{t.name for t in workload.tensors if dim not in t.dims} for dim in loops]
            together = [bool(names & idle[0]) for names in idle]
            assert together == sorted(together, reverse=True)


def test_an_untrained_policy_is_indifferent() -> None:
    """Training begins with the masked random policy."""
    network = make_network()
    shapes = (3, kernels.STATE_FEATURES), (9, kernels.CHOICE_FEATURES)
    decisions, options = (np.random.default_rng(0).normal(size=shape).astype(np.float32) for shape in shapes)
    assert not Policy(network).score(decisions, options, np.array([2, 3, 4])).any()


def test_advantages_by_hand() -> None:
    rewards = np.array([[3.0, 0.0, 1.0]])
    assert advantages(rewards, 1)[0] == pytest.approx([5 / 3, -4 / 3, -1 / 3])
    # With one other: 3 is above them by 3 and 2, 1 by 1, 0 by nothing; less the mean of 2.5, 0.5 and 0.
    assert advantages(rewards, 2)[0] == pytest.approx([1.5, -1.0, -0.5])


@settings(max_examples=50, deadline=None)
@given(
    rewards=st.lists(st.floats(-10, 10), min_size=4, max_size=7),
    k=st.integers(2, 4),
)
def test_advantages_are_gains_over_the_best_of_the_others(rewards: list[float], k: int) -> None:
    gains = []
    for i, reward in enumerate(rewards):
        others = itertools.combinations(rewards[:i] + rewards[i + 1 :], k - 1)
        gains.append(np.mean([max(0.0, reward - max(group)) for group in others]))
    found = advantages(np.array([rewards]), k)[0]
    assert found == pytest.approx(np.array(gains) - np.mean(gains), abs=1e-9)
    assert found.sum() == pytest.approx(0, abs=1e-9)


def test_best_of_by_hand() -> None:
    values = np.exp([3.0, 1.0, 2.0, 4.0])
    assert best_of_logs(values, np.exp(1.0), (1, 2, 4)) == pytest.approx([1.5, 0.5, 0.0])


@pytest.fixture
def _small_validation(monkeypatch: pytest.MonkeyPatch) -> None:
    def scores(self: Validation, policy: Policy) -> dict[str, float]:
        space = MapSpace(matmul("layer", M=64, K=64, N=64), catalog.accelerator("accel_b"))
        batch = Proposals(space, "edp", policy).draw(np.random.default_rng(0), 64)
        values = CostModel(space.workload, space.accelerator).evaluate(batch).edp
        return {self.selected_by: float(np.exp(np.log(values).mean()))}

    monkeypatch.setattr(Validation, "__init__", lambda self, rules: None)
    monkeypatch.setattr(Validation, "scores", scores)


def train(folder: Path, recipe: Recipe = TINY, **options) -> TrainingProgress:
    progress = TrainingProgress()
    request = TrainingRequest(None, folder, **options)
    training.AmortizedTrainer(recipe).train(request, progress)
    return progress


def weights(folder: Path) -> dict[str, list[float]]:
    state = load_policy(str(folder)).network.state_dict()
    return {name: value.ravel().tolist() for name, value in state.items()}


@pytest.mark.usefixtures("_small_validation")
def test_training_is_repeatable_and_survives_interruptions(tmp_path: Path) -> None:
    train(tmp_path / "once")
    train(tmp_path / "again")
    for _ in range(4):
        progress = train(tmp_path / "in_parts", seconds=1e-6)
    assert progress.done == progress.total
    assert weights(tmp_path / "once") == weights(tmp_path / "again") == weights(tmp_path / "in_parts")
    whole, parts = (read_arrays(tmp_path / name / CHECKPOINT)[0] for name in ("once", "in_parts"))
    assert whole.keys() == parts.keys()
    for name, array in whole.items():
        np.testing.assert_array_equal(array, parts[name], err_msg=name)
    train(tmp_path / "other", seed=1)
    assert weights(tmp_path / "once") != weights(tmp_path / "other")


@pytest.mark.usefixtures("_small_validation")
def test_preparing_the_validation_counts_against_the_seconds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]

    def prepare(self: Validation, rules: str) -> None:
        clock[0] += 100.0

    monkeypatch.setattr(training, "time", SimpleNamespace(perf_counter=lambda: clock[0], process_time=lambda: clock[0]))
    monkeypatch.setattr(Validation, "__init__", prepare)
    assert train(tmp_path, seconds=50.0).done == TINY.tasks * TINY.group
    progress = train(tmp_path, seconds=150.0)
    assert progress.done == progress.total


@pytest.fixture
def priced(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The size of every batch that is priced; single mappings, which load compiled code, are left out."""
    sizes: list[int] = []
    evaluate = CostModel.evaluate

    def counted(self: CostModel, batch: MappingBatch, **options):
        sizes.extend([len(batch)] if len(batch) > 1 else [])
        return evaluate(self, batch, **options)

    monkeypatch.setattr(CostModel, "evaluate", counted)
    return sizes


def test_what_a_training_prices_by_hand() -> None:
    recipe = Recipe()
    # 1,200,000 mappings in 2,343 iterations of 16 tasks x 32; 1,172 of them imitate and bring six new tasks each.
    assert recipe.solved == 256 + 6 * 1172
    assert validation_mappings(12) == (6 + 30) * 4000 + 12 * (3 * 6 + 30) * 256
    assert recipe.priced == 7288 * 1500 + 1171 * 512 + 291_456


@pytest.mark.usefixtures("_small_validation")
def test_a_training_prices_what_its_recipe_says(tmp_path: Path, priced: list[int]) -> None:
    # With room in the pool every task of the first part is imitated sooner or later.
    recipe = replace(TINY, pool=100)
    train(tmp_path, recipe)
    by_validation = 2 * 64
    beyond = sum(priced) - by_validation - (recipe.priced - validation_mappings(2))
    # Of the eight searches the last batch is not counted.
    assert recipe.solved == 8
    assert 0 <= beyond < 8 * SOLVER_SAMPLES // 10


def test_a_validation_prices_what_it_says(monkeypatch: pytest.MonkeyPatch, priced: list[int]) -> None:
    monkeypatch.setattr(validation, "_REFERENCE_SAMPLES", 20)
    monkeypatch.setattr(validation, "SIZES", (1, 4))
    # Tasks whose optima are stored are free.
    prepared = Validation(all_best_known()[0].rules)
    spaces = [task.space for task in prepared._tasks]
    counted = spaces[-30:] + [
        space for space in spaces[:-30] if space.accelerator.name in load_split(VALIDATION).accelerators
    ]
    free = 20 * sum(best_known(space, "edp") is not None for space in counted)
    assert sum(priced) == validation_mappings(0) - free
    logs = [prepared._logs(Policy(make_network()), k) for k in range(len(prepared._tasks))]
    assert len(logs) == 48
    assert sum(priced) == validation_mappings(1) - free


@pytest.mark.usefixtures("_small_validation")
def test_another_training_in_the_folder_is_refused(tmp_path: Path) -> None:
    train(tmp_path)
    with pytest.raises(SpecificationError, match="holds a training with another seed; give the options"):
        train(tmp_path, seed=1)
    remedy = "under timeloop-2025, this one counts as timeloop-2022; give --rules timeloop-2025, or another folder"
    with pytest.raises(SpecificationError, match=remedy):
        train(tmp_path, rules="timeloop-2022")


@pytest.mark.usefixtures("_small_validation")
def test_a_checkpoint_of_before_rules_had_names_is_one_of_the_first_rules(tmp_path: Path) -> None:
    train(tmp_path, rules=RULES_BEFORE_NAMES)
    arrays, about = read_arrays(tmp_path / CHECKPOINT)
    assert about.pop("rules") == RULES_BEFORE_NAMES
    write_arrays(tmp_path / CHECKPOINT, arrays, about)
    train(tmp_path, rules=RULES_BEFORE_NAMES)
    with pytest.raises(SpecificationError, match=f"a training under {RULES_BEFORE_NAMES}, this one counts as"):
        train(tmp_path)


@pytest.mark.usefixtures("_small_validation")
@pytest.mark.parametrize("rules", RULE_SETS)
def test_a_policy_says_under_which_rules_it_was_trained(tmp_path: Path, rules: str) -> None:
    train(tmp_path, rules=rules)
    policy = load_policy(str(tmp_path))
    assert policy.about["rules"] == rules
    for other in RULE_SETS:
        remark = policy.remark(catalog.accelerator("tiny").counted_by(other))
        assert remark == "" if other == rules else f"was trained under {rules}, this task counts as {other}" in remark


def test_every_accelerator_of_training_counts_by_the_rules() -> None:
    for rules in RULE_SETS:
        rng = np.random.default_rng(3)
        spaces = [random_task(rng, rules)[0] for _ in range(200)]
        assert {space.accelerator.rules for space in spaces} == {rules}
        assert any(space.accelerator.is_sparse for space in spaces)


@pytest.mark.usefixtures("_small_validation")
@pytest.mark.parametrize("imitated", [0.0, 1.0])
def test_training_learns(tmp_path: Path, imitated: float) -> None:
    """The mean mapping of a layer costs less than half after 6,000 samples of others, in either way of learning."""
    seen: list[float] = []
    progress = TrainingProgress(on_milestone=lambda text: seen.append(float(text.split()[-1])))
    recipe = Recipe(
        samples=6000,
        imitated=imitated,
        imitated_tasks=16,
        tasks=8,
        group=32,
        best_of=1,
        fresh=1,
        first=24,
        imitation_rate=5e-3,
        gradient_rate=5e-3,
        validations=1,
    )
    training.AmortizedTrainer(recipe).train(TrainingRequest(None, tmp_path), progress)
    before = Validation(DEFAULT_RULES).scores(Policy(make_network()))[Validation.selected_by]
    assert seen[-1] == pytest.approx(0.0, abs=0.5 * before)


def test_the_trainer_is_registered() -> None:
    assert isinstance(make_trainer("amortized"), training.AmortizedTrainer)


def test_the_shipped_policy_says_how_it_was_made() -> None:
    assert "standard" in shipped_models()
    about = load_policy().about
    assert {"recipe", "seed", "command", "samples", "cpu_seconds", "validation"} <= about.keys()
    # The figure of docs/learning.md.
    assert Recipe(**about["recipe"]).priced == 11_823_008


def test_the_shipped_policy_beats_random_mappings() -> None:
    """On a layer of validation: its best of 16 is better than the best of 256 random ones."""
    space = MapSpace(catalog.workload("bert_large/projection"), catalog.accelerator("accel_b"))
    model = CostModel(space.workload, space.accelerator)
    proposed = model.evaluate(propose(space, "edp", np.random.default_rng(0), 16)).edp.min()
    drawn = model.evaluate(space.sample(np.random.default_rng(0), 256)).edp.min()
    assert proposed < drawn


def test_a_wrong_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(SpecificationError, match=r"there is no policy 'standart'; .* did you mean 'standard'"):
        load_policy("standart")
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"no such thing")
    with pytest.raises(SpecificationError, match="is damaged, or was not written by mapgym"):
        load_policy(str(tmp_path))
    surrogate = next(SHIPPED.glob("mind_mappings_*"))
    with pytest.raises(SpecificationError, match="is no policy of the agent 'amortized'"):
        load_policy(str(surrogate))


def test_the_search_begins_with_the_proposals() -> None:
    space = MapSpace(catalog.workload("bert_large/projection"), catalog.accelerator("accel_b"))
    proposals, search = (RecordingEvaluator(space, budget=Budget(samples=n)) for n in (64, 400))
    make_agent("amortized", batch_size=64).search(proposals, 3)
    make_agent("amortized-search").search(search, 3)
    assert search.values[:64] == proposals.values
    assert search.best_value <= proposals.best_value


def test_pareto_is_refused() -> None:
    space = MapSpace(matmul("layer", M=4, K=4, N=4), small_accelerator())
    with pytest.raises(SpecificationError, match="does not search with the objective 'pareto'"):
        make_agent("amortized").search(Evaluator(space, "pareto", Budget(samples=10)), 0)


def test_any_search_can_begin_with_the_proposals(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    layer, machine = catalog.workload("toy/tiny_conv"), catalog.accelerator("tiny")
    start = read_warm_start("policy")
    entries = (AgentEntry("gamma"), AgentEntry("gamma", warm_start=start))
    experiment = Experiment((Task(layer, machine),), entries, (0, 1), Budget(samples=100))
    run_experiment(experiment, tmp_path, jobs=0)
    results = {(one.agent.label, one.seed): one for one in load_results(tmp_path)}
    model, space = CostModel(layer, machine), MapSpace(layer, machine)
    for seed in (0, 1):
        warm = results["gamma, warm: policy", seed]
        proposals = propose(space, "edp", np.random.default_rng(seed), 64)
        assert warm.warm_start_sources == {"sources": ["policy"], "failures": [], "why_random": ""}
        assert warm.trace.best_at(64) == model.evaluate(proposals).edp.min()
        assert results["gamma", seed].warm_start_sources is None
        assert warm.agent.warm_start == start
    assert warm_start_lines(list(results.values())) == [
        "gamma, warm: policy: 2 of 2 runs began from proposals of the policy."
    ]


def test_a_search_on_the_command_line_can_begin_with_the_proposals(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["search", "toy/tiny_conv", "tiny", "--agent", "hill-climb", "--samples", "70", "--warm-start", "policy"]
    with pytest.raises(SystemExit) as end:
        main(words)
    assert end.value.code in (0, None)
    assert "begun from   policy" in capsys.readouterr().out
