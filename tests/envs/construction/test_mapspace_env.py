"""MapSpace-v0: what its masks, observations, rewards and tasks are, beyond the contract."""

from __future__ import annotations

import math

import gymnasium as gym
import numpy as np
import pytest

from brute_force import Key, enumerate_space, key_of
from mapgym.cost import CostModel, lower_bound
from mapgym.envs import MapSpaceEnv, MapSpaceVectorEnv, TaskDistribution
from mapgym.envs.common.observation import squash
from mapgym.errors import SpecificationError
from mapgym.evaluation.evaluator import Budget, Evaluator
from mapgym.mapping import Mapping
from mapgym.mapspace import MapSpace
from mapgym.spec import catalog
from mapgym.spec.accelerator import Accelerator
from mapgym.spec.constraints import Constraints
from mapgym.spec.levels import Mac, StorageLevel
from mapgym.spec.workload import Workload, conv2d, matmul

TOY = matmul("toy", B=1, M=4, K=2, N=1)
TOY_ACCELERATOR = Accelerator(
    "toy",
    (StorageLevel("Registers", 4, 2), StorageLevel("Buffer", 12), StorageLevel("Memory", access_energy_pj=100.0)),
    Mac("MAC", 4),
)
MESH = Accelerator("mesh", (StorageLevel("Buffer", 64), StorageLevel("Memory")), Mac("MAC", 2, 3), peer_links=False)
ONE_MAC = Accelerator("one", (StorageLevel("Memory"),), Mac("MAC"))


def finish(env: MapSpaceEnv, seed: int, **reset: object) -> tuple[list[float], dict]:
    """Plays a masked random episode; returns its rewards and the last info."""
    rng = np.random.default_rng(seed)
    _, info = env.reset(seed=seed, **reset)
    rewards, over = [], False
    while not over:
        _, reward, over, _, info = env.step(int(rng.choice(np.flatnonzero(info["action_mask"]))))
        rewards.append(reward)
    return rewards, info


def test_masks__reach_exactly_the_legal_mappings() -> None:
    env = MapSpaceEnv(TOY, TOY_ACCELERATOR)
    env.reset(seed=0)
    found: set[Key] = set()
    paths = 0
    waiting = [env.get_state()]
    while waiting:
        state = waiting.pop()
        env.set_state(state)
        for action in np.flatnonzero(env.action_masks()):
            env.set_state(state)
            if env.step(int(action))[2]:
                found.add(key_of(env.mapping.batch(), 0))
                paths += 1
            else:
                waiting.append(env.get_state())
    assert found == enumerate_space(MapSpace(TOY, TOY_ACCELERATOR))
    assert paths == len(found)


def test_action__divisors_mesh_axes_and_dims_have_the_documented_numbers() -> None:
    # Divisors: M 1 2 3 6, K 1 2. Dims: B 0, M 1, K 2, N 3.
    env = MapSpaceEnv(matmul("gemm", B=1, M=6, K=2, N=1), MESH, objective="latency")
    assert env.action_space.n == 8
    _, info = env.reset(seed=0)
    # K, which is summed over, in parallel: 1 or 2 on X; 2 on Y, which is 4 (the largest number of divisors) further.
    assert np.flatnonzero(info["action_mask"]).tolist() == [0, 1, 5]
    info = env.step(1)[4]
    # M in parallel: Y has room for 2 or 3, and X has none left.
    assert np.flatnonzero(info["action_mask"]).tolist() == [0, 5, 6]
    info = env.step(6)[4]
    # What is left of M is 2, of K nothing: only M's tile factor is a decision, and then nothing is left to order.
    assert np.flatnonzero(info["action_mask"]).tolist() == [0, 1]
    _, reward, over, truncated, info = env.step(1)
    assert over
    assert not truncated
    assert env.mapping.to_text() == (
        "Memory [Weights, Inputs, Outputs]\n"
        "  Buffer [Weights, Inputs, Outputs]\n"
        "    for M in 0..2\n"
        "      parallel-for M in 0..3 on Y\n"
        "        parallel-for K in 0..2 on X\n"
        "          multiply-accumulate"
    )
    assert info["latency_cycles"] == 2.0
    assert info["utilization"] == 1.0
    assert reward == -math.log(2.0 / info["lower_bound"])


def test_reward__is_the_log_of_cost_over_lower_bound() -> None:
    for objective in ("edp", "energy", "latency"):
        env = MapSpaceEnv(TOY, TOY_ACCELERATOR, objective=objective)
        for seed in range(20):
            rewards, info = finish(env, seed)
            cost = CostModel(TOY, TOY_ACCELERATOR).evaluate(env.mapping)
            bound = lower_bound(TOY, TOY_ACCELERATOR).objective(objective)
            assert cost.legal
            assert rewards[:-1] == [0.0] * (len(rewards) - 1)
            assert rewards[-1] == pytest.approx(-math.log(cost.objective(objective) / bound), rel=1e-12)
            assert rewards[-1] <= 1e-12
            assert info["ratio"] == pytest.approx(cost.objective(objective) / bound)
            assert (info["latency_cycles"], info["energy_pj"]) == (cost.latency_cycles, cost.energy_pj)
            assert (info["edp"], info["utilization"]) == (cost.edp, cost.utilization)


@pytest.mark.parametrize("objective", ["edp", "energy", "latency"])
def test_shaped_reward__leaves_the_return_as_it_is(objective: str) -> None:
    plain = MapSpaceEnv(accelerator="accel_b_2d", objective=objective)
    shaped = MapSpaceEnv(accelerator="accel_b_2d", objective=objective, reward="shaped")
    moved = 0
    for seed in range(10):
        rewards, _ = finish(plain, seed)
        with_shaping, _ = finish(shaped, seed)
        assert sum(with_shaping) == pytest.approx(sum(rewards), rel=1e-9)
        moved += with_shaping != rewards
    assert moved > 5


def test_shaped_reward__charges_idle_units_when_they_are_decided() -> None:
    env = MapSpaceEnv(matmul("gemm", B=1, M=6, K=2, N=1), MESH, objective="latency", reward="shaped")
    env.reset(seed=0)
    # K not parallel, M on Y by 3: 3 of 6 units.
    assert env.step(0)[1] == 0.0
    assert env.step(6)[1] == pytest.approx(math.log(1 / 2))


def test_decisions__dims_summed_over_come_first_then_the_largest_bounds() -> None:
    layer = conv2d("layer", N=2, C=4, M=8, P=5, Q=7, R=9, S=3)
    env = MapSpaceEnv(layer, "accel_b", axes=("tile",))
    level, dim = env.observation_fields["decision_level"], env.observation_fields["decision_dim"]
    observation, _ = env.reset(seed=0)
    met = []
    terminated = False
    while not terminated:
        if observation[level][0] == 1.0:
            met.append(layer.dims[int(observation[dim].argmax())])
        observation, _, terminated, _, _ = env.step(0)
    assert met == ["R", "C", "S", "M", "Q", "P", "N"]


def test_nothing_to_decide__one_action_ends_the_episode() -> None:
    env = MapSpaceEnv(matmul("point", B=1, M=1, K=1, N=1), ONE_MAC)
    _, info = env.reset(seed=0)
    assert np.flatnonzero(info["action_mask"]).tolist() == [0]
    observation, reward, over, _, info = env.step(0)
    assert over
    assert info["ratio"] >= 1.0
    assert env.observation_space.contains(observation)
    vector = MapSpaceVectorEnv(2, matmul("point", B=1, M=1, K=1, N=1), ONE_MAC)
    vector.reset(seed=0)
    _, rewards, over, _, _ = vector.step(np.zeros(2, np.int64))
    assert over.all()
    assert rewards.tolist() == [reward, reward]


def expected_observation(env: MapSpaceEnv) -> dict[str, np.ndarray]:
    """The fields that follow from the mapping so far, computed without the kernels."""
    mapping: Mapping = env.mapping
    workload, accelerator = env.task.workload, env.task.accelerator
    logs = np.log2(np.maximum(workload.bounds, 2)) * (np.array(workload.bounds) > 1)
    scale = np.where(logs > 0, 1 / np.maximum(logs, 1e-9), 0)
    on_y = np.zeros_like(mapping.spatial, dtype=bool)
    for s in range(len(mapping.levels)):
        on_y[s, mapping.spatial_order[s, mapping.spatial_split[s] :]] = True
    spatial = np.log2(mapping.spatial)
    used = np.zeros(len(mapping.levels))
    for s, level in enumerate(accelerator.levels[:-1]):
        if level.capacity_words is not None:
            extents = np.prod(mapping.temporal[: s + 1] * mapping.spatial[: s + 1], axis=0)
            tile = dict(zip(workload.dims, map(int, extents), strict=True))
            words = sum(t.tile_size(tile) for t, k in zip(workload.tensors, mapping.keep[s], strict=True) if k)
            used[s] = words / level.capacity_words
    placed = np.prod(mapping.temporal * mapping.spatial, axis=0)
    fanout = [np.log2(np.maximum(f, 2)) for f in (accelerator.fanout_x, accelerator.fanout_y)]
    return {
        "remaining": (logs - np.log2(placed)) * scale,
        "temporal": np.log2(mapping.temporal) * scale,
        "spatial_x": np.where(on_y, 0, spatial) * scale,
        "spatial_y": np.where(on_y, spatial, 0) * scale,
        "capacity_used": used,
        "fanout_used_x": np.where(on_y, 0, spatial).sum(axis=1) / fanout[0],
        "fanout_used_y": np.where(on_y, spatial, 0).sum(axis=1) / fanout[1],
    }


@pytest.mark.parametrize("accelerator", ["accel_b", "accel_b_2d", "eyeriss_like", "simba_like"])
def test_observation__follows_the_mapping_in_every_step(accelerator: str) -> None:
    env = MapSpaceEnv("paper/resnet_conv4", accelerator)
    rng = np.random.default_rng(0)
    fields = env.observation_fields
    for seed in range(3):
        observation, info = env.reset(seed=seed)
        over, progress = False, -1.0
        while not over:
            for name, values in expected_observation(env).items():
                np.testing.assert_allclose(observation[fields[name]], values.ravel(), atol=1e-6, err_msg=name)
            assert observation[fields["decision_kind"]].sum() == 1
            assert observation[fields["decision_level"]].sum() == 1
            assert observation[fields["progress"]][0] > progress
            progress = observation[fields["progress"]][0]
            action = int(rng.choice(np.flatnonzero(info["action_mask"])))
            observation, _, over, _, info = env.step(action)
        for name, values in expected_observation(env).items():
            np.testing.assert_allclose(observation[fields[name]], values.ravel(), atol=1e-6, err_msg=name)
        order = observation[fields["order"]].reshape(env.mapping.order.shape)
        for s in range(len(order)):
            # The last of two loops or more needs no decision, but it has a place too.
            loops = [env.mapping.dims.index(dim) for dim, _ in env.mapping.temporal_loops(s)]
            assert order[s, loops].tolist() == pytest.approx([(i + 1) / order.shape[1] for i in range(len(loops))])
        assert observation[fields["progress"]] == 1
        assert observation[fields["decision_kind"]].sum() == 0


def test_observation__static_fields_of_a_hand_made_task() -> None:
    workload = conv2d("conv", N=1, C=2, M=4, P=8, Q=1, R=3, S=1, stride=2)
    env = MapSpaceEnv([workload, "paper/bert_kqv"], [MESH, TOY_ACCELERATOR], axes=("tile", "parallelism", "bypass"))
    options = {"workload": workload, "accelerator": MESH}
    observation, _ = env.reset(seed=0, options=options)
    fields = env.observation_fields
    dims = len(workload.dims)
    p, r = workload.dims.index("P"), workload.dims.index("R")
    inputs = [tensor.name for tensor in workload.tensors].index("Inputs")
    assert observation[fields["workload_bounds"]][p] == pytest.approx(3 / 31)
    coefficients = observation[fields["workload_coefficients"]].reshape(3, dims)
    assert coefficients[inputs, p] == pytest.approx(2 / 3)
    assert coefficients[inputs, r] == pytest.approx(1 / 2)
    assert observation[fields["workload_windows"]].reshape(3, dims)[inputs, p] == 1
    assert observation[fields["level_exists"]].tolist() == [1, 1, 0]
    assert observation[fields["level_capacity"]].tolist() == pytest.approx([squash(64), 1, 0])
    assert observation[fields["keep"]].tolist() == [0.5] * 3 + [1] * 3 + [0] * 3
    assert observation[fields["objective"]].tolist() == [1, 0, 0]
    assert observation[fields["peer_links"]] == 0


def test_squash__is_bounded_and_monotone() -> None:
    values = [0.0, 5e-324, 1e-9, 2.0**-8, 1.0, 2.0**8, 1e300, math.inf, None]
    squashed = [squash(value) for value in values]
    assert squashed == sorted(squashed)
    assert (squashed[0], squashed[3], squashed[4], squashed[5], squashed[-1]) == (0.0, 0.25, 0.5, 0.75, 1.0)


def test_innermost_orders__make_shorter_episodes() -> None:
    full = [len(finish(MapSpaceEnv(), seed)[0]) for seed in range(5)]
    innermost = [len(finish(MapSpaceEnv(orders="innermost"), seed)[0]) for seed in range(5)]
    assert sum(innermost) < sum(full)


def test_tasks__come_from_lists_networks_and_options() -> None:
    layers = catalog.network("resnet18").layers
    assert len(TaskDistribution("resnet18", "accel_b")) == len(layers)
    assert len(TaskDistribution(["resnet18", TOY], ["accel_a", "accel_b"])) == 2 * len(layers) + 2
    env = MapSpaceEnv(["resnet18", TOY], ["accel_b", "accel_b_2d"])
    names = set()
    for seed in range(300):
        env.reset(seed=seed)
        names.add((env.task.workload.name, env.task.accelerator.name))
    assert len(names) == 2 * (len(layers) + 1)
    env.reset(seed=0, options={"workload": "resnet18/conv1", "accelerator": "accel_b_2d", "objective": "energy"})
    assert (env.task.workload.name, env.task.objective) == ("resnet18/conv1", "energy")
    env.reset(seed=0, options={"workload": "paper/bert_kqv"})
    assert env.task.workload.name == "paper/bert_kqv"


def test_vector_tasks__options_hold_for_one_episode() -> None:
    vector = MapSpaceVectorEnv(3, [TOY, "paper/bert_attn"], TOY_ACCELERATOR.to_dict())
    _, info = vector.reset(seed=0, options={"workload": TOY.to_dict(), "objective": "latency"})
    assert {task.objective for task in vector.tasks()} == {"latency"}
    for _ in range(500):
        info = vector.step(np.argmax(info["action_mask"], axis=1))[4]
    assert {task.objective for task in vector.tasks()} == {"edp"}


def test_evaluator__prices_counts_and_ends() -> None:
    space = MapSpace(TOY, TOY_ACCELERATOR, axes=("tile", "parallelism"))
    evaluator = Evaluator(space, "energy", Budget(samples=5))
    env = MapSpaceEnv(evaluator=evaluator)
    best = min(-finish(env, seed)[0][-1] for seed in range(5))
    assert evaluator.samples == 5
    assert math.log(evaluator.best_value / evaluator.lower_bound.energy_pj) == pytest.approx(best)
    rewards, info = finish(env, 6)
    assert rewards[-1] == 0.0
    assert info["budget_exhausted"]
    assert info["edp"] == -1
    with pytest.raises(SpecificationError, match="evaluator"):
        MapSpaceEnv(workload=TOY, evaluator=evaluator)
    with pytest.raises(SpecificationError, match="evaluator"):
        env.reset(options={"workload": TOY})


@pytest.mark.parametrize("mode", ["NextStep", "SameStep"])
def test_evaluator__vector_budget_ends_within_a_batch(mode: str) -> None:
    evaluator = Evaluator(MapSpace(TOY, TOY_ACCELERATOR), "edp", Budget(samples=3))
    vector = MapSpaceVectorEnv(2, evaluator=evaluator, autoreset_mode=mode)
    _, info = vector.reset(seed=0)
    priced = refused = 0
    for _ in range(200):
        _, rewards, over, _, info = vector.step(np.argmax(info["action_mask"], axis=1))
        last = info.get("final_info", info) if mode == "SameStep" else info
        told = last["_ratio"] & (last["ratio"] >= 0)
        exhausted = last["budget_exhausted"]
        assert np.array_equal(told | exhausted, over)
        assert np.all(rewards[exhausted] == 0)
        priced += told.sum()
        refused += exhausted.sum()
    assert priced == evaluator.samples == 3
    assert refused > 0


def test_vector__finished_holds_the_mappings_of_the_step() -> None:
    vector = gym.make_vec("MapSpace-v0", num_envs=4, workload="paper/bert_kqv").unwrapped
    assert isinstance(vector, MapSpaceVectorEnv)
    _, info = vector.reset(seed=0)
    rng = np.random.default_rng(0)
    count = 0
    while count < 8:
        actions = np.array([rng.choice(np.flatnonzero(mask)) for mask in info["action_mask"]])
        _, _, over, _, info = vector.step(actions)
        rows = [row for rows, _ in vector.finished for row in rows]
        assert rows == np.flatnonzero(over).tolist()
        for rows, batch in vector.finished:
            task = vector.tasks()[rows[0]]
            costs = CostModel(task.workload, task.accelerator).evaluate(batch)
            assert np.array_equal(costs.edp, info["edp"][rows])
            count += len(rows)


def test_vector__without_copies_gives_the_same_numbers() -> None:
    copied, shared = MapSpaceVectorEnv(4), MapSpaceVectorEnv(4, copy=False)
    one, other = copied.reset(seed=0), shared.reset(seed=0)
    for _ in range(50):
        assert np.array_equal(one[0], other[0])
        actions = np.argmax(one[-1]["action_mask"], axis=1)
        one, other = copied.step(actions), shared.step(actions)


def test_rendering__shows_the_nest_and_what_is_next() -> None:
    env = MapSpaceEnv(TOY, TOY_ACCELERATOR, render_mode="ansi")
    env.reset(seed=0)
    # Two MACs side by side would need 5 words of the 4 in their registers, so the first decision is further out.
    said = env.render().splitlines()
    start = said.index("next: parallel at Buffer, dim K")
    legal = env.action_masks().nonzero()[0].tolist()
    assert said[start + 1 :] == ["legal actions:", *(f"  {k}: {env.action_meaning(k)}" for k in legal)]
    assert "  1: K by 2, in parallel on X, at Buffer" in said
    decision = env.reset(seed=0)[0][env.unwrapped.observation_fields["decision_dim"]]
    assert TOY.dims[int(np.argmax(decision))] == "K"
    finish(env, 0)
    assert env.render() == f"{env.mapping.to_text()}\ncomplete"
    picture = MapSpaceEnv(TOY, TOY_ACCELERATOR, render_mode="rgb_array")
    picture.reset(seed=0)
    before = picture.render()
    finish(picture, 0)
    assert before.shape == picture.render().shape
    assert np.any(before != picture.render())
    vector = MapSpaceVectorEnv(2, TOY, TOY_ACCELERATOR, render_mode="rgb_array")
    vector.reset(seed=0)
    assert np.array_equal(vector.render()[1], before)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"reward": "shapely"}, "did you mean 'shaped'"),
        ({"orders": "outermost"}, "orders is 'outermost'"),
        ({"objective": "edb"}, "did you mean 'edp'"),
        ({"render_mode": "human"}, "render_mode is 'human'"),
        ({"workload": []}, "empty list"),
        ({"axes": ("tiles",)}, "tile"),
        ({"constraints": Constraints(min_utilization=0.5)}, "cannot mask the constraints"),
        (
            {"accelerator": Accelerator("free", (StorageLevel("M", access_energy_pj=0.0),), Mac(energy_pj=0.0))},
            "no energy for a multiply-accumulate",
        ),
        ({"workload": TOY, "accelerator": Accelerator("full", (StorageLevel("M", 3),), Mac())}, "must hold at least"),
    ],
)
def test_bad_arguments__are_answered_in_one_sentence(arguments: dict, message: str) -> None:
    for make in (MapSpaceEnv, MapSpaceVectorEnv):
        with pytest.raises(SpecificationError, match=message):
            make(**arguments)


def test_bad_use__of_reset_and_vectors_is_answered_in_one_sentence() -> None:
    env = MapSpaceEnv(TOY, TOY_ACCELERATOR)
    with pytest.raises(gym.error.ResetNeeded):
        env.step(0)
    with pytest.raises(SpecificationError, match="larger than the spaces"):
        env.reset(options={"workload": "paper/resnet_conv4"})
    with pytest.raises(SpecificationError, match="larger than the spaces"):
        env.reset(options={"accelerator": MESH})
    with pytest.raises(SpecificationError, match="num_envs"):
        MapSpaceVectorEnv(0)
    with pytest.raises(SpecificationError, match="max_episode_steps"):
        MapSpaceVectorEnv(2, max_episode_steps=0)
    with pytest.raises(SpecificationError, match="autoreset_mode"):
        MapSpaceVectorEnv(2, autoreset_mode="never")
    vector = MapSpaceVectorEnv(2, TOY, TOY_ACCELERATOR)
    with pytest.raises(gym.error.ResetNeeded):
        vector.step(np.zeros(2, np.int64))
    with pytest.raises(SpecificationError, match="reset_mask"):
        vector.reset(options={"reset_mask": np.zeros(2, bool)})
    with pytest.raises(SpecificationError, match="3 seeds"):
        vector.reset(seed=[1, 2, 3])
    vector.reset(seed=[1, 2])
    for actions in (np.zeros(3, np.int64), np.full(2, 0.5)):
        with pytest.raises(SpecificationError, match="give 2 integers"):
            vector.step(actions)


def test_large_and_small_tasks__share_one_policy_shape() -> None:
    tasks: list[Workload | str] = [TOY, "paper/inception_conv2", "paper/bert_attn", "mobilenet_v2"]
    env = MapSpaceEnv(tasks, ["accel_b", "eyeriss_like", "tiny", "simba_like", "accel_b_2d"])
    for seed in range(40):
        rewards, info = finish(env, seed)
        assert np.isfinite(rewards[-1])
        assert info["ratio"] >= 1 - 1e-12


def test_vector__observations_that_are_held_do_not_change() -> None:
    vector = MapSpaceVectorEnv(3, TOY, TOY_ACCELERATOR)
    observations, info = vector.reset(seed=0)
    held, views, copies = [observations], [], [observations.copy()]
    for step in range(40):
        observations, _, _, _, info = vector.step(np.argmax(info["action_mask"], axis=1))
        if step % 3:
            held.append(observations)
            copies.append(observations.copy())
        elif step % 2:
            # A view keeps the memory of its array.
            views.append((observations[1:], observations[1:].copy()))
    assert all(map(np.array_equal, held, copies))
    assert all(np.array_equal(view, expected) for view, expected in views)


def test_a_file_with_layers_makes_a_task_of_each(tmp_path):
    file = tmp_path / "network.yaml"
    file.write_text("layers:\n  a: {type: matmul, M: 2, K: 2, N: 2}\n  b: {type: matmul, M: 4, K: 2, N: 2}\n")
    seen = set()
    env = gym.make("MapSpace-v0", workload=str(file), accelerator="tiny").unwrapped
    for seed in range(20):
        env.reset(seed=seed)
        seen.add(env.task.workload.name.rsplit("/", 1)[-1])
    assert seen == {"a", "b"}
