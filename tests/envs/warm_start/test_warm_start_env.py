"""MapSpaceWarmStart-v0: the order of its layers, its starts and what it remembers, beyond the contract."""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from brute_force_spaces import toy_accelerator, toy_workload
from mapgym.cost import CostModel
from mapgym.envs import MapSpaceWarmStartEnv, MapSpaceWarmStartVectorEnv
from mapgym.errors import SpecificationError
from mapgym.mapspace import MapSpace
from mapgym.spec.workload import Workload
from mapgym.warmstart import ReplayBuffer, editing_distance, transfer

MACHINE = toy_accelerator()


def layer(name: str, k: int = 4, p: int = 3, r: int = 2) -> Workload:
    return dataclasses.replace(toy_workload(k, p, r), name=name)


A, B, C = layer("a", 4, 3, 2), layer("b", 8, 3, 2), layer("c", 4, 3, 3)
NETWORK = [A, B, C]


def make(**kwargs: Any) -> MapSpaceWarmStartEnv:
    return MapSpaceWarmStartEnv(**{"network": NETWORK, "accelerator": MACHINE, "steps": 6, **kwargs})


def play(env: MapSpaceWarmStartEnv, rng: np.random.Generator, **reset: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Plays a masked random episode that uses all edits; returns the first and the last info."""
    _, first = env.reset(**reset)
    info, over = first, False
    while not over:
        legal = np.flatnonzero(info["action_mask"])
        _, _, over, _, info = env.step(int(rng.choice(legal[:-1] if len(legal) > 1 else legal)))
    return first, info


def test_episodes_go_through_the_layers_in_order_and_begin_again() -> None:
    env, rng = make(), np.random.default_rng(0)
    names = []
    for episode in range(7):
        play(env, rng, seed=5 if episode == 0 else None)
        names.append(env.task.workload.name)
    assert names == ["a", "b", "c", "a", "b", "c", "a"]
    env.reset(seed=5)
    assert env.task.workload.name == "a"


def test_accelerators_are_gone_through_one_after_the_other() -> None:
    other = dataclasses.replace(toy_accelerator(capacities=(9, 30)), name="larger")
    env, rng = make(accelerator=[MACHINE, other]), np.random.default_rng(0)
    seen = []
    for episode in range(7):
        play(env, rng, seed=0 if episode == 0 else None)
        seen.append((env.task.accelerator.name, env.task.workload.name))
    assert seen[:6] == [(machine, name) for machine in ("toy", "larger") for name in "abc"]
    assert seen[6] == seen[0]


def test_each_episode_starts_from_the_most_similar_solved_layer() -> None:
    env, rng = make(), np.random.default_rng(1)
    first, _ = play(env, rng, seed=0)
    assert (first["random_start"], first["random_starts"], first["solved_layers"]) == (True, 1, 0)
    solved = {"a": env.best_mapping}
    # The nearest to b and to c is a: each of the two differs from it in one dim, and in two from the other.
    for workload, known in ((B, 1), (C, 2)):
        _, info = env.reset()
        space = MapSpace(workload, MACHINE)
        assert env.mapping == space.canonical(transfer(solved["a"], A, space).batch())[0]
        assert (info["random_start"], info["random_starts"], info["failed_transfers"]) == (False, 1, 0)
        assert info["solved_layers"] == known
        while not env.step(int(env.action_space.n) - 1)[2]:
            pass
    # What comes up again is its own nearest.
    env.reset()
    assert env.mapping == solved["a"]


def test_what_is_found_is_remembered_if_it_is_better() -> None:
    env, rng = make(network=[A]), np.random.default_rng(2)
    model, values = CostModel(A, MACHINE), []
    for episode in range(12):
        play(env, rng, seed=0 if episode == 0 else None)
        values.append(model.evaluate(env.best_mapping).edp)
        best = min(entry.value for entry in env.buffer)
        assert best == pytest.approx(min(values))
        env_start = copy.deepcopy(env)
        env_start.reset()
        assert model.evaluate(env_start.mapping).edp == pytest.approx(best)
    assert not [*env.buffer.problems()]
    # Episodes that find nothing better leave no entry, or a long training would fill the memory.
    assert len(env.buffer) == len(set(np.round(np.minimum.accumulate(values), 6)))


def test_a_reset_with_a_seed_forgets() -> None:
    env, rng = make(), np.random.default_rng(3)
    for episode in range(4):
        play(env, rng, seed=9 if episode == 0 else None)
    assert len(env.buffer) >= 3
    _, info = env.reset(seed=9)
    assert (len(env.buffer), info["random_starts"], info["solved_layers"]) == (0, 1, 0)


def test_an_episode_that_is_left_adds_nothing() -> None:
    env = make()
    env.reset(seed=0)
    env.step(int(np.flatnonzero(env.action_masks())[0]))
    _, info = env.reset()
    assert env.task.workload.name == "b"
    assert (len(env.buffer), info["random_starts"], info["solved_layers"]) == (0, 2, 0)


def test_a_fixed_episode_takes_no_turn_but_is_remembered() -> None:
    env, rng = make(), np.random.default_rng(4)
    play(env, rng, seed=0, options={"workload": C})
    assert env.task.workload.name == "c"
    first, _ = play(env, rng)
    assert env.task.workload.name == "a"
    assert not first["random_start"]


def test_a_given_buffer_is_a_start_and_only_read(tmp_path) -> None:
    path = tmp_path / "layers.buffer"
    given = ReplayBuffer(path)
    mapping = MapSpace(B, MACHINE).sample(np.random.default_rng(0), 1)[0]
    given.add(B, MACHINE, mapping)
    before = path.read_bytes()
    space = MapSpace(A, MACHINE)
    expected = space.canonical(transfer(mapping, B, space).batch())[0]
    for buffer in (given, path, str(path)):
        env, rng = make(buffer=buffer), np.random.default_rng(0)
        for seed in (0, 1):
            _, info = env.reset(seed=seed)
            assert (info["random_start"], info["solved_layers"]) == (False, 0)
            assert env.mapping == expected
        for _ in range(3):
            play(env, rng)
    assert path.read_bytes() == before
    assert len(given) == 1
    # What was solved for another objective says nothing.
    assert make(buffer=path, objective="latency").reset(seed=0)[1]["random_start"]


def test_a_record_is_written_and_not_read(tmp_path) -> None:
    path, rng = tmp_path / "found.buffer", np.random.default_rng(0)
    env = make(record=path)
    for episode in range(3):
        play(env, rng, seed=0 if episode == 0 else None)
    written = ReplayBuffer(path)
    assert [entry.workload for entry in written] == NETWORK
    assert not [*written.problems()]
    assert make(record=path).reset(seed=0)[1]["random_start"]
    # Another environment may begin from it.
    assert not make(buffer=path).reset(seed=0)[1]["random_start"]


def test_a_transfer_that_fails_is_counted_and_the_start_is_random() -> None:
    # A prime bound cannot use half of the array of MACs.
    prime = layer("prime", 7, 5, 1)
    mapping = MapSpace(prime, MACHINE).sample(np.random.default_rng(0), 1)[0]
    given = ReplayBuffer()
    given.add(prime, MACHINE, mapping)
    env = make(network=[A, C], buffer=given, constraints={"min_utilization": 0.5})
    _, info = env.reset(seed=0)
    assert (info["random_start"], info["random_starts"], info["failed_transfers"]) == (True, 1, 1)
    assert MapSpace(A, MACHINE, constraints={"min_utilization": 0.5}).contains(env.mapping)


def test_similarity_may_be_chosen() -> None:
    # By the number of dims that differ d is nearer to e, by their ratios to f.
    d, e, f = layer("d", 8, 4, 2), layer("e", 8, 4, 64), layer("f", 16, 8, 2)
    buffer, rng = ReplayBuffer(), np.random.default_rng(0)
    machine = toy_accelerator(capacities=(40, 400))
    mappings = {}
    for workload in (e, f):
        mappings[workload.name] = MapSpace(workload, machine).sample(rng, 1)[0]
        buffer.add(workload, machine, mappings[workload.name])
    space = MapSpace(d, machine)
    expected = {
        "editing": space.canonical(transfer(mappings["e"], e, space).batch())[0],
        "log-ratio": space.canonical(transfer(mappings["f"], f, space).batch())[0],
    }
    assert expected["editing"] != expected["log-ratio"]
    for similarity in ("editing", "log-ratio", editing_distance):
        env = MapSpaceWarmStartEnv(d, machine, similarity=similarity, buffer=buffer)
        env.reset(seed=0)
        assert env.mapping == expected["editing" if callable(similarity) else similarity]


def test_vector__each_environment_remembers_for_itself() -> None:
    vector = gym.make_vec("MapSpaceWarmStart-v0", 3, network=NETWORK, accelerator=MACHINE, steps=1).unwrapped
    assert isinstance(vector, MapSpaceWarmStartVectorEnv)
    _, info = vector.reset(seed=0)
    stop = vector.single_action_space.n - 1
    # The first one stops at once, the others go on: they are at different layers from then on.
    info = vector.step(np.array([stop, np.argmax(info["action_mask"][1]), stop]))[4]
    assert [len(buffer) for buffer in vector.buffers] == [1, 1, 1]
    info = vector.step(np.full(3, stop))[4]
    assert [task.workload.name for task in vector.tasks()] == ["b", "b", "b"]
    vector.reset(seed=[7, None, None], options={"reset_mask": np.array([True, False, False])})
    assert [task.workload.name for task in vector.tasks()] == ["a", "b", "b"]
    assert [len(buffer) for buffer in vector.buffers] == [0, 1, 1]


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"network": "resnet81"}, "unknown network 'resnet81'; did you mean 'resnet18'"),
        ({"network": "resnet19"}, "unknown network 'resnet19'; did you mean 'resnet18'"),
        ({"network": []}, "network is an empty list"),
        ({"network": 3}, "network is 3"),
        ({"similarity": "edit"}, "editing"),
        ({"similarity": 3}, "similarity is 3"),
        ({"buffer": "nowhere.buffer"}, "no such replay buffer"),
        ({"buffer": 3}, "buffer is 3"),
        ({"record": 3}, "record is 3"),
        ({"record": "nowhere/new.buffer"}, "make the folder first"),
        ({"steps": 0}, "steps"),
    ],
)
def test_wrong_arguments__are_named(kwargs: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecificationError, match=message):
        make(**kwargs)
    with pytest.raises(SpecificationError, match=message):
        MapSpaceWarmStartVectorEnv(2, **{"network": NETWORK, "accelerator": MACHINE, **kwargs})


def test_one_buffer_cannot_be_read_and_written() -> None:
    buffer = ReplayBuffer()
    with pytest.raises(SpecificationError, match="same ReplayBuffer"):
        make(buffer=buffer, record=buffer)
