"""The agents of Stable-Baselines3: the wrapped environments, training ahead of a search, and stored policies."""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("sb3_contrib")

from gymnasium.vector import AutoresetMode

from command_line import one_sentence
from mapgym.adapters.sb3 import VecEnv
from mapgym.agents import make_agent
from mapgym.agents.benchmark import measure_learning
from mapgym.agents.learned.sb3 import training as stock_training
from mapgym.agents.learned.sb3.policy import POLICY, read_policy
from mapgym.agents.learned.sb3.stock import StockAgent, observed_columns
from mapgym.agents.learned.stored_arrays import read_arrays, write_arrays
from mapgym.agents.learned.training import TrainingProgress, TrainingRequest, make_trainer
from mapgym.envs import MapSpaceRefineVectorEnv, MapSpaceVectorEnv
from mapgym.errors import SpecificationError
from mapgym.evaluation.evaluator import Budget, Evaluator
from mapgym.evaluation.sparsity_aware import SparsityAware
from mapgym.mapspace import MapSpace
from mapgym.spec import catalog
from mapgym.spec.workload import Workload, matmul
from mapgym.testing.agents import RecordingEvaluator, small_accelerator

SMALL = {"num_envs": 8, "hidden": 16, "orders": "innermost"}
PARAMETERS = {
    "ppo": {**SMALL, "steps": 20, "batch_size": 80, "epochs": 2},
    "maskable-ppo": {**SMALL, "steps": 20, "batch_size": 80, "epochs": 2},
    "a2c": {**SMALL, "steps": 10},
    "dqn": {**SMALL, "buffer_size": 200, "learning_starts": 40, "batch_size": 16, "exploration_steps": 1200},
}
LAYER = matmul("layer", M=8, K=4, N=4)


@pytest.fixture(autouse=True)
def _short_segments(monkeypatch):
    monkeypatch.setattr(stock_training, "SEGMENT_STEPS", 320)


def request_for(folder: Path, agent: str, *workloads: Workload, **options) -> TrainingRequest:
    options = {"steps": 960, "parameters": PARAMETERS[agent], **options}
    return TrainingRequest(small_accelerator(), folder, workloads or (LAYER,), **options)


def train(folder: Path, agent: str, *workloads: Workload, **options) -> str:
    return make_trainer(agent).train(request_for(folder, agent, *workloads, **options), TrainingProgress())


def search(folder: Path, agent: str, layer: Workload = LAYER, samples: int = 50, seed: int = 0) -> RecordingEvaluator:
    evaluator = RecordingEvaluator(MapSpace(layer, small_accelerator()), budget=Budget(samples=samples))
    make_agent(agent, policy=str(folder)).search(evaluator, seed)
    return evaluator


class TestWrappedEnvironments:
    def test_what_an_episode_ends_with(self):
        env = VecEnv(MapSpaceVectorEnv(4, LAYER, small_accelerator(), autoreset_mode=AutoresetMode.SAME_STEP))
        env.seed(3)
        env.reset()
        returns, lengths, ratios = np.zeros(4), np.zeros(4, int), []
        for _ in range(60):
            actions = env.env.action_masks().argmax(axis=1)
            _, rewards, dones, infos = env.step(actions)
            returns += rewards
            lengths += 1
            assert np.flatnonzero(dones).tolist() == env.ended.tolist()
            for i, ratio in zip(env.ended, env.ratios, strict=True):
                assert infos[i]["episode"] == {"r": pytest.approx(returns[i]), "l": lengths[i]}
                # The reward of an episode is minus the logarithm of its ratio.
                assert ratio == pytest.approx(np.exp(-returns[i]))
                ratios.append(ratio)
                returns[i] = lengths[i] = 0
        assert env.best_ratio == min(ratios)

    def test_refined_mappings_count_with_the_best_of_the_episode(self):
        mode = AutoresetMode.SAME_STEP
        env = VecEnv(MapSpaceRefineVectorEnv(1, LAYER, small_accelerator(), stop=True, autoreset_mode=mode))
        env.seed(0)
        env.reset()
        stop = np.array([int(env.action_space.n) - 1])
        first = env.env.best_mappings()[0]
        env.step(stop)
        evaluator = Evaluator(MapSpace(LAYER, small_accelerator()))
        evaluator.evaluate(first.batch())
        assert env.ratios.tolist() == pytest.approx([evaluator.ratio])

    def test_the_environment_must_reset_in_the_last_step(self):
        with pytest.raises(SpecificationError, match="SAME_STEP"):
            VecEnv(MapSpaceVectorEnv(2, LAYER, small_accelerator()))

    def test_features_of_an_only_task_are_not_looked_at(self):
        env = VecEnv(MapSpaceVectorEnv(2, LAYER, small_accelerator(), autoreset_mode=AutoresetMode.SAME_STEP))
        env.seed(0)
        seen = [env.reset(), *(env.step(env.env.action_masks().argmax(axis=1))[0] for _ in range(40))]
        columns = observed_columns(env, one_task=True)
        varies = np.flatnonzero(np.ptp(np.concatenate(seen), axis=0) > 0)
        assert set(varies) <= set(columns)
        fields = env.env.observation_fields
        assert not set(columns) & set(range(*fields["workload_bounds"].indices(10**6)))
        assert observed_columns(env, one_task=False) == list(range(env.observation_space.shape[0]))


class TestTraining:
    @pytest.mark.parametrize("agent", PARAMETERS)
    def test_an_interrupted_training_ends_as_one_that_was_not(self, agent, tmp_path):
        train(tmp_path / "whole", agent)
        for part in range(3):
            text = train(tmp_path / "parts", agent, seconds=1e-9)
            steps = read_arrays(tmp_path / "parts" / "checkpoint.safetensors")[1]["progress"]["steps"]
            assert 320 * (part + 1) <= steps < 320 * (part + 2)
            assert ("the same command continues" in text) == (part < 2)
        whole, parts = (read_arrays(tmp_path / name / "checkpoint.safetensors") for name in ("whole", "parts"))
        assert whole[0].keys() == parts[0].keys()
        for name, array in whole[0].items():
            np.testing.assert_array_equal(array, parts[0][name], err_msg=name)
        figures = [[row[:1] + row[2:] for row in about["progress"]["evaluations"]] for _, about in (whole, parts)]
        assert figures[0] == figures[1]
        assert "is done" in train(tmp_path / "parts", agent)

    @pytest.mark.parametrize("agent", PARAMETERS)
    def test_a_training_may_stop_before_an_episode_has_ended(self, agent, tmp_path):
        text = train(tmp_path, agent, steps=1)
        evaluations = read_arrays(tmp_path / "checkpoint.safetensors")[1]["progress"]["evaluations"]
        if evaluations[-1][4] is None:
            assert "the best in training -" in text
        assert "the best in training" in train(tmp_path, agent, steps=960)

    @pytest.mark.parametrize("agent", PARAMETERS)
    def test_ctrl_c_loses_the_segment_only(self, agent, tmp_path, monkeypatch):
        train(tmp_path / "whole", agent)
        step_wait, calls = VecEnv.step_wait, []

        def press_ctrl_c(env):
            calls.append(1)
            if len(calls) == 75:
                raise KeyboardInterrupt
            return step_wait(env)

        with monkeypatch.context() as patch:
            patch.setattr(VecEnv, "step_wait", press_ctrl_c)
            with pytest.raises(KeyboardInterrupt):
                train(tmp_path / "parts", agent)
        assert (tmp_path / "parts" / "checkpoint.safetensors").exists()
        train(tmp_path / "parts", agent)
        whole, parts = (read_arrays(tmp_path / name / POLICY)[0] for name in ("whole", "parts"))
        for name, array in whole.items():
            np.testing.assert_array_equal(array, parts[name], err_msg=name)

    def test_the_best_policy_is_kept(self, tmp_path):
        train(tmp_path, "maskable-ppo")
        lines = (tmp_path / "evaluations.csv").read_text().splitlines()
        assert lines[0] == "steps,seconds,best of 1,best of 16,best in training"
        assert len(lines) == 4
        rows = [list(map(float, line.split(","))) for line in lines[1:]]
        assert [row[0] for row in rows] == [320, 640, 960]
        assert all(row[3] <= row[2] for row in rows)
        best = [np.diff(column) for column in zip(*(row[4:] for row in rows), strict=True)]
        assert (best[0] <= 0).all()

    def test_the_figures_of_the_library_go_to_tensorboard(self, tmp_path):
        accumulators = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
        train(tmp_path, "maskable-ppo")
        events = accumulators.EventAccumulator(str(tmp_path / "tensorboard")).Reload()
        assert "train/entropy_loss" in events.Tags()["scalars"]

    def test_another_training_is_not_overwritten(self, tmp_path):
        train(tmp_path, "a2c", steps=320)
        with pytest.raises(SpecificationError, match="another folder"):
            train(tmp_path, "a2c", steps=320, seed=1)
        with pytest.raises(SpecificationError, match="training with other agent"):
            train(tmp_path, "ppo", steps=320)

    def test_several_layers_are_judged_each(self, tmp_path):
        others = [matmul(f"layer{k}", M=2 * k, K=4, N=4) for k in (1, 2, 3, 4, 5)]
        text = train(tmp_path, "maskable-ppo", *others, steps=320)
        assert "geometric mean over layers," in text
        assert read_policy(tmp_path).about["sizes"]["observation"] > 0

    @pytest.mark.parametrize(
        ("env", "machine", "tasks"),
        [("MapSpace-v0", "tiny", 3), ("MapSpaceWarmStart-v0", "tiny", 3), ("MapSpaceSparse-v0", "tiny_sparse", 9)],
    )
    def test_an_evaluation_draws_as_many_mappings_of_each_task(self, env, machine, tasks, tmp_path, monkeypatch):
        layers = [matmul(f"layer{k}", M=8, K=2 * k, N=4) for k in (1, 2, 3)]
        request = request_for(tmp_path, "maskable-ppo", *layers, env=env)
        request = replace(request, accelerator=catalog.accelerator(machine))
        agent = make_agent("maskable-ppo", env=env, **PARAMETERS["maskable-ppo"])
        session = stock_training._Session(agent, request, TrainingProgress())
        fields = session._judge.env.observation_fields
        seen: dict[bytes, set[float]] = {}
        step_wait = VecEnv.step_wait

        def noted(env):
            step = step_wait(env)
            for i, ratio in zip(env.ended, env.ratios, strict=True):
                last = step[3][i]["terminal_observation"]
                task = np.concatenate([last[fields[name]] for name in ("workload_bounds", "workload_densities")])
                seen.setdefault(task.tobytes(), set()).add(ratio)
            return step

        monkeypatch.setattr(VecEnv, "step_wait", noted)
        groups = session._drawn().reshape(-1, stock_training.GROUP)
        owners = [[task for task, ratios in seen.items() if set(group) <= ratios] for group in groups]
        assert all(len(owner) == 1 for owner in owners)
        counts = Counter(owner[0] for owner in owners)
        assert len(counts) == tasks
        assert set(counts.values()) == {len(groups) // tasks}

    @pytest.mark.parametrize("agent", ["maskable-ppo", "dqn"])
    def test_edits_of_complete_mappings(self, agent, tmp_path):
        train(tmp_path, agent, env="MapSpaceRefine-v0", steps=640)
        evaluator = search(tmp_path, agent, samples=300)
        assert evaluator.samples == 300
        assert evaluator.best_mapping is not None

    @pytest.mark.parametrize(
        ("env", "machine"), [("MapSpaceSparse-v0", "tiny_sparse"), ("MapSpaceWarmStart-v0", "tiny")]
    )
    def test_environments_with_arguments_of_their_own(self, env, machine, tmp_path):
        layers = tuple(catalog.workloads("toy/tiny_gemm"))
        request = request_for(tmp_path, "maskable-ppo", *layers, env=env, steps=320)
        request = replace(request, accelerator=catalog.accelerator(machine))
        text = make_trainer("maskable-ppo").train(request, TrainingProgress())
        assert "x the lower bound" in text
        assert "inf" not in text
        # What is said about the use of the policy is true.
        is_sparse = env == "MapSpaceSparse-v0"
        objective = SparsityAware() if is_sparse else "edp"
        evaluator = Evaluator(MapSpace(layers[0], request.accelerator), objective, Budget(samples=20))
        agent = make_agent("maskable-ppo", policy=str(tmp_path))
        assert ("Use it with: mapgym search" in text) == is_sparse
        assert text.endswith(f"--policy {tmp_path} --objective sparsity-aware:edp") == is_sparse
        if is_sparse:
            agent.search(evaluator, 0)
            assert evaluator.samples == 20
        else:
            with pytest.raises(SpecificationError, match="no environment to search a single layer in; sample a policy"):
                agent.search(evaluator, 0)

    def test_what_does_not_fit_is_said(self, tmp_path):
        with pytest.raises(SpecificationError, match="single actions"):
            train(tmp_path, "dqn", env="MapSpaceOneShot-v0")
        with pytest.raises(SpecificationError, match="action masks"):
            train(tmp_path, "maskable-ppo", env="MapSpaceOneShot-v0")
        with pytest.raises(SpecificationError, match="did you mean 'MapSpace-v0'"):
            train(tmp_path, "ppo", env="MapSpac-v0")
        twice = {**PARAMETERS["ppo"], "env": "MapSpaceRefine-v0"}
        with pytest.raises(SpecificationError, match="'MapSpace-v0' and the parameter env=MapSpaceRefine-v0; leave"):
            train(tmp_path, "ppo", env="MapSpace-v0", parameters=twice)
        with pytest.raises(SpecificationError, match="no sparse features"):
            train(tmp_path / "none", "ppo", env="MapSpaceSparse-v0")
        assert not (tmp_path / "none").exists()


class TestStoredPolicies:
    @pytest.fixture(scope="class")
    @staticmethod
    def folder(tmp_path_factory):
        folder = tmp_path_factory.mktemp("policy")
        train(folder, "maskable-ppo", steps=8000)
        return folder

    def test_a_trained_policy_draws_better_mappings_than_random_search(self, folder):
        drawn, random = (
            search(folder, "maskable-ppo", samples=200),
            RecordingEvaluator(MapSpace(LAYER, small_accelerator()), budget=Budget(samples=200)),
        )
        make_agent("random").search(random, 0)
        assert np.median(drawn.values) < 0.8 * np.median(random.values)

    def test_the_seed_decides_and_nothing_is_learned(self, folder):
        before = (folder / POLICY).read_bytes()
        assert search(folder, "maskable-ppo", seed=4).values == search(folder, "maskable-ppo", seed=4).values
        assert search(folder, "maskable-ppo", seed=4).values != search(folder, "maskable-ppo", seed=5).values
        assert (folder / POLICY).read_bytes() == before

    def test_nothing_is_pickled(self, folder):
        # Where TensorBoard is installed, its log is a folder.
        assert sorted(path.name for path in folder.iterdir() if path.is_file()) == [
            "checkpoint.safetensors",
            "evaluations.csv",
            "policy.safetensors",
        ]
        header = (folder / POLICY).read_bytes()
        assert json.loads(header[8 : 8 + int.from_bytes(header[:8], "little")])["__metadata__"]

    def test_a_task_of_other_sizes_is_refused(self, folder):
        with pytest.raises(SpecificationError, match=r"this task has .* train one for it"):
            search(folder, "maskable-ppo", matmul("other", M=64, K=4, N=4))

    def test_another_agent_is_refused(self, folder):
        with pytest.raises(SpecificationError, match="is of agent 'maskable-ppo', not of 'ppo'"):
            search(folder, "ppo")

    def test_what_is_no_policy_is_refused(self, folder, tmp_path):
        with pytest.raises(SpecificationError, match="there is no policy"):
            search(tmp_path, "ppo")
        (tmp_path / POLICY).write_text("no policy")
        with pytest.raises(SpecificationError, match="damaged"):
            search(tmp_path, "ppo")
        arrays, about = read_arrays(folder / POLICY)
        write_arrays(tmp_path / POLICY, dict(list(arrays.items())[1:]), about)
        with pytest.raises(SpecificationError, match="train it anew"):
            search(tmp_path, "maskable-ppo")
        write_arrays(tmp_path / POLICY, arrays, {**about, "agent": "gamma"})
        with pytest.raises(SpecificationError, match="no policy of an agent"):
            search(tmp_path, "maskable-ppo")

    def test_on_the_command_line(self, mapgym, tmp_path):
        task = ("--workload", "toy/tiny_gemm", "--accelerator", "tiny")
        small = [part for name in ("num_envs=8", "hidden=16", "steps=20") for part in ("-p", name)]
        command = ("train", "ppo", *task, "--steps", "320", *small, "-o", tmp_path)
        status, text, _ = mapgym(*command)
        assert status == 0
        assert "--policy" in text
        search = ("search", "toy/tiny_gemm", "tiny", "--policy", tmp_path, "--samples", "20")
        status, text, _ = mapgym(*search, "--json")
        assert status == 0
        assert json.loads(text)["agent"] == "ppo"
        _, _, error = mapgym(*search, "--agent", "gamma")
        assert "leave --agent out" in one_sentence(error)
        status, text, _ = mapgym(*search, "-p", "num_envs=4")
        assert status == 0
        for ignored in ("hidden=32", "policy=elsewhere"):
            _, _, error = mapgym(*search, "-p", ignored)
            assert "is that of its training" in one_sentence(error)

    def test_another_objective_than_that_of_the_training_is_said(self, mapgym, folder, tmp_path):
        task = ("--workload", "toy/tiny_gemm", "--accelerator", "tiny", "--objective", "energy", "--steps", "320")
        small = [part for name in ("num_envs=8", "hidden=16", "steps=20") for part in ("-p", name)]
        assert mapgym("train", "ppo", *task, *small, "-o", tmp_path)[0] == 0
        search = ("search", "toy/tiny_gemm", "tiny", "--policy", tmp_path, "--samples", "20", "--objective")
        assert mapgym(*search, "energy")[::2] == (0, "")
        status, _, error = mapgym(*search, "latency")
        assert status == 0
        assert "was trained for energy, not for latency; it is sampled all the same" in one_sentence(error)
        # What is averaged over densities is compared, not how many there are.
        assert read_policy(folder).mismatch("sparsity-aware:edp") == ""
        assert "for edp, not for energy" in read_policy(folder).mismatch("sparsity-aware:energy")

    @pytest.mark.parametrize("steps", [0, 30])
    def test_ctrl_c_says_what_there_is_to_continue_from(self, mapgym, monkeypatch, tmp_path, steps):
        act, calls = StockAgent.act, []

        def press_ctrl_c(*arguments):
            calls.append(1)
            if len(calls) > steps:
                raise KeyboardInterrupt
            return act(*arguments)

        monkeypatch.setattr(StockAgent, "act", press_ctrl_c)
        task = ("--workload", "toy/tiny_gemm", "--accelerator", "tiny", "--steps", "100000")
        small = [part for name in ("num_envs=8", "hidden=16", "steps=20") for part in ("-p", name)]
        status, _, error = mapgym("train", "ppo", *task, *small, "-o", tmp_path)
        assert status == 130
        last = error.splitlines()[-1]
        there = (tmp_path / "checkpoint.safetensors").exists()
        assert there == (steps > 0)
        assert ("continue from the last checkpoint in" in last) == there
        assert ("begins again from the start" in last) == (not there)

    def test_options_that_mean_nothing_are_refused(self, mapgym, tmp_path):
        for options, message in (
            (("ppo", "--workload", "toy/tiny_gemm", "--steps", "100"), "needs --accelerator"),
            (("ppo", "--samples", "5"), "takes no --samples"),
            (("mind-mappings", "--accelerator", "tiny", "--steps", "5"), "takes no --steps"),
        ):
            _, _, error = mapgym("train", *options, "-o", tmp_path / "none")
            assert message in one_sentence(error)
            assert not (tmp_path / "none").exists()


def test_no_log_is_left_among_the_temporary_files(tmp_path, monkeypatch):
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    for agent, parameters in PARAMETERS.items():
        evaluator = Evaluator(MapSpace(LAYER, small_accelerator()), budget=Budget(samples=100))
        make_agent(agent, **parameters).search(evaluator, 0)
        assert evaluator.samples == 100
    train(tmp_path / "policy", "a2c", steps=320)
    search(tmp_path / "policy", "a2c")
    assert not list(temporary.iterdir())


@pytest.mark.parametrize("agent", PARAMETERS)
def test_a_policy_that_diverges_says_so(agent, monkeypatch, tmp_path):
    import torch

    def make_hopeless(self, *arguments, **options):
        model = make(self, *arguments, **options)
        with torch.no_grad():
            for parameter in model.policy.parameters():
                parameter.fill_(torch.nan)
        return model

    make = vars(type(make_agent(agent))).get("make_model", StockAgent.make_model)
    monkeypatch.setattr(type(make_agent(agent)), "make_model", make_hopeless)
    with pytest.raises(SpecificationError, match=r"diverged.*learning_rate"):
        train(tmp_path, agent)
    evaluator = Evaluator(MapSpace(LAYER, small_accelerator()), budget=Budget(samples=100))
    if agent == "dqn":
        # The best of values that are no numbers is any of them, and the environment takes any action.
        make_agent(agent, **PARAMETERS[agent]).search(evaluator, 0)
        assert evaluator.samples == 100
        return
    with pytest.raises(SpecificationError, match=r"diverged.*learning_rate"):
        make_agent(agent, **PARAMETERS[agent]).search(evaluator, 0)


@pytest.mark.parametrize(
    ("agent", "parameters"),
    [
        ("ppo", {"num_envs": 10**9}),
        ("ppo", {"num_envs": "1e9"}),
        ("ppo", {"hidden": 10**9}),
        ("ppo", {"threads": -1}),
        ("ppo", {"threads": 10**9}),
        ("ppo", {"learning_rate": float("nan")}),
        ("ppo", {"learning_rate": float("inf")}),
        ("ppo", {"steps": 10**9}),
        ("ppo", {"steps": 2**20, "num_envs": 2**12}),
        ("a2c", {"steps": 2**20, "num_envs": 2**12}),
        ("dqn", {"buffer_size": 10**9}),
        ("dqn", {"batch_size": 10**9}),
        ("amortized", {"batch_size": 10**9}),
        ("amortized-search", {"proposals": 10**9}),
        ("amortized-search", {"drawn": float("inf")}),
        ("mind-mappings", {"trajectories": 10**9}),
        ("mind-mappings", {"draws": 10**9}),
        ("mind-mappings", {"temperature": float("inf")}),
    ],
)
def test_parameters_beyond_reason_are_refused(agent, parameters):
    evaluator = Evaluator(MapSpace(LAYER, small_accelerator()), budget=Budget(samples=5))
    with pytest.raises(SpecificationError) as caught:
        make_agent(agent, **parameters).search(evaluator, 0)
    assert f"agent '{agent}'" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_speed_of_learning_says_what_it_measured():
    found = measure_learning("a2c", LAYER, small_accelerator(), num_envs=4, steps=100, rounds=1)
    assert (found.agent, found.workload, found.num_envs, found.threads) == ("a2c", "layer", 4, 1)
    assert found.steps_per_second > 0
    with pytest.raises(SpecificationError, match="does not learn in an environment"):
        measure_learning("gamma", LAYER, small_accelerator())


def test_speed_of_learning_is_measured_on_one_layer(mapgym):
    _, _, error = mapgym("bench", "learning", "--workload", "toy", "--steps", "10", "--rounds", "1")
    assert "not one workload" in one_sentence(error)


def test_the_first_search_of_a_process_is_not_charged_for_loading():
    """An update has been made before the clock starts, and it is not made again."""
    from mapgym.agents.learned.sb3 import stock

    space = MapSpace(LAYER, small_accelerator())
    agent = make_agent("a2c", **PARAMETERS["a2c"])
    agent.warm_up(space)
    assert ("a2c", "MapSpaceVectorEnv") in stock._loaded
    loaded = set(stock._loaded)
    evaluator = Evaluator(space, budget=Budget(samples=20))
    agent.search(evaluator, 0)
    assert (evaluator.samples, stock._loaded) == (20, loaded)


def test_a_search_that_is_stuck_starts_again_with_a_new_policy(monkeypatch):
    made, make = [], StockAgent.make_model

    def noted(*arguments, **options):
        made.append(arguments[2])
        return make(*arguments, **options)

    monkeypatch.setattr(StockAgent, "make_model", noted)
    space = MapSpace(matmul("tiny", M=2, K=1, N=1), small_accelerator())
    agent = make_agent("maskable-ppo", patience=100, **PARAMETERS["maskable-ppo"])
    agent.warm_up(space)
    made.clear()
    evaluator = RecordingEvaluator(space, budget=Budget(samples=1000))
    agent.search(evaluator, 7)
    # A space of a few mappings: its best is found at once, and then nothing improves.
    assert evaluator.trace.samples[-1] < 100
    assert 5 <= len(made) <= 11
    assert made[0] == 7
    assert len(set(made)) == len(made)


def test_a_layer_of_the_catalog_with_and_without_links():
    accelerator = replace(catalog.accelerator("tiny"), peer_links=False)
    for machine in (accelerator, catalog.accelerator("tiny")):
        evaluator = Evaluator(MapSpace(catalog.workload("toy/tiny_gemm"), machine), budget=Budget(samples=100))
        make_agent("maskable-ppo", env="MapSpaceRefine-v0", **PARAMETERS["maskable-ppo"]).search(evaluator, 0)
        assert evaluator.samples == 100
        assert evaluator.ratio >= 1
