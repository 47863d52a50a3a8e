"""MapSpaceRefine-v0: its masks, rewards, starts and observations, beyond the contract."""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from brute_force_spaces import rows, toy_accelerator, toy_workload
from mapgym.cost import CostModel, lower_bound
from mapgym.envs import MapSpaceRefineEnv, MapSpaceRefineVectorEnv
from mapgym.errors import SpecificationError
from mapgym.evaluation.evaluator import Budget, Evaluator
from mapgym.mapping import Mapping
from mapgym.mapspace import MapSpace
from mapgym.spec import catalog
from mapgym.spec.tensor import Tensor
from mapgym.spec.workload import Workload
from mapgym.warmstart import ReplayBuffer
from single_edits import ALL, FIXED, expected_neighbours

TOY, TOY_ACCELERATOR = toy_workload(), toy_accelerator()
DIAGONAL = Workload(
    "diagonal",
    ("I", "J", "K"),
    (12, 6, 4),
    (
        Tensor("A", ((("I", 1),), (("I", 2), ("J", 1)))),
        Tensor("B", ((("J", 3),), (("K", 1), ("I", 2)))),
        Tensor("Outputs", ((("J", 1),), (("K", 1),)), is_output=True),
    ),
)
FILLED = replace(
    TOY_ACCELERATOR,
    levels=tuple(
        replace(level, minimum_utilization=least)
        for level, least in zip(TOY_ACCELERATOR.levels, (0.3, 0.4, 0.0), strict=True)
    ),
)
SPACES: dict[str, dict[str, Any]] = {
    "default": {},
    "no links": {"accelerator": toy_accelerator(peer_links=False)},
    "tight": {"accelerator": toy_accelerator(capacities=(3, 6))},
    "cumulative": {"accelerator": toy_accelerator(fanout_check="cumulative")},
    "all axes": {"accelerator": toy_accelerator(capacities=(3, 5)), "axes": ALL},
    "tile only": {"axes": ("tile",)},
    "constraints": {"constraints": FIXED},
    "utilisation": {"constraints": {"min_utilization": 0.5}},
}


def make(**kwargs: Any) -> MapSpaceRefineEnv:
    defaults = {"workload": TOY, "accelerator": TOY_ACCELERATOR, "reward": "drop", "stop": True}
    return MapSpaceRefineEnv(**{**defaults, **kwargs})


def play(env: MapSpaceRefineEnv, seed: int, stops: bool = False, **reset: Any) -> tuple[list[float], dict[str, Any]]:
    """Plays a masked random episode; returns its rewards and the last info."""
    rng = np.random.default_rng(seed)
    _, info = env.reset(seed=seed, **reset)
    rewards, over = [], False
    while not over:
        legal = np.flatnonzero(info["action_mask"])
        legal = legal if stops or len(legal) == 1 else legal[:-1]
        _, reward, over, _, info = env.step(int(rng.choice(legal)))
        rewards.append(reward)
    return rewards, info


@pytest.mark.parametrize("kwargs", SPACES.values(), ids=SPACES)
def test_mask__is_the_set_of_single_edits_that_stay_legal(kwargs: dict[str, Any]) -> None:
    env = make(**kwargs)
    task = env.task
    space = MapSpace(
        TOY, task.accelerator, kwargs.get("axes", ("tile", "order", "parallelism")), kwargs.get("constraints")
    )
    rng = np.random.default_rng(0)
    for seed in range(12):
        _, info = env.reset(seed=seed)
        for _ in range(2):
            assert info["action_mask"][-1] == 1
            found = []
            for action in np.flatnonzero(info["action_mask"][:-1]):
                other = copy.deepcopy(env)
                other.step(int(action))
                found += rows(other.mapping.batch())
            assert len(set(found)) == len(found)
            assert set(found) == expected_neighbours(space, env.mapping)
            info = env.step(int(rng.choice(np.flatnonzero(info["action_mask"][:-1]))))[4]


@pytest.mark.parametrize(
    ("workload", "kwargs"),
    [
        ("paper/resnet_conv4", {"axes": ALL}),
        ("mobilenet_v2/conv1", {"accelerator": "accel_b_2d", "axes": ALL}),
        ("paper/bert_kqv", {"accelerator": "simba_like", "axes": ALL}),
        ("paper/resnet_conv4", {"accelerator": "eyeriss_like"}),
        ("toy/tiny_conv", {"accelerator": "tiny_sparse_md", "axes": ALL}),
        # A stride; a dim in two ranks; a level that has to be filled.
        ({"type": "conv2d", "C": 4, "M": 6, "P": 4, "Q": 4, "R": 3, "S": 2, "stride": 2}, {"axes": ALL}),
        (DIAGONAL, {"accelerator": toy_accelerator(capacities=(9, 40)), "axes": ALL}),
        (TOY, {"accelerator": FILLED, "axes": ALL}),
    ],
)
def test_mask__is_what_making_and_checking_each_edit_finds(workload: Any, kwargs: dict[str, Any]) -> None:
    env = MapSpaceRefineEnv(workload, steps=30, **kwargs)
    space = MapSpace(env.task.workload, env.task.accelerator, kwargs.get("axes", ("tile", "order", "parallelism")))
    rng = np.random.default_rng(0)
    counts = set()
    for seed in range(4):
        _, info = env.reset(seed=seed)
        for _ in range(25):
            neighbors = space.neighbors(env.mapping)
            # Equal numbers of different mappings that all are neighbours: the same edits.
            counts.add(len(neighbors))
            assert info["action_mask"].sum() == max(1, len(neighbors))
            before = env.mapping
            info = env.step(int(rng.choice(np.flatnonzero(info["action_mask"]))))[4]
            assert not len(neighbors) or set(rows(env.mapping.batch())) <= set(rows(neighbors))
            assert env.mapping != before or not len(neighbors)
    assert len(counts) > 3


def test_mask__with_several_tasks_knows_the_one_of_the_episode() -> None:
    env = MapSpaceRefineEnv(["paper/resnet_conv4", "paper/bert_kqv"], ["accel_b", "eyeriss_like"])
    for seed in range(8):
        _, info = env.reset(seed=seed)
        space = MapSpace(env.task.workload, env.task.accelerator)
        assert space.contains(env.mapping)
        assert info["action_mask"].sum() == len(space.neighbors(env.mapping))


def test_actions__say_what_they_mean() -> None:
    env = make(start="trivial")
    env.reset(seed=0)
    meanings = [env.action_meaning(action) for action in range(int(env.action_space.n))]
    assert len(set(meanings)) == len(meanings)
    assert meanings[-1] == "stop"
    action = meanings.index("move 2 of K from Memory to Registers in parallel on X")
    env.step(action)
    assert env.mapping.spatial_sides(0) == ([("K", 2)], [])
    assert env.mapping.temporal_loops(2) == [("K", 2), ("P", 3), ("R", 2)]
    env.step(meanings.index("swap K and R at Memory"))
    assert env.mapping.temporal_loops(2) == [("R", 2), ("P", 3), ("K", 2)]


@pytest.mark.parametrize("objective", ["edp", "energy", "latency"])
def test_return__telescopes(objective: str) -> None:
    env = make(objective=objective, steps=15)
    model, bound = CostModel(TOY, TOY_ACCELERATOR), lower_bound(TOY, TOY_ACCELERATOR).objective(objective)
    moved = 0
    for seed in range(10):
        env.reset(seed=seed)
        first = model.evaluate(env.mapping).objective(objective)
        rewards, info = play(env, seed, stops=seed % 2 == 1)
        last = model.evaluate(env.mapping).objective(objective)
        best = model.evaluate(env.best_mapping).objective(objective)
        assert sum(rewards) == pytest.approx(math.log(first / last), abs=1e-9)
        assert info["ratio"] == pytest.approx(last / bound)
        assert info["first_ratio"] == pytest.approx(first / bound)
        assert info["best_ratio"] == pytest.approx(best / bound)
        assert best <= min(first, last)
        assert len(rewards) == info["edits"] + (info["edits"] < 15)
        moved += first != last
    assert moved > 5


def test_reward_best__is_what_the_best_mapping_improves_by() -> None:
    env, other = make(reward="best", steps=15), make(reward="drop", steps=15)
    worse = 0
    for seed in range(10):
        rewards, info = play(env, seed)
        drops, same = play(other, seed)
        assert same["best_ratio"] == info["best_ratio"]
        assert min(rewards) >= 0.0
        assert sum(rewards) == pytest.approx(math.log(info["first_ratio"] / info["best_ratio"]), abs=1e-9)
        # From the rewards of the present mappings, the best of whose running sums is known.
        sums = np.maximum.accumulate(np.cumsum([0.0, *drops]))
        np.testing.assert_allclose(rewards, np.diff(sums), atol=1e-9)
        worse += min(drops) < 0
    assert worse


def test_default__has_episodes_of_one_length_in_which_nothing_is_lost_by_trying() -> None:
    env, vector = gym.make("MapSpaceRefine-v0", steps=7), gym.make_vec("MapSpaceRefine-v0", 3, steps=7)
    assert env.spec.max_episode_steps == vector.spec.max_episode_steps == 7
    assert gym.make("MapSpaceWarmStart-v0", steps=5).spec.max_episode_steps == 5
    rewards, _ = play(env.unwrapped, 0)
    assert len(rewards) == 7
    assert min(rewards) >= 0.0
    assert "stop" not in [env.unwrapped.action_meaning(action) for action in range(int(env.action_space.n))]


def test_no_legal_edit__is_a_step_that_changes_nothing() -> None:
    # A bound of 1 has no factors, and one loop no order.
    workload = toy_workload(1, 1, 1)
    env = MapSpaceRefineEnv(workload, TOY_ACCELERATOR, steps=2)
    _, info = env.reset(seed=0)
    before = env.mapping
    assert info["action_mask"].tolist() == [1]
    assert env.step(0)[1:4] == (0.0, False, False)
    assert env.step(0)[1:4] == (0.0, True, False)
    assert env.mapping == before


def test_episode__ends_with_the_last_edit_or_with_a_stop() -> None:
    env = make(steps=3)
    rewards, info = play(env, 0)
    assert (len(rewards), info["edits"]) == (3, 3)
    env.reset(seed=1)
    before = env.mapping
    _, reward, over, truncated, info = env.step(int(env.action_space.n) - 1)
    assert (reward, over, truncated, info["edits"]) == (0.0, True, False, 0)
    assert env.mapping == before


def test_observation__says_what_the_mapping_is_and_what_is_left() -> None:
    env = MapSpaceRefineEnv(accelerator="accel_b_2d", steps=8)
    fields = env.observation_fields
    observation, info = env.reset(seed=0)
    bounds = np.log2(np.maximum(env.task.workload.bounds, 2))
    rng = np.random.default_rng(0)
    best = math.inf
    for step in range(8):
        mapping = env.mapping
        shape = mapping.temporal.shape
        on_y = np.zeros(shape, bool)
        for s in range(shape[0]):
            on_y[s, mapping.spatial_order[s, mapping.spatial_split[s] :]] = True
        spatial = np.log2(mapping.spatial) / bounds
        cost = CostModel(env.task.workload, env.task.accelerator).evaluate(mapping)
        excess = math.log(cost.edp / lower_bound(env.task.workload, env.task.accelerator).edp)
        best = min(best, excess)
        expected = {
            "temporal": np.log2(mapping.temporal) / bounds,
            "spatial_x": np.where(on_y, 0, spatial),
            "spatial_y": np.where(on_y, spatial, 0),
            "keep": mapping.keep,
            "edits_left": 1 - step / 8,
            "log_ratio": excess / (4 + excess),
            "best_log_ratio": best / (4 + best),
        }
        for name, values in expected.items():
            np.testing.assert_allclose(observation[fields[name]], np.ravel(values), atol=1e-6, err_msg=name)
        order = observation[fields["order"]].reshape(shape)
        for s in range(shape[0]):
            loops = [env.task.workload.dims.index(dim) for dim, _ in mapping.temporal_loops(s)]
            assert list(np.argsort(order[s], kind="stable")[shape[1] - len(loops) :]) == loops
        for s, level in enumerate(env.task.accelerator.levels):
            if level.capacity_words is not None:
                extents = np.prod(mapping.temporal[: s + 1] * mapping.spatial[: s + 1], axis=0)
                tile = dict(zip(mapping.dims, map(int, extents), strict=True))
                kept = zip(env.task.workload.tensors, mapping.keep[s], strict=True)
                words = sum(tensor.tile_size(tile) for tensor, keeps in kept if keeps)
                share = observation[fields["capacity_used"]][s]
                assert share == pytest.approx(words / level.capacity_words, abs=1e-6)
        observation, _, _, _, info = env.step(int(rng.choice(np.flatnonzero(info["action_mask"]))))
    assert observation[fields["edits_left"]] == 0.0


def test_start__trivial_and_given_mappings_are_taken_as_they_are() -> None:
    for start in ("trivial", Mapping.trivial(TOY, TOY_ACCELERATOR)):
        env = make(start=start)
        _, info = env.reset(seed=3)
        assert env.mapping == Mapping.trivial(TOY, TOY_ACCELERATOR)
        assert not info["random_start"]
    env = make()
    assert env.reset(seed=3)[1]["random_start"]
    assert MapSpace(TOY, TOY_ACCELERATOR).contains(env.mapping)


def test_start__from_a_buffer_is_the_transferred_nearest_entry(tmp_path) -> None:
    accelerator = catalog.accelerator("accel_b")
    source = MapSpace(catalog.workload("resnet18/conv2"), accelerator)
    buffer = ReplayBuffer(tmp_path / "buffer")
    buffer.add(source.workload, accelerator, source.sample(np.random.default_rng(0), 1)[0])
    target = MapSpace(catalog.workload("resnet18/conv3"), accelerator)
    expected = target.canonical(buffer.initial(target))[0]
    for start in (buffer, str(tmp_path / "buffer")):
        env = MapSpaceRefineEnv("resnet18/conv3", "accel_b", start=start)
        assert not env.reset(seed=0)[1]["random_start"]
        assert env.mapping == expected
        vector = gym.make_vec("MapSpaceRefine-v0", 2, workload="resnet18/conv3", start=start)
        assert vector.reset(seed=0)[1]["random_start"].tolist() == [False, False]
    # Nothing in it is about energy.
    env = MapSpaceRefineEnv("resnet18/conv3", "accel_b", "energy", start=buffer)
    assert env.reset(seed=0)[1]["random_start"]


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"start": "trivail"}, "trivial"),
        ({"start": 3}, "start is 3"),
        ({"start": "trivial", "constraints": {"min_utilization": 0.5}}, "not in the map space"),
        ({"start": Mapping.trivial(toy_workload(2, 2, 1), TOY_ACCELERATOR)}, "not in the map space"),
        ({"start": Mapping.trivial(TOY, catalog.accelerator("accel_b"))}, "other dims, levels"),
        ({"steps": 0}, "steps"),
        ({"reward": "terminal"}, "reward"),
        ({"stop": 1}, "stop is 1"),
        ({"render_mode": "human"}, "render_mode"),
    ],
)
def test_wrong_arguments__are_named(kwargs: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecificationError, match=message):
        make(**kwargs)
    with pytest.raises(SpecificationError, match=message):
        MapSpaceRefineVectorEnv(2, **{"workload": TOY, "accelerator": TOY_ACCELERATOR, **kwargs})


def test_reset_options__refuse_a_task_with_other_edits() -> None:
    env = make(workload=toy_workload(4, 3, 2))
    env.reset(options={"workload": toy_workload(8, 3, 2)})
    assert env.task.workload.bounds == (8, 3, 2)
    with pytest.raises(SpecificationError, match="larger than the spaces"):
        env.reset(options={"workload": toy_workload(6, 3, 2)})


def test_evaluator__counts_starts_and_edits_and_ends_the_episode_when_spent() -> None:
    evaluator = Evaluator(MapSpace(TOY, TOY_ACCELERATOR), "energy", Budget(samples=8))
    env = MapSpaceRefineEnv(evaluator=evaluator, steps=5)
    rewards, info = play(env, 0)
    assert (len(rewards), evaluator.samples) == (5, 6)
    assert not info["budget_exhausted"]
    _, info = env.reset(seed=1)
    assert evaluator.samples == 7
    info = env.step(int(np.flatnonzero(info["action_mask"])[0]))[4]
    before = env.mapping
    _, reward, over, _, info = env.step(int(np.flatnonzero(info["action_mask"])[0]))
    assert (reward, over, info["budget_exhausted"], info["edits"]) == (0.0, True, True, 1)
    assert env.mapping == before
    # A start that nobody prices.
    env.reset(seed=2)
    observation, reward, over, _, info = env.step(0)
    assert (reward, over, info["budget_exhausted"], info["edits"]) == (0.0, True, True, 0)
    assert info["ratio"] == -1
    assert observation[env.observation_fields["log_ratio"]] == 1.0
    assert evaluator.samples == 8


def test_masks__leave_room_for_the_metadata_of_compressed_tiles() -> None:
    names = [name for name in catalog.accelerator_names() if any(lv.formats for lv in catalog.accelerator(name).levels)]
    if not names:
        pytest.skip("no accelerator of the catalog compresses")
    env = MapSpaceRefineEnv("paper/resnet_conv4", names[0], steps=5)
    for seed in range(3):
        _, info = play(env, seed)
        assert info["ratio"] >= 1.0


def test_vector__masks_and_best_mappings() -> None:
    vector = MapSpaceRefineVectorEnv(3, TOY, TOY_ACCELERATOR, steps=4)
    _, info = vector.reset(seed=0)
    assert np.array_equal(vector.action_masks(), info["action_mask"].astype(bool))
    for _ in range(4):
        info = vector.step(np.argmax(info["action_mask"], axis=1))[4]
    model = CostModel(TOY, TOY_ACCELERATOR)
    bound = lower_bound(TOY, TOY_ACCELERATOR).edp
    costs = [model.evaluate(mapping).edp / bound for mapping in vector.best_mappings()]
    assert info["best_ratio"] == pytest.approx(costs)
    with pytest.raises(SpecificationError, match="shape"):
        vector.step(np.zeros((3, 2), np.int64))


@pytest.mark.parametrize(
    ("accelerator", "axes", "illegal"),
    [
        ("accel_b", ("tile", "order", "parallelism"), "nearest"),
        # Hardware with networks and leakage, which another kernel prices.
        ("eyeriss_like", ALL, "penalty"),
    ],
)
@pytest.mark.parametrize("reward", ["best", "drop"])
def test_step__is_that_of_its_parts(accelerator: str, axes: tuple[str, ...], illegal: str, reward: str) -> None:
    # An evaluator has every part of a step done by itself; without one, a compiled call does all of it.
    workload, machine = catalog.workload("paper/resnet_conv4"), catalog.accelerator(accelerator)
    evaluator = Evaluator(MapSpace(workload, machine, axes), "energy", Budget(samples=10_000))
    options: dict[str, Any] = {"steps": 30, "reward": reward, "illegal": illegal}
    whole = MapSpaceRefineEnv(workload, machine, "energy", axes, **options)
    parts = MapSpaceRefineEnv(evaluator=evaluator, **options)
    rng = np.random.default_rng(0)
    for seed in range(3):
        results = [env.reset(seed=seed) for env in (whole, parts)]
        assert np.array_equal(results[0][0], results[1][0])
        over = False
        while not over:
            mask = results[0][-1]["action_mask"]
            action = int(rng.choice(mask.nonzero()[0] if rng.random() < 0.8 else len(mask)))
            results = [env.step(action) for env in (whole, parts)]
            (seen, earned, over, _, info), (seen_too, earned_too, over_too, _, info_too) = results
            assert np.array_equal(seen, seen_too)
            assert (earned, over) == (earned_too, over_too)
            assert info.keys() == info_too.keys()
            for name, value in info.items():
                assert np.array_equal(value, info_too[name]), name
            assert whole.mapping == parts.mapping
