"""Sizes: what spaces are made of, and what fits into them."""

from __future__ import annotations

import dataclasses

import gymnasium as gym
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from mapgym.envs import Sizes, TaskDistribution
from mapgym.envs.common.sizes import ALL_SIZES
from mapgym.envs.refine.refine_tasks import edits_within, possible_edits
from mapgym.errors import SpecificationError
from mapgym.mapspace import MapSpace
from mapgym.mapspace.entries import AXES
from mapgym.spec import catalog
from mapgym.spec.workload import matmul
from random_cases import random_accelerator, random_workload

WORKLOADS = [catalog.workload(name) for name in catalog.workload_names()]
ACCELERATORS = [catalog.accelerator(name) for name in catalog.accelerator_names()]


def test_sizes__of_a_known_task() -> None:
    # 12 = 2 * 2 * 3 has 6 divisors; tiny has two levels with fan-out below main memory, on Y only the second.
    sizes = Sizes.of([matmul("", M=12, N=5, K=8)], [catalog.accelerator("tiny")])
    assert sizes == Sizes(
        levels=3,
        dims=4,
        tensors=3,
        divisors=6,
        primes=(0, 3, 3, 1),
        distinct_primes=(0, 2, 1, 1),
        fanout_x=(True, True, False),
        fanout_y=(False, True, False),
    )


def test_all_sizes__have_room_for_the_catalog() -> None:
    assert ALL_SIZES.has_room_for(Sizes.of(WORKLOADS, ACCELERATORS))


@given(
    st.lists(st.sampled_from(WORKLOADS), min_size=1, max_size=4), st.lists(st.sampled_from(ACCELERATORS), min_size=1)
)
@settings(max_examples=30)
def test_joint_sizes__are_those_of_everything_together(layers, machines) -> None:
    each = [Sizes.of([layer], machines) for layer in layers]
    assert Sizes.joint(each) == Sizes.of(layers, machines)
    assert all(Sizes.joint(each).has_room_for(one) for one in each)


@given(st.integers(0, 2**32), st.lists(st.sampled_from(AXES), min_size=1, unique=True))
@settings(max_examples=60, deadline=None)
def test_edits_within_sizes__hold_all_that_tasks_of_them_have(seed: int, axes: list[str]) -> None:
    rng = np.random.default_rng(seed)
    layer = random_workload(rng)
    machine = random_accelerator(rng, layer)
    try:
        space = MapSpace(layer, machine, axes)
    except SpecificationError:
        return
    found = list(edits_within(Sizes.of([layer], [machine]), space.axes))
    assert possible_edits(space).keys() <= set(found)
    assert len(set(found)) == len(found)


def test_plain_form__is_read_back_and_nothing_else_is() -> None:
    assert Sizes.from_dict(ALL_SIZES.to_dict()) == ALL_SIZES
    for wrong in ({"levels": 3}, {**ALL_SIZES.to_dict(), "dims": 2}, {**ALL_SIZES.to_dict(), "levels": "3"}):
        with pytest.raises(SpecificationError, match=r"take it from env\.unwrapped\.sizes"):
            Sizes.from_dict(wrong)


@pytest.mark.parametrize("env_id", ["MapSpace-v0", "MapSpaceOneShot-v0", "MapSpaceRefine-v0", "MapSpaceWarmStart-v0"])
def test_sizes_for__make_the_spaces_of_training_and_test_equal(env_id: str) -> None:
    few = [TaskDistribution(["resnet18/conv1", "resnet18/conv4"], "accel_b"), "paper/bert_kqv"]
    made = [
        gym.make(env_id, tasks=few[0], sizes_for=few),
        gym.make(env_id, tasks={"workloads": "paper/bert_kqv", "accelerators": "accel_b"}, sizes_for=few),
        gym.make_vec(env_id, num_envs=2, tasks=few[0], sizes_for=few),
    ]
    actions = [getattr(env, "single_action_space", env.action_space) for env in made]
    observations = [getattr(env, "single_observation_space", env.observation_space) for env in made]
    assert actions[0] == actions[1] == actions[2]
    assert observations[0] == observations[1] == observations[2]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"sizes": "most"}, "give 'all'"),
        ({"sizes": 5}, "sizes is 5"),
        ({"sizes": {"level": 3}}, "level"),
        ({"sizes": "all", "sizes_for": "split:test"}, "sizes and sizes_for are given"),
        ({"sizes_for": []}, "sizes_for is an empty list"),
        ({"sizes_for": "resnet19"}, "resnet19"),
        ({"sizes_for": 5}, "sizes_for is 5"),
    ],
)
def test_what_are_no_sizes__is_refused(arguments, message: str) -> None:
    with pytest.raises(SpecificationError, match=message):
        gym.make("MapSpace-v0", **arguments)


def test_sizes__are_fields_of_numbers_only() -> None:
    assert {field.name for field in dataclasses.fields(Sizes)} == set(ALL_SIZES.to_dict())
