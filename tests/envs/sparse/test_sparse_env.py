"""MapSpaceSparse-v0: densities that are drawn, seen and hidden, and what mappings earn, beyond the contract."""

from __future__ import annotations

import math
from dataclasses import replace

import gymnasium as gym
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from brute_force import Key, enumerate_space, key_of
from mapgym.cost import CostModel, lower_bound
from mapgym.envs import (
    MapSpaceEnv,
    MapSpaceOneShotEnv,
    MapSpaceSparseEnv,
    MapSpaceSparseVectorEnv,
    make_env,
    make_vec_env,
)
from mapgym.envs.common import tasks as environment_tasks
from mapgym.envs.common.reward import ILLEGAL_REWARD, Pricing
from mapgym.envs.common.task import Task
from mapgym.envs.sparse.sparse_tasks import WEIGHT_DENSITIES
from mapgym.errors import SpecificationError
from mapgym.evaluation.evaluator import Budget, Evaluator
from mapgym.evaluation.sparsity_aware import DENSITIES, DensitySet, SparsityAware
from mapgym.mapspace import MapSpace
from mapgym.mapspace.construction.construction import Construction
from mapgym.spec import catalog
from mapgym.spec.accelerator import Accelerator
from mapgym.spec.levels import Mac, StorageLevel
from mapgym.spec.workload import conv2d, matmul, mttkrp

LAYER = matmul("layer", M=8, K=16, N=4)
COMPRESSED = Accelerator(
    "compressed",
    (
        StorageLevel("Buffer", 11, formats=(("Weights", ("4*CP",)), ("Inputs", ("4*CP",)))),
        StorageLevel("Memory", access_energy_pj=100.0, formats=(("Weights", ("8*CP",)), ("Inputs", ("8*CP",)))),
    ),
    Mac("MAC", 2),
)


def little_metadata(bits: int) -> Accelerator:
    machine = catalog.accelerator("tiny_sparse_md")
    levels = [replace(level, metadata_capacity_bits=bits) if level.name == "RF" else level for level in machine.levels]
    return replace(machine, levels=tuple(levels))


def finish(env: MapSpaceEnv, seed: int, **reset: object) -> tuple[float, dict]:
    """Plays a masked random episode; returns its last reward and info."""
    rng = np.random.default_rng(seed)
    _, info = env.reset(seed=seed, **reset)
    over = False
    while not over:
        _, reward, over, _, info = env.step(int(rng.choice(np.flatnonzero(info["action_mask"]))))
    return reward, info


def tensors_of(env: MapSpaceEnv, field: str, observation: np.ndarray) -> dict[str, float]:
    names = [tensor.name for tensor in env.task.workload.tensors]
    return dict(zip(names, observation[env.observation_fields[field]].tolist(), strict=True))


def test_weight_density__is_drawn_and_seen() -> None:
    env = MapSpaceSparseEnv()
    counts = dict.fromkeys(WEIGHT_DENSITIES, 0)
    for seed in range(450):
        observation, _ = env.reset(seed=seed)
        density = env.task.workload.tensor("Weights").density
        counts[density] += 1
        assert tensors_of(env, "workload_densities", observation)["Weights"] == pytest.approx(density)
        x = -math.log2(density)
        assert tensors_of(env, "workload_sparsities", observation)["Weights"] == pytest.approx(x / (1 + x))
    # 50 are expected of each; 20 is more than four standard deviations below.
    assert min(counts.values()) > 20


def test_activation_density__is_not_seen() -> None:
    # What is seen depends on the highest density alone, for which there must be room.
    seen = [
        MapSpaceSparseEnv(weight_densities=0.5, densities=densities).reset(seed=0)[0]
        for densities in ([0.8], [0.8, 0.1], [0.5, 0.8, 0.2])
    ]
    assert all(np.array_equal(seen[0], other) for other in seen)
    sparse_inputs = catalog.workload("paper/resnet_conv4").with_densities({"Inputs": 0.3})
    env = MapSpaceSparseEnv(sparse_inputs, weight_densities=0.5, densities=[0.8])
    assert np.array_equal(env.reset(seed=0)[0], seen[0])


@pytest.mark.parametrize("objective", ["edp", "energy", "latency"])
def test_reward__is_that_of_the_geometric_mean_over_densities(objective: str) -> None:
    densities, weights = (1.0, 0.4, 0.05), (1.0, 2.0, 5.0)
    env = MapSpaceSparseEnv(
        LAYER, "tiny_sparse", objective, weight_densities=[0.5, 0.25], densities=densities, density_weights=weights
    )
    for seed in range(5):
        reward, info = finish(env, seed)
        weight_density = env.task.workload.tensor("Weights").density
        logs = []
        for density in densities:
            layer = LAYER.with_densities({"Weights": weight_density, "Inputs": density})
            cost = CostModel(layer, env.task.accelerator).evaluate(env.mapping).objective(objective)
            ratio = cost / lower_bound(layer, env.task.accelerator).objective(objective)
            assert info[f"ratio_at_{density}"] == pytest.approx(ratio)
            assert ratio >= 1
            logs.append(math.log(ratio))
        assert reward == pytest.approx(-np.dot(weights, logs) / sum(weights))
        assert info["ratio"] == pytest.approx(math.exp(-reward))


@settings(max_examples=30, deadline=None)
@given(
    weights=st.sampled_from(WEIGHT_DENSITIES),
    densities=st.sets(st.floats(0.01, 1.0), min_size=1, max_size=3),
    distribution=st.sampled_from(["fixed-structured", "hypergeometric"]),
    bits=st.sampled_from([32, 48, 64, 96, 2**20]),
    seed=st.integers(0, 1000),
)
def test_masks__leave_room_at_every_density(
    weights: float, densities: set[float], distribution: str, bits: int, seed: int
) -> None:
    layer = LAYER.with_densities({}, distribution)
    env = MapSpaceSparseEnv(layer, little_metadata(bits), weight_densities=weights, densities=sorted(densities))
    _, info = finish(env, seed)
    for density in densities:
        at = layer.with_densities({"Weights": weights, "Inputs": density})
        assert MapSpace(at, env.task.accelerator).status(env.mapping.batch())[0] == 0
    assert math.isfinite(info["ratio"])


def test_masks__reach_exactly_the_mappings_that_are_legal_at_every_density() -> None:
    layer = matmul("toy", M=4, K=2, N=1)
    densities = (0.75, 0.5)
    env = MapSpaceSparseEnv(layer, COMPRESSED, weight_densities=0.5, densities=densities)
    env.reset(seed=0)
    found: set[Key] = set()
    waiting = [env.get_state()]
    while waiting:
        state = waiting.pop()
        env.set_state(state)
        for action in np.flatnonzero(env.action_masks()):
            env.set_state(state)
            if env.step(int(action))[2]:
                found.add(key_of(env.mapping.batch(), 0))
            else:
                waiting.append(env.get_state())
    legal = [
        enumerate_space(MapSpace(layer.with_densities({"Weights": 0.5, "Inputs": density}), COMPRESSED))
        for density in (*densities, 1.0)
    ]
    assert found == legal[0] & legal[1]
    # Denser activations would leave room for fewer mappings, so the set of densities matters.
    assert legal[2] < found


def test_reward__of_a_mapping_by_hand() -> None:
    # All 8 multiply-accumulates one after the other on one of 8 MACs; they are skipped where the input is zero.
    layer = matmul("hand", M=2, K=4, N=1)
    env = MapSpaceSparseEnv(layer, "tiny_sparse", "latency", weight_densities=1.0, densities=(1.0, 0.5))
    observation, info = env.reset(seed=0)
    kinds, over = env.observation_fields["decision_kind"], False
    while not over:
        legal = np.flatnonzero(info["action_mask"])
        is_parallel = observation[kinds][1] == 1
        observation, reward, over, _, info = env.step(int(legal[0] if is_parallel else legal[-1]))
    assert env.mapping.temporal[0].tolist() == [1, 2, 4, 1]
    # 8 and 4 cycles; the bounds are 8 / 8 cycles and half of that, which is one whole cycle.
    assert info["ratio_at_1.0"] == 8.0
    assert info["ratio_at_0.5"] == 4.0
    assert info["ratio"] == pytest.approx(math.sqrt(32))
    assert reward == pytest.approx(-math.log(32) / 2)


def test_metadata__are_made_room_for() -> None:
    machine = little_metadata(40)
    env = MapSpaceSparseEnv(LAYER, machine, weight_densities=0.5, densities=(0.5, 0.2), render_mode="ansi")
    space = MapSpace(LAYER.with_densities({"Weights": 0.5, "Inputs": 0.5}), machine)
    repaired = 0
    for seed in range(40):
        reward, info = finish(env, seed)
        assert math.exp(-reward) == pytest.approx(info["ratio"])
        assert space.contains(env.mapping)
        assert env.render() == f"{env.mapping.to_text()}\ncomplete"
        chosen = env._prepared.construction.export(env._memory.state[None], np.zeros(1, np.int64))
        assert info["repaired"] is not space.contains(chosen[0])
        assert info["repaired"] or chosen[0] == env.mapping
        repaired += info["repaired"]
    assert 0 < repaired < 40


def test_metadata__that_nothing_makes_room_for_are_punished() -> None:
    # Parallel factors stay where they are, and take more room than there is.
    env = MapSpaceSparseEnv(LAYER, little_metadata(16), densities=(0.5, 0.2))
    ends = [finish(env, seed) for seed in range(60)]
    illegal = [(reward, info) for reward, info in ends if math.isinf(info["ratio"])]
    assert 0 < len(illegal) < len(ends)
    assert all(reward == ILLEGAL_REWARD for reward, _ in illegal)
    assert all(math.isinf(info["ratio_at_0.5"]) and math.isinf(info["ratio_at_0.2"]) for _, info in illegal)


@pytest.mark.parametrize("objective", ["edp", "energy", "latency"])
def test_figures__are_those_of_the_costs_that_an_evaluator_gets(objective: str) -> None:
    aware = SparsityAware((1.0, 0.5, 0.2), (1, 2, 4), objective)
    layer, machine = LAYER.with_densities({"Weights": 0.5}), little_metadata(200)
    space, task = MapSpace(layer, machine), Task(layer, machine, objective=aware)
    batch = Construction(space.definition).sample(np.random.default_rng(0), 50)
    plain = Pricing(task, space).figures(batch)
    assert 0 < np.isinf(plain[5]).sum() < 50
    assert np.array_equal(plain, Pricing(task, space, Evaluator(space, aware)).figures(batch))
    for i in range(0, 50, 7):
        assert np.array_equal(plain[:, i : i + 1], Pricing(task, space).figures(batch[[i]]))
    names = Pricing(task, space).names
    costs = DensitySet(layer, machine, aware).evaluate(batch)
    expected = np.exp(sum(share * np.log(costs.per_density("energy")[k]) for k, share in enumerate(aware.shares)))
    assert np.allclose(plain[names.index("energy_pj")], expected)
    assert np.array_equal(plain[names.index("ratio_at_0.2")], costs.ratios()[2])


def test_reset_options__fix_what_is_drawn() -> None:
    env = MapSpaceSparseEnv(["paper/bert_kqv", LAYER], ["accel_b_sparse", "accel_b_sparse_md"])
    names = set()
    for seed in range(30):
        env.reset(seed=seed, options={"weight_density": 0.04, "objective": "energy"})
        names.add((env.task.workload.name, env.task.accelerator.name))
        assert env.task.workload.tensor("Weights").density == 0.04
        assert env.task.metric == "energy"
    assert len(names) == 4
    found = set()
    for seed in range(100):
        env.reset(seed=seed, options={"workload": LAYER, "accelerator": "accel_b_sparse"})
        found.add(env.task.workload.tensor("Weights").density)
        assert (env.task.workload.name, env.task.accelerator.name) == ("layer", "accel_b_sparse")
    assert found == set(WEIGHT_DENSITIES)
    assert env.task.metric == "edp"


def first_legal(mask: np.ndarray) -> np.ndarray:
    return mask.argmax(axis=-1)


def test_reset_options__do_not_pile_up_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment_tasks, "MOST_GIVEN", 3)
    env = MapSpaceSparseEnv(LAYER, "tiny_sparse")
    densities = [k / 40 for k in range(1, 31)]
    first = [finish(env, 0, options={"weight_density": density})[1]["ratio"] for density in densities]
    assert len(env._tasks.prepared) == len(WEIGHT_DENSITIES) + 3
    again = [finish(env, 0, options={"weight_density": density})[1]["ratio"] for density in densities]
    assert first == again
    assert len(set(first)) > 20
    assert finish(env, 0)[0] == finish(MapSpaceSparseEnv(LAYER, "tiny_sparse"), 0)[0]


@settings(max_examples=15, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 7), st.sampled_from([k / 10 for k in range(1, 11)])), max_size=6))
def test_vector_reset_options__leave_running_episodes_their_tasks(resets: list[tuple[int, float]]) -> None:
    arguments = {"workload": LAYER, "accelerator": "tiny_sparse", "weight_densities": 0.55}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(environment_tasks, "MOST_GIVEN", 1)
        vector, scalars = MapSpaceSparseVectorEnv(3, **arguments), [MapSpaceSparseEnv(**arguments) for _ in range(3)]
        vector.reset()
        infos = [env.reset()[1] for env in scalars]
        for rows, density in resets:
            chosen = np.array([rows >> i & 1 for i in range(3)], np.bool_)
            observed = vector.reset(options={"weight_density": density, "reset_mask": chosen})[0]
            for i in np.flatnonzero(chosen):
                seen, infos[i] = scalars[i].reset(options={"weight_density": density})
                assert np.array_equal(observed[i], seen)
            assert vector.tasks() == [env.task for env in scalars]
            observed, _, over, _, _ = vector.step(first_legal(vector.action_masks()))
            assert not over.any()
            for i, env in enumerate(scalars):
                seen, _, _, _, infos[i] = env.step(int(first_legal(infos[i]["action_mask"])))
                assert np.array_equal(observed[i], seen)
        # The task of the environment, one that is kept ready, and those that are in use.
        assert len(vector._tasks.prepared) <= 1 + 1 + 3
        ratios: dict[int, float] = {}
        while len(ratios) < 3:
            _, _, over, _, info = vector.step(first_legal(vector.action_masks()))
            for i in np.flatnonzero(over):
                ratios.setdefault(int(i), float(info["ratio"][i]))
    for i, (env, info) in enumerate(zip(scalars, infos, strict=True)):
        while info["ratio"] < 0:
            info = env.step(int(first_legal(info["action_mask"])))[4]
        assert ratios[i] == pytest.approx(info["ratio"])


def test_weight_densities__may_be_those_of_the_layers() -> None:
    pruned = [LAYER.with_densities({"Weights": density}, "hypergeometric") for density in (0.3, 0.6)]
    env = MapSpaceSparseEnv(pruned, weight_densities="workload")
    found = set()
    for seed in range(20):
        observation, _ = env.reset(seed=seed)
        found.add(env.task.workload.tensor("Weights").density)
        assert tensors_of(env, "workload_hypergeometric", observation)["Weights"] == 1
    assert found == {0.3, 0.6}


def test_observation__tells_sparse_accelerators_apart() -> None:
    env = MapSpaceSparseEnv(LAYER, ["tiny_sparse", "tiny_sparse_md"])
    fields = env.observation_fields
    plain = env.reset(seed=0, options={"accelerator": "tiny_sparse"})[0]
    compressed = env.reset(seed=0, options={"accelerator": "tiny_sparse_md"})[0]
    assert plain[fields["level_compressed"]].tolist() == [0] * 9
    assert compressed[fields["level_compressed"]].tolist() == [1] * 9
    assert plain[fields["level_skipping"]].tolist() == [1] * 9
    assert plain[fields["level_gating"]].tolist() == [0] * 9
    assert plain[fields["zero_operands"]].tolist() == [0, 1]
    # Only the main memory has unlimited room for metadata.
    assert (compressed[fields["level_metadata_capacity"]] == 1).tolist() == [False, False, True]


def test_evaluator__pays_for_each_density() -> None:
    layer = LAYER.with_densities({"Weights": 0.2})
    evaluator = Evaluator(
        MapSpace(layer, catalog.accelerator("tiny_sparse_md")), SparsityAware((1.0, 0.5)), Budget(samples=12)
    )
    env = make_env(evaluator)
    assert isinstance(env, MapSpaceSparseEnv)
    best = min(-finish(env, seed)[0] for seed in range(6))
    assert evaluator.samples == 12
    assert math.log(evaluator.best_value) == pytest.approx(best)
    reward, info = finish(env, 6)
    assert reward == 0.0
    assert info["budget_exhausted"]
    assert info["ratio"] == -1
    observation, _ = env.reset(seed=0)
    assert tensors_of(env, "workload_densities", observation)["Weights"] == pytest.approx(0.2)
    own = MapSpaceSparseEnv(LAYER, "tiny_sparse_md", weight_densities=0.2, densities=(1.0, 0.5))
    assert np.array_equal(own.reset(seed=0)[0], observation)
    with pytest.raises(SpecificationError, match="evaluator"):
        env.reset(options={"weight_density": 0.5})


def test_evaluator__vector_budget_ends_within_a_batch() -> None:
    evaluator = Evaluator(
        MapSpace(LAYER, catalog.accelerator("tiny_sparse")), SparsityAware((1.0, 0.5, 0.1)), Budget(samples=10)
    )
    vector = make_vec_env(evaluator, 2)
    assert isinstance(vector, MapSpaceSparseVectorEnv)
    _, info = vector.reset(seed=0)
    priced = refused = 0
    for _ in range(200):
        info = vector.step(np.argmax(info["action_mask"], axis=1))[4]
        priced += int((info["ratio_at_0.1"] >= 0).sum())
        refused += int(info["budget_exhausted"].sum())
    # 10 samples pay for 3 mappings at 3 densities.
    assert (priced, evaluator.samples) == (3, 9)
    assert refused > 0


def test_other_environments__take_such_an_evaluator_too() -> None:
    space = MapSpace(LAYER, catalog.accelerator("tiny_sparse"))
    env = MapSpaceOneShotEnv(evaluator=Evaluator(space, SparsityAware()))
    env.reset(seed=0)
    env.action_space.seed(0)
    _, reward, _, _, info = env.step(env.action_space.sample())
    assert reward == pytest.approx(-math.log(info["ratio"]))
    assert {f"ratio_at_{density}" for density in DENSITIES} <= info.keys()


def test_no_zeros__cost_what_dense_layers_cost() -> None:
    sparse = MapSpaceSparseEnv(LAYER, "tiny_sparse", weight_densities=1.0, densities=[1.0])
    dense = MapSpaceEnv(LAYER, "tiny")
    for seed in range(10):
        one, other = finish(sparse, seed), finish(dense, seed)
        assert one[1]["edp"] == pytest.approx(other[1]["edp"])
    assert sparse.action_space == dense.action_space


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"accelerator": "accel_b"}, "'accel_b' has no sparse features"),
        ({"accelerator": ["accel_b_sparse", "tiny"]}, "'tiny' has no sparse features"),
        ({"weight_densities": 0.0}, "weight_densities has 0.0; give numbers above 0"),
        ({"weight_densities": []}, "give at least one density"),
        ({"weight_densities": [0.5, 0.5]}, "none of them twice"),
        ({"weight_densities": "layer"}, "or 'workload' for those that the layers have"),
        ({"densities": [0.5, 1.5]}, "1.5"),
        ({"densities": [0.5], "density_weights": [1, 2]}, "one weight for each density"),
        ({"objective": "edb"}, "did you mean 'edp'"),
        ({"reward": "shapely"}, "did you mean 'shaped'"),
        ({"workload": mttkrp(I=2, J=2, K=2, L=2)}, "has no tensor 'Inputs'"),
    ],
)
def test_bad_arguments__are_answered_in_one_sentence(arguments: dict, message: str) -> None:
    for make in (MapSpaceSparseEnv, MapSpaceSparseVectorEnv):
        with pytest.raises(SpecificationError, match=message):
            make(**arguments)


def test_bad_use__of_evaluators_and_options_is_answered_in_one_sentence() -> None:
    space = MapSpace(LAYER, catalog.accelerator("tiny_sparse"))
    with pytest.raises(SpecificationError, match="the evaluator minimises 'edp'"):
        MapSpaceSparseEnv(evaluator=Evaluator(space, "edp"))
    with pytest.raises(SpecificationError, match="densities is given together with an evaluator"):
        MapSpaceSparseEnv(densities=[0.5], evaluator=Evaluator(space, SparsityAware()))
    env = MapSpaceSparseEnv(LAYER, "tiny_sparse")
    with pytest.raises(SpecificationError, match="unknown key 'weight_densities'; did you mean 'weight_density'"):
        env.reset(options={"weight_densities": 0.5})
    with pytest.raises(SpecificationError, match="larger than the spaces"):
        env.reset(options={"workload": conv2d(C=8, M=64, P=56, Q=56, R=3, S=3)})


def test_vector__has_a_density_of_its_own_for_each_environment() -> None:
    vector = gym.make_vec("MapSpaceSparse-v0", num_envs=64, workload=LAYER.to_dict(), accelerator="tiny_sparse")
    observations, _ = vector.reset(seed=0)
    unwrapped = vector.unwrapped
    assert isinstance(unwrapped, MapSpaceSparseVectorEnv)
    drawn = [task.workload.tensor("Weights").density for task in unwrapped.tasks()]
    assert len(set(drawn)) > 4
    weights = [tensor.name for tensor in LAYER.tensors].index("Weights")
    seen = observations[:, unwrapped.observation_fields["workload_densities"]][:, weights]
    assert np.allclose(seen, drawn)


def test_policy__sees_the_density_of_the_weights_and_serves_any(tmp_path, monkeypatch) -> None:
    pytest.importorskip("sb3_contrib")
    from mapgym.adapters.sb3 import VecEnv
    from mapgym.agents import make_agent
    from mapgym.agents.learned.sb3 import training as stock_training
    from mapgym.agents.learned.sb3.stock import observed_columns
    from mapgym.agents.learned.training import TrainingProgress, TrainingRequest, make_trainer

    machine = catalog.accelerator("tiny_sparse_md")
    env = VecEnv(MapSpaceSparseVectorEnv(2, LAYER, machine, autoreset_mode="SameStep"))
    seen = env.env.observation_fields["workload_sparsities"]
    assert set(range(seen.start, seen.stop)) <= set(observed_columns(env, one_task=True))

    monkeypatch.setattr(stock_training, "SEGMENT_STEPS", 320)
    small = {"num_envs": 8, "hidden": 16, "steps": 20, "batch_size": 80, "epochs": 2}
    request = TrainingRequest(machine, tmp_path, (LAYER,), env="MapSpaceSparse-v0", steps=320, parameters=small)
    make_trainer("maskable-ppo").train(request, TrainingProgress())
    for density in (0.6, 0.05):
        space = MapSpace(LAYER.with_densities({"Weights": density}), machine)
        evaluator = Evaluator(space, SparsityAware(), Budget(samples=50))
        make_agent("maskable-ppo", policy=str(tmp_path)).search(evaluator, 0)
        # 50 samples pay for 10 mappings at 5 densities.
        assert (evaluator.samples, evaluator.mappings) == (50, 10)
        assert evaluator.best_value >= 1
