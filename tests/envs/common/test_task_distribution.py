"""Distributions of tasks: what they hold, how they are drawn, stored and refused."""

from __future__ import annotations

import copy
import json
import pickle
from collections import Counter
from dataclasses import replace
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.envs.registration import EnvSpec
from hypothesis import given, settings, strategies as st

from mapgym.envs import MapSpaceEnv, MapSpaceSparseEnv, MapSpaceVectorEnv, MapSpaceWarmStartEnv, Task, TaskDistribution
from mapgym.envs.common import tasks as environment_tasks
from mapgym.envs.common.task import NO_INDEX
from mapgym.errors import SpecificationError
from mapgym.evaluation.evaluator import Evaluator
from mapgym.evaluation.sparsity_aware import SparsityAware
from mapgym.mapspace import MapSpace
from mapgym.spec import catalog
from mapgym.spec.random_accelerators import RandomAccelerators
from mapgym.spec.random_layers import RandomLayers
from mapgym.spec.splits import is_held_out, load_split, training_layers

GEMM = {"type": "matmul", "name": "gemm", "M": 8, "N": 4, "K": 4}
TWO = ["paper/bert_kqv", GEMM]

DISTRIBUTIONS: dict[str, TaskDistribution] = {
    "names": TaskDistribution("resnet18", ["accel_a", "accel_b"]),
    "objects": TaskDistribution(catalog.network("resnet18"), catalog.accelerator("accel_a"), SparsityAware()),
    "everything": TaskDistribution(
        TWO, "accel_a", ["edp", "energy"], densities={"Inputs": [1.0, 0.5], "Weights": 0.25}, weights=range(1, 9)
    ),
    "tasks": TaskDistribution(
        tasks=[
            {"workload": "paper/bert_kqv", "accelerator": "accel_a", "densities": {"Inputs": 0.5}},
            Task(catalog.workload("paper/bert_attn"), catalog.accelerator("accel_b"), objective="latency"),
        ]
    ),
    "split": TaskDistribution("split:validation"),
    "layers": TaskDistribution(None, "accel_b", random_layers=RandomLayers(bounds={"C": (3, 64)})),
    "accelerators": TaskDistribution("paper/bert_kqv", random_accelerators={"levels": [3, 3]}),
    "all random": TaskDistribution(random_layers=True, random_accelerators=True, objectives=["edp", "energy"]),
}


def names(distribution: TaskDistribution) -> list[str]:
    return [task.id for task in distribution.tasks]


def test_order__is_workload_density_accelerator_objective() -> None:
    distribution = TaskDistribution(TWO, ["accel_a", "accel_b"], ["edp", "energy"], densities={"Inputs": [1.0, 0.5]})
    assert names(distribution)[:4] == [
        "paper/bert_kqv @ accel_a, edp",
        "paper/bert_kqv @ accel_a, energy",
        "paper/bert_kqv @ accel_b, edp",
        "paper/bert_kqv @ accel_b, energy",
    ]
    assert names(distribution)[4] == "paper/bert_kqv @ accel_a, Inputs 0.5, edp"
    assert names(distribution)[8] == "gemm @ accel_a, edp"
    assert len(distribution) == 16


def test_densities__are_those_of_tensors_that_a_workload_has() -> None:
    layer = catalog.workload(GEMM)
    renamed = replace(layer, name="other", tensors=tuple(replace(t, name=f"{t.name}2") for t in layer.tensors))
    told = names(TaskDistribution([layer, renamed], "tiny", densities={"Inputs": [0.5, 0.25]}))
    assert told == ["gemm @ tiny, Inputs 0.5, edp", "gemm @ tiny, Inputs 0.25, edp", "other @ tiny, edp"]
    with pytest.raises(SpecificationError, match="Inptus"):
        TaskDistribution(layer, densities={"Inptus": 0.5})


@pytest.mark.parametrize("name", ["training", "validation", "test"])
def test_splits__are_those_of_the_catalog(name: str) -> None:
    split = load_split(name)
    layers = training_layers() if name == "training" else split.layers()
    distribution = TaskDistribution(f"split:{name}")
    assert {task.workload for task in distribution.tasks} == set(layers)
    assert {task.accelerator.name for task in distribution.tasks} == set(split.accelerators)
    assert len(distribution) == len(layers) * len(split.accelerators)
    assert any(is_held_out(task.workload) for task in distribution.tasks) is (name != "training")


def test_splits__combine_with_an_accelerator() -> None:
    layers = load_split("test").layers()
    for distribution in (
        TaskDistribution("split:test", "accel_a"),
        TaskDistribution.of({"workloads": "split:test", "accelerators": "accel_a"}),
        MapSpaceEnv("split:test", "accel_a").task_distribution,
    ):
        assert names(distribution) == [f"{layer.name} @ accel_a, edp" for layer in layers]
    several = TaskDistribution(["split:validation", "paper/bert_kqv"], "split:training")
    assert {task.accelerator.name for task in several.tasks} == {"accel_a", "accel_b"}


@pytest.mark.parametrize("distribution", DISTRIBUTIONS.values(), ids=DISTRIBUTIONS)
def test_copies_and_plain_forms__draw_the_same(distribution: TaskDistribution) -> None:
    data = json.loads(json.dumps(distribution.to_dict()))
    copies = [TaskDistribution.of(data), pickle.loads(pickle.dumps(distribution)), copy.deepcopy(distribution)]
    for other in copies:
        assert other.tasks == distribution.tasks
        one, two = np.random.default_rng(3), np.random.default_rng(3)
        assert [other.draw(one) for _ in range(20)] == [distribution.draw(two) for _ in range(20)]
        assert one.random() == two.random()


@pytest.mark.parametrize("distribution", DISTRIBUTIONS.values(), ids=DISTRIBUTIONS)
def test_specs__bring_distributions_back_from_json(distribution: TaskDistribution) -> None:
    if any(isinstance(task.objective, SparsityAware) for task in distribution.tasks):
        pytest.skip("priced in an environment of its own")
    env = gym.make("MapSpaceOneShot-v0", tasks=distribution)
    assert env.spec is not None
    again = gym.make(EnvSpec.from_json(env.spec.to_json()))
    for seed in range(3):
        assert again.reset(seed=seed)[1] == env.reset(seed=seed)[1]


@given(st.lists(st.floats(0, 10), min_size=3, max_size=3).filter(lambda weights: sum(weights) > 0.1))
@settings(max_examples=20)
def test_weights__are_how_often_tasks_are_drawn(weights: list[float]) -> None:
    distribution = TaskDistribution(["paper/bert_kqv", "paper/bert_attn", GEMM], weights=weights)
    rng = np.random.default_rng(0)
    drawn = Counter(distribution.draw_index(rng) for _ in range(2000))
    for k, weight in enumerate(weights):
        share = weight / sum(weights)
        assert abs(drawn[k] / 2000 - share) < 0.06
        assert drawn[k] == 0 or weight > 0


def test_a_single_task__uses_no_randomness() -> None:
    rng = np.random.default_rng(0)
    assert TaskDistribution(GEMM).draw(rng)[0] == 0
    assert rng.random() == np.random.default_rng(0).random()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "has no workloads"),
        ({"workloads": []}, "empty list"),
        ({"workloads": "resnet19"}, "did you mean 'resnet18'"),
        ({"workloads": "split:tset"}, "there is no split 'tset'"),
        ({"workloads": GEMM, "objectives": "speed"}, "speed"),
        ({"workloads": GEMM, "objectives": []}, "objectives is an empty list"),
        ({"workloads": GEMM, "densities": 0.5}, "densities is 0.5"),
        ({"workloads": GEMM, "densities": {"Inputs": 2}}, "density"),
        ({"workloads": TWO, "weights": [1]}, "there are 2 tasks"),
        ({"workloads": TWO, "weights": [0, 0]}, "not all of them 0"),
        ({"workloads": TWO, "weights": [1, -1]}, "at least 0"),
        ({"workloads": TWO, "weights": [1, np.nan]}, "at least 0"),
        ({"workloads": TWO, "weights": "ab"}, "weights is 'ab'"),
        ({"workloads": GEMM, "tasks": [{"workload": GEMM}]}, "tasks and workloads, which exclude each other"),
        ({"tasks": [5]}, "tasks has 5"),
        ({"tasks": [{"workload": GEMM, "machine": "accel_b"}]}, "machine"),
        ({"workloads": GEMM, "random_layers": True}, "random_layers and workloads"),
        ({"random_layers": True, "weights": [1]}, "random_layers and weights"),
        ({"random_layers": 5}, "random_layers is 5"),
        ({"random_layers": {"dims": {}}}, "dims"),
        ({"random_accelerators": True}, "has no workloads"),
    ],
)
def test_what_is_no_distribution__is_refused_in_one_sentence(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecificationError, match=message) as caught:
        TaskDistribution(**arguments)
    assert "\n" not in str(caught.value)


def test_tasks_and_names__exclude_each_other() -> None:
    for name in ("workload", "accelerator", "objective"):
        with pytest.raises(SpecificationError, match=f"tasks and {name} are given"):
            gym.make("MapSpace-v0", tasks="split:test", **{name: "edp"})
    with pytest.raises(SpecificationError, match="tasks is given together with an evaluator"):
        MapSpaceEnv(evaluator=Evaluator(MapSpace(catalog.workload(GEMM), catalog.accelerator("tiny"))), tasks=GEMM)
    with pytest.raises(SpecificationError, match="tasks and weight_densities"):
        MapSpaceSparseEnv(tasks={"workloads": GEMM, "accelerators": "tiny_sparse"}, weight_densities=0.5)


def test_tasks_of_an_evaluator__cannot_be_set() -> None:
    evaluator = Evaluator(MapSpace(catalog.workload(GEMM), catalog.accelerator("tiny")))
    with pytest.raises(SpecificationError, match="set_tasks cannot change the task of an evaluator"):
        MapSpaceEnv(evaluator=evaluator).set_tasks(GEMM)


def test_set_tasks__survives_autoreset_and_leaves_the_present_episode_alone() -> None:
    vector = MapSpaceVectorEnv(4, workload=TWO, accelerator="tiny", autoreset_mode="SameStep")
    _, info = vector.reset(seed=0)
    before = info["task_id"].tolist()
    vector.set_tasks({"workloads": GEMM, "accelerators": "tiny", "objectives": "energy"}, rows=[1, 3])
    over, ended = np.zeros(4, np.bool_), np.zeros(4, np.int64)
    while ended.min() < 3:
        for i in range(4):
            if not ended[i]:
                assert info["task_id"][i] == before[i]
            elif i in (1, 3):
                assert (info["task_id"][i], info["task_index"][i]) == ("gemm @ tiny, energy", 0)
            else:
                assert info["task_id"][i].endswith("@ tiny, edp")
        _, _, over, _, info = vector.step(np.argmax(info["action_mask"], axis=1))
        ended += over
    assert [len(distribution) for distribution in vector.task_distributions] == [2, 1, 2, 1]


def test_set_tasks__sets_nothing_if_a_task_does_not_fit() -> None:
    env = MapSpaceEnv(GEMM, "tiny")
    before = env.task_distribution
    with pytest.raises(SpecificationError, match="larger than the spaces of this environment"):
        env.set_tasks([{"workload": GEMM, "accelerator": "tiny"}, {"workload": "paper/resnet_conv4"}])
    assert env.task_distribution is before
    assert env.reset()[1]["task_id"] == "gemm @ tiny, edp"
    with pytest.raises(SpecificationError, match="lists workloads or accelerators that are larger"):
        env.set_tasks({"random_accelerators": True, "workloads": "paper/resnet_conv4"})


def test_fixed_sizes__refuse_tasks_that_do_not_fit() -> None:
    with pytest.raises(SpecificationError, match="larger than the spaces of this environment"):
        gym.make("MapSpace-v0", workload="paper/resnet_conv4", sizes_for=GEMM)


def test_reset_options__fix_an_episode_of_what_tasks_say() -> None:
    env = MapSpaceEnv(tasks="split:test", sizes="all")
    info = env.reset(seed=0, options={"workload": "vgg16/conv1_1"})[1]
    assert (info["task_index"], info["task_id"]) == (0, "vgg16/conv1_1 @ eyeriss_rf, edp")
    info = env.reset(options={"workload": "resnet18/conv1", "accelerator": "accel_a", "objective": "energy"})[1]
    assert (info["task_index"], info["task_id"]) == (NO_INDEX, "resnet18/conv1 @ accel_a, energy")
    # Of a distribution that generates layers, the accelerator stays what it says.
    env = MapSpaceEnv(tasks={"random_layers": True, "accelerators": "accel_a"})
    assert env.reset(seed=0, options={"workload": GEMM})[1]["task_id"] == "gemm @ accel_a, edp"


def test_generated_tasks__come_from_the_random_numbers_of_the_environment_alone() -> None:
    tasks = {"random_layers": True, "random_accelerators": True}
    env, other = MapSpaceEnv(tasks=tasks), MapSpaceEnv(tasks=tasks)
    other.reset(seed=99)
    first = [env.reset(seed=1 if k == 0 else None)[1]["task_id"] for k in range(4)]
    again = [other.reset(seed=1 if k == 0 else None)[1]["task_id"] for k in range(4)]
    assert first == again
    assert len(set(first)) == 4
    assert not any(is_held_out(env.task.workload) for _ in range(5) if env.reset())


def test_generated_tasks__that_never_fit_are_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment_tasks, "MOST_DRAWS", 20)
    tasks = {"random_layers": {"families": "convolution"}, "accelerators": "tiny"}
    with pytest.raises(SpecificationError, match="none of 20 tasks"):
        MapSpaceEnv(tasks=tasks, sizes_for=[TaskDistribution(GEMM, "tiny")])


def test_warm_start__goes_through_tasks_in_order_and_refuses_to_draw() -> None:
    env = MapSpaceWarmStartEnv(tasks={"workloads": TWO, "accelerators": ["tiny", "accel_a"]}, steps=2, sizes="all")
    told = [env.reset(seed=0 if k == 0 else None)[1]["task_id"] for k in range(5)]
    order = ["paper/bert_kqv @ tiny, edp", "gemm @ tiny, edp", "paper/bert_kqv @ accel_a, edp", "gemm @ accel_a, edp"]
    assert told == [*order, order[0]]
    env.set_tasks({"tasks": [{"workload": GEMM}]})
    assert env.reset()[1]["task_id"] == "gemm @ accel_b, edp"
    assert (
        MapSpaceWarmStartEnv("split:validation").task_distribution.tasks
        == TaskDistribution("split:validation", "accel_b").tasks
    )
    for tasks in ({"random_layers": True}, {"workloads": TWO, "weights": [1, 2]}):
        with pytest.raises(SpecificationError, match="goes through its tasks in order"):
            gym.make("MapSpaceWarmStart-v0", tasks=tasks)


def test_sparse__poses_tasks_over_its_densities() -> None:
    tasks = {"workloads": GEMM, "accelerators": "tiny_sparse", "densities": {"Weights": [0.5, 0.25]}}
    env = MapSpaceSparseEnv(tasks=tasks, densities=[0.8, 0.4])
    assert [task.objective for task in env.task_distribution.tasks] == ["edp", "edp"]
    info = env.reset(seed=0)[1]
    assert env.task.objective == SparsityAware([0.8, 0.4])
    assert env.task.workload.tensor("Inputs").density == 0.8
    weights = env.task.workload.tensor("Weights").density
    assert weights == (0.5, 0.25)[info["task_index"]]
    env.reset(options={"weight_density": 0.125})
    assert env.task.workload.tensor("Weights").density == 0.125


def test_tasks_that_are_replaced__do_not_pile_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment_tasks, "MOST_GIVEN", 3)
    vector = MapSpaceVectorEnv(2, tasks={"random_layers": {"families": "product"}, "accelerators": "accel_a"})
    for seed in range(15):
        infos = vector.reset(seed=seed)[1]
        assert [task.id for task in vector.tasks()] == infos["task_id"].tolist()
    assert len(vector._tasks.prepared) == len(vector._tasks.ids) <= 3 + 2
    for k in range(10):
        vector.set_tasks([{"workload": {**GEMM, "name": f"layer{k}", "M": 2 + k}}], rows=[k % 2])
        vector.reset()
    assert len(vector._tasks.prepared) <= 3 + 2 + 2
    assert vector.reset()[1]["task_id"].tolist() == ["layer8 @ accel_b, edp", "layer9 @ accel_b, edp"]


def test_random_parts__are_said_as_objects_dicts_or_true() -> None:
    expected = DISTRIBUTIONS["all random"].draw(np.random.default_rng(0))
    for random in ({}, RandomLayers()):
        distribution = TaskDistribution(
            objectives=["edp", "energy"], random_layers=random, random_accelerators=RandomAccelerators()
        )
        assert distribution.draw(np.random.default_rng(0)) == expected
