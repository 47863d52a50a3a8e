"""What every environment of mapgym promises, as tests to inherit; also for environments of other people.

::

    from mapgym.testing.environments import EnvironmentContract

    class TestMine(EnvironmentContract):
        env_id = "Mine-v0"
        env_kwargs = {"workload": "paper/resnet_conv4"}

pytest collects the inherited tests. An environment fulfils the contract if it passes Gymnasium's and
Stable-Baselines3's checkers without a warning, is deterministic, has masks that say the truth, survives illegal
actions, refuses with a ValueError what is no action, seed or option, can be rendered, copied and described as JSON,
goes back exactly to a state that was saved, and has a vector twin that does the same as scalar ones.
An environment in which every action is legal has no masks, and what is said about them is skipped.
"""

from __future__ import annotations

import copy
import inspect
import pickle
import re
import warnings
from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.envs.registration import EnvSpec
from gymnasium.utils.env_checker import check_env as check_with_gymnasium
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv
from gymnasium.wrappers import TimeLimit
from numpy.typing import NDArray

from mapgym.envs.common.illegal import ILLEGAL_ACTION_REWARD

SECTIONS = (
    "Description",
    "Action Space",
    "Observation Space",
    "Rewards",
    "Starting State",
    "Episode End",
    "Information",
    "Arguments",
    "References",
    "Version History",
)
"""Sections that the docstring of an environment class has."""

NO_NUMBERS: tuple[Any, ...] = (0.5, 1.7, np.nan, None, "1", True, np.True_, b"1", {}, 10**20, np.uint64(2**63), [[0]])
"""None of these is a whole number of 64 bits, whatever a library may make of it."""

NO_SEEDS: tuple[Any, ...] = (-1, 0.5, np.nan, "1", True, {}, object())
NO_OPTIONS: tuple[Any, ...] = (5, "workload", ["workload"], [], {"wrokload": "x"}, {1: 2})

MAX_STEPS = 5000
"""An episode of a masked random policy ends within so many steps."""


class EnvironmentContract:
    """Inherit and set ``env_id``; pytest runs the rest.

    Attributes:
        env_id: registered id.
        env_kwargs: arguments for ``gymnasium.make``.
    """

    env_id: str = ""
    env_kwargs: Mapping[str, Any] = {}

    def make(self, **kwargs: Any) -> gym.Env[Any, Any]:
        """The environment without wrappers."""
        return gym.make(self.env_id, **{**self.env_kwargs, **kwargs}).unwrapped

    def make_vector(self, num_envs: int, **kwargs: Any) -> VectorEnv[Any, Any, Any]:
        """Its vector twin."""
        return gym.make_vec(self.env_id, num_envs=num_envs, **{**self.env_kwargs, **kwargs})

    def test_gymnasium_checker_finds_nothing(self) -> None:
        """Passes ``gymnasium.utils.env_checker.check_env``."""
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            check_with_gymnasium(self.make())

    def test_stable_baselines3_checker_finds_nothing(self) -> None:
        """Passes ``stable_baselines3.common.env_checker.check_env``."""
        checker = pytest.importorskip("stable_baselines3.common.env_checker")
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            checker.check_env(self.make())

    def test_class_docstring_is_the_specification(self) -> None:
        """Names the id and has all sections."""
        text = inspect.getdoc(type(self.make())) or ""
        assert self.env_id in text
        missing = [section for section in SECTIONS if f"## {section}" not in text]
        assert not missing, f"sections missing: {missing}"

    def test_random_episode_keeps_all_promises(self) -> None:
        """Spaces, types, masks and rewards in every step of masked random episodes."""
        env = self.make()
        rng = np.random.default_rng(0)
        for episode in range(3):
            observation, info = env.reset(seed=episode)
            for _ in range(MAX_STEPS):
                assert env.observation_space.contains(observation)
                if "action_mask" in info:
                    _check_mask(env, info)
                action = _legal_action(env.action_space, info, rng)
                observation, reward, terminated, truncated, info = env.step(action)
                assert type(reward) is float
                assert np.isfinite(reward)
                assert type(terminated) is bool
                assert type(truncated) is bool
                assert not info.get("illegal_action", False)
                if terminated or truncated:
                    break
            assert terminated or truncated
            assert env.observation_space.contains(observation)

    def test_info_names_the_task(self) -> None:
        """By its index and its id, after reset and after every step, in the same words throughout an episode."""
        env = self.make()
        _skip_without_tasks(env)
        distribution = env.get_wrapper_attr("task_distribution")
        for seed in range(3):
            told = {(info["task_index"], info["task_id"]) for *_, info in _episode(env, seed)}
            assert len(told) == 1
            index, name = told.pop()
            assert (type(index), type(name)) == (np.int64, str)
            assert name == env.get_wrapper_attr("task").id
            assert (index >= 0) == distribution.is_finite

    def test_tasks_can_be_set_while_it_runs(self) -> None:
        """They hold from the next reset on; what was refused has changed nothing."""
        env, twin = self.make(), self.make()
        _skip_without_tasks(env)
        rng = np.random.default_rng(0)
        for made in (env, twin):
            _, info = made.reset(seed=4)
        own = env.get_wrapper_attr("task_distribution")
        for wrong in (5, [], "resnet19", [None], {"workloads": "resnet18", "weight": 1}, {"tasks": [{"workload": 1}]}):
            with pytest.raises(ValueError, match=r"."):
                env.get_wrapper_attr("set_tasks")(wrong)
        assert env.get_wrapper_attr("task_distribution") is own
        env.get_wrapper_attr("set_tasks")(own.to_dict())
        action = _legal_action(env.action_space, info, rng)
        assert _same(env.step(action), twin.step(action))
        assert _same(env.reset(seed=5), twin.reset(seed=5))
        # Of a vector, for some of them.
        task = env.get_wrapper_attr("task")
        vector, scalars = self.make_vector(3), [self.make() for _ in range(3)]
        vector.reset(seed=0)
        for rows in (3, [-1], [], [0.5], "1", [True]):
            with pytest.raises(ValueError, match="rows"):
                vector.unwrapped.set_tasks(own, rows=rows)  # type: ignore[attr-defined]
        vector.unwrapped.set_tasks(task, rows=[1])  # type: ignore[attr-defined]
        scalars[1].get_wrapper_attr("set_tasks")(task)
        expected = [scalar.reset(seed=7 + k) for k, scalar in enumerate(scalars)]
        observations, infos = vector.reset(seed=7)
        assert np.array_equal(observations, [observation for observation, _ in expected])
        assert infos["task_id"].tolist() == [info["task_id"] for _, info in expected]
        assert infos["task_id"][1] == task.id

    def test_equal_sizes_make_equal_spaces(self) -> None:
        """Whatever the tasks are, so that a policy for some of them acts in others as well."""
        env = self.make()
        _skip_without_tasks(env)
        if "sizes" in self.env_kwargs or "sizes_for" in self.env_kwargs:
            pytest.skip("has sizes already")
        task, sizes = env.get_wrapper_attr("task"), env.get_wrapper_attr("sizes")
        drop = ("workload", "network", "accelerator", "objective", "tasks", "weight_densities")
        others = {name: value for name, value in self.env_kwargs.items() if name not in drop}
        few = gym.make(self.env_id, **others, tasks=[task], sizes=sizes)
        many = gym.make(self.env_id, **self.env_kwargs, sizes=sizes.to_dict())
        assert few.observation_space == many.observation_space == env.observation_space
        assert few.action_space == many.action_space
        assert few.reset(seed=0)[1]["task_id"] == task.id
        twin = gym.make_vec(self.env_id, num_envs=2, **others, tasks=[task], sizes=sizes)
        assert twin.single_action_space == few.action_space
        assert twin.single_observation_space == few.observation_space

    def test_same_seed_same_episode(self) -> None:
        """Observations, rewards, flags and info repeat."""
        first, second = self.make(), self.make()
        for one, other in zip(_episode(first, 11), _episode(second, 11), strict=True):
            assert _same(one, other)
        # A second run of the same environment repeats as well: nothing survives a reset.
        for one, other in zip(_episode(first, 11), _episode(second, 11), strict=True):
            assert _same(one, other)

    def test_illegal_action_is_replaced_by_the_nearest_legal_one(self) -> None:
        """And info says so."""
        env, twin = self.make(), self.make()
        _skip_without_masks(env)
        seen = 0
        for seed in range(5):
            rng = np.random.default_rng(seed)
            _, info = env.reset(seed=seed)
            twin.reset(seed=seed)
            for _ in range(MAX_STEPS):
                mask = info["action_mask"]
                action = int(rng.integers(len(mask)))
                legal = np.flatnonzero(mask)
                nearest = int(legal[np.argmin(np.abs(legal - action))])
                result, expected = env.step(action), twin.step(nearest)
                info = result[4]
                assert bool(info["illegal_action"]) is not bool(mask[action])
                assert info["executed_action"] == nearest
                assert not expected[4].pop("illegal_action")
                info = {name: value for name, value in info.items() if name != "illegal_action"}
                result = (*result[:4], info)
                assert _same(result, expected)
                seen += not mask[action]
                if result[2] or result[3]:
                    break
        assert seen, "no illegal action came up"

    def test_actions_outside_the_space_do_no_harm(self) -> None:
        """They are illegal actions like others."""
        env = self.make()
        _skip_without_masks(env)
        _, info = env.reset(seed=0)
        for action in (-1, -(10**9), len(info["action_mask"]), 10**9):
            env.reset(seed=0)
            assert env.step(action)[4]["illegal_action"]

    def test_what_is_no_action_is_refused(self) -> None:
        """With a ValueError, after which the episode goes on as if nothing had been said; the twin does the same."""
        env, twin, vector = self.make(), self.make(), self.make_vector(3)
        _, info = env.reset(seed=0)
        twin.reset(seed=0)
        infos = vector.reset(seed=0)[1]
        rng = np.random.default_rng(0)
        action, actions = _legal_action(env.action_space, info, rng), _legal_actions(vector, infos, rng)
        shape = np.shape(actions)
        for wrong in (*NO_NUMBERS, np.eye(3), np.zeros((*np.shape(action), 2), np.int64)):
            with pytest.raises(ValueError, match="action"):
                env.step(wrong)
        for wrong in (*NO_NUMBERS, np.full(shape, 0.5), np.zeros((*shape, 2), np.int64), np.full(shape, 2**63, "u8")):
            with pytest.raises(ValueError, match="action"):
                vector.step(wrong)
        assert _same(env.step(action), twin.step(action))
        expected = self.make_vector(3)
        expected.reset(seed=0)
        assert _same(vector.step(actions), expected.step(actions))

    def test_whole_numbers_count_in_every_container(self) -> None:
        """Libraries hand over Python and NumPy integers and arrays."""
        env, twin = self.make(), self.make()
        rng = np.random.default_rng(0)
        action = _legal_action(env.action_space, env.reset(seed=0)[1], rng)
        same: list[Any] = [np.array(action, kind) for kind in (np.int16, np.int32, np.int64, np.uint64)]
        same += [np.array(action, np.float32)]
        same += (
            [np.int32(action), float(action), np.array([action]), np.array([float(action)])]
            if np.ndim(action) == 0
            else [action.tolist()]
        )
        twin.reset(seed=0)
        expected = twin.step(action)
        for other in same:
            env.reset(seed=0)
            assert _same(env.step(other), expected)

    def test_vector_twin_takes_what_scalar_environments_take(self) -> None:
        """In every container, too."""
        vector = self.make_vector(3)
        rng = np.random.default_rng(0)
        actions = _legal_actions(vector, vector.reset(seed=0)[1], rng)
        expected = vector.step(actions)
        same: list[Any] = [actions.tolist(), actions.astype(np.int16), actions.astype(np.float64), list(actions)]
        same += [actions[:, None]] if actions.ndim == 1 else []
        for other in same:
            vector = self.make_vector(3)
            vector.reset(seed=0)
            assert _same(vector.step(other), expected)

    def test_infos_have_the_same_entries_always(self) -> None:
        """After reset and after every step, in NumPy's types; figures that exist only at the end are blank before."""
        env, vector = self.make(), self.make_vector(2)
        results = [*_episode(env, 0), env.reset()]
        infos = [result[-1] for result in results]
        kinds = {name: type(value) for name, value in infos[0].items()}
        for info in infos:
            assert {name: type(value) for name, value in info.items()} == kinds
        assert set(kinds.values()) <= {np.bool_, np.float64, np.int64, np.ndarray, str}
        assert "action_mask" not in kinds or infos[0]["action_mask"].dtype == np.int8
        if "ratio" in kinds:
            assert [bool(info["ratio"] >= 0) for info in infos] == [False] * (len(infos) - 2) + [True, False]
        found: tuple[Any, ...] = vector.reset(seed=0)
        every = {*kinds, *(f"_{name}" for name in kinds)}
        for _ in range(30):
            assert found[-1].keys() == every
            assert all(found[-1][f"_{name}"].all() for name in kinds)
            found = vector.step(_legal_actions(vector, found[-1], np.random.default_rng(0)))

    def test_docstring_names_every_entry_of_infos(self) -> None:
        """In its section; those of a kind by what they begin with."""
        text = (inspect.getdoc(type(self.make())) or "").split("## Information")[1].split("## ")[0]
        for name in self.make().reset(seed=0)[1]:
            assert f"``{name}``" in text or f"``{re.sub('[0-9.]+$', 'D', name)}``" in text, name

    @pytest.mark.parametrize("seed", range(2))
    def test_illegal_action_costs_a_penalty(self, seed: int) -> None:
        """With ``illegal="penalty"``: nothing else has changed but the budget; the twin does the same."""
        _skip_without_masks(self.make())
        env = self.make(illegal="penalty")
        vector = self.make_vector(2, illegal="penalty")
        scalars = SyncVectorEnv([lambda: self.make(illegal="penalty")] * 2)
        size = int(env.action_space.n)  # type: ignore[attr-defined]
        rng = np.random.default_rng(seed)
        _, info = env.reset(seed=seed)
        assert _same(vector.reset(seed=seed), scalars.reset(seed=seed))
        for _ in range(12):
            mask, mapping = info["action_mask"], env.get_wrapper_attr("mapping")
            wrong = int(rng.choice(np.flatnonzero(mask == 0))) if not mask.all() else size
            _, reward, terminated, _, info = env.step(wrong)
            assert (reward, info["executed_action"], bool(info["illegal_action"])) == (ILLEGAL_ACTION_REWARD, -1, True)
            assert env.get_wrapper_attr("mapping") == mapping
            assert np.array_equal(info["action_mask"], mask)
            if not terminated:
                terminated, _, info = env.step(_legal_action(env.action_space, info, rng))[2:]
                assert not info["illegal_action"]
            if terminated:
                info = env.reset()[1]
            actions = rng.integers(size + 1, size=2)
            assert _same(vector.step(actions), scalars.step(actions))

    def test_illegal_action_is_refused(self) -> None:
        """With ``illegal="raise"``: in one sentence, and nothing has changed."""
        _skip_without_masks(self.make())
        env, vector = self.make(illegal="raise"), self.make_vector(2, illegal="raise")
        _, info = env.reset(seed=0)
        infos = vector.reset(seed=0)[1]
        state = env.get_state()  # type: ignore[attr-defined]
        rows = [vector.get_state(i) for i in range(2)]  # type: ignore[attr-defined]
        rng = np.random.default_rng(0)
        actions = _legal_actions(vector, infos, rng)
        wrong = np.flatnonzero(info["action_mask"] == 0).tolist()[:1]
        for action in (*wrong, -1, len(info["action_mask"])):
            with pytest.raises(ValueError, match="legal"):
                env.step(action)
            with pytest.raises(ValueError, match="environment 1"):
                vector.step(np.array([actions[0], len(info["action_mask"])]))
        assert _same_state(env.get_state(), state)  # type: ignore[attr-defined]
        assert all(_same_state(vector.get_state(i), rows[i]) for i in range(2))  # type: ignore[attr-defined]
        assert not env.step(_legal_action(env.action_space, info, rng))[4]["illegal_action"]
        vector.step(actions)
        with pytest.raises(ValueError, match="illegal"):
            self.make(illegal="ignore")

    def test_vector_twin_does_no_harm_with_actions_outside_the_space(self) -> None:
        """It does what scalar environments do, for whole episodes."""
        n = 4
        _skip_without_masks(self.make())
        vector, scalars = self.make_vector(n), SyncVectorEnv([self.make for _ in range(n)])
        size = int(vector.single_action_space.n)  # type: ignore[attr-defined]
        assert _same(vector.reset(seed=0), scalars.reset(seed=0))
        finished = np.zeros(n, np.bool_)
        outside = (size, -1, size + 1, 10**9, -(10**9), 2**63 - 1, -(2**63))
        for step in range(MAX_STEPS):
            actions = np.array([outside[(step + i) % len(outside)] for i in range(n)])
            result, expected = vector.step(actions), scalars.step(actions)
            assert _same(result, expected)
            assert np.isfinite(result[0]).all()
            finished |= result[2]
            if finished.all():
                return
        raise AssertionError(f"an episode did not end in {MAX_STEPS} steps")

    def test_step_after_the_end_asks_for_a_reset(self) -> None:
        """A finished episode is not silently continued, nor priced twice."""
        env = self.make()
        for _ in _episode(env, 0):
            pass
        with pytest.raises(gym.error.ResetNeeded):
            env.step(env.action_space.sample())

    def test_observation_fields_tile_the_observation(self) -> None:
        """Every entry of a flat observation belongs to exactly one named field."""
        env = self.make()
        covered = np.zeros(env.observation_space.shape or (), np.int64)
        for field in env.get_wrapper_attr("observation_fields").values():
            covered[field] += 1
        assert np.all(covered == 1)

    @pytest.mark.parametrize("kind", ["dict", "tokens"])
    def test_structured_observations_say_the_same(self, kind: str) -> None:
        """Both checkers find nothing; twin and scalar environments agree; all entries are those of the flat vector."""
        checker = pytest.importorskip("stable_baselines3.common.env_checker")
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            check_with_gymnasium(self.make(observation=kind))
            # Tables are tables: it recommends to flatten them, which the flat observation has done.
            warnings.filterwarnings("ignore", ".*unconventional shape")
            checker.check_env(self.make(observation=kind))
        for mode in (AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP):
            vector = self.make_vector(3, observation=kind, autoreset_mode=mode)
            scalars = SyncVectorEnv([lambda: self.make(observation=kind)] * 3, autoreset_mode=mode)
            assert vector.observation_space == scalars.observation_space
            flat = self.make_vector(3, autoreset_mode=mode)
            result: tuple[Any, ...] = vector.reset(seed=0)
            expected: tuple[Any, ...] = scalars.reset(seed=0)
            plain = flat.reset(seed=0)[0]
            rng = np.random.default_rng(0)
            for _ in range(30):
                assert _same(result, expected)
                assert vector.observation_space.contains(result[0])
                if kind == "dict":
                    for name, part in flat.unwrapped.observation_fields.items():  # type: ignore[attr-defined]
                        assert np.array_equal(result[0][name].reshape(3, -1), plain[:, part])
                else:
                    assert np.isclose(result[0]["tokens"].sum(), plain.sum(), rtol=1e-4)
                if "action_mask" in result[-1]:
                    assert np.array_equal(result[0]["action_mask"], result[-1]["action_mask"])
                actions = _legal_actions(vector, result[-1], rng)
                result, expected, plain = vector.step(actions), scalars.step(actions), flat.step(actions)[0]

    def test_observation_has_a_name_for_every_entry(self) -> None:
        """All different, each beginning with its field; the shapes are those of the fields."""
        env = self.make()
        names = env.get_wrapper_attr("observation_names")
        assert len(set(names)) == len(names) == env.observation_space.shape[0]  # type: ignore[index]
        for name, part in env.get_wrapper_attr("observation_fields").items():
            assert all(entry.split(" of ")[0] == name for entry in names[part])
            assert np.prod(env.get_wrapper_attr("observation_shapes")[name]) == part.stop - part.start

    def test_unknown_reset_option_is_an_error(self) -> None:
        """A misspelt option is not ignored."""
        with pytest.raises(ValueError, match="wrokload"):
            self.make().reset(options={"wrokload": "x"})

    def test_bad_arguments_of_reset_are_refused(self) -> None:
        """With a ValueError, and the episode goes on."""
        env, vector = self.make(), self.make_vector(2)
        for made in (env, vector):
            info = made.reset(seed=0)[1]
            for seed in NO_SEEDS:
                with pytest.raises(ValueError, match="seed"):
                    made.reset(seed=seed)
            for options in NO_OPTIONS:
                with pytest.raises(ValueError, match="options"):
                    made.reset(options=options)
            rng = np.random.default_rng(0)
            made.step(
                _legal_actions(vector, info, rng) if made is vector else _legal_action(env.action_space, info, rng)
            )
        for mask in (5, [True], [1, 0], np.zeros(2, np.bool_), [[True], [True, False]], "01"):
            with pytest.raises(ValueError, match="reset_mask"):
                vector.reset(options={"reset_mask": mask})
        wrong: tuple[Any, ...] = ([1], [1, 2, 3], [1, -2], [0.5, 1], "12", np.array([0.5, 1.0]))
        for seeds in wrong:
            with pytest.raises(ValueError, match="seed"):
                vector.reset(seed=seeds)

    def test_bad_arguments_of_vectors_are_refused(self) -> None:
        """Before memory is asked for that no machine has."""
        for count in (0, -1, 1.5, "2", None, 10**12):
            with pytest.raises(ValueError, match="num_envs"):
                self.make_vector(count)  # type: ignore[arg-type]
        for mode in ("never", 5, None):
            with pytest.raises(ValueError, match="autoreset_mode"):
                self.make_vector(2, autoreset_mode=mode)
        with pytest.raises(ValueError, match="render_mode"):
            self.make_vector(2, render_mode="paper")

    def test_closing_twice_is_no_error(self) -> None:
        """Wrappers and callers both close."""
        for made in (self.make(), self.make_vector(2)):
            made.reset(seed=0)
            made.close()
            made.close()

    def test_pictures_have_one_size(self) -> None:
        """Over all tasks, so that the frames of a film can be stacked."""
        if "rgb_array" not in self.make().metadata["render_modes"]:
            pytest.skip("no pictures")
        env, vector = self.make(render_mode="rgb_array"), self.make_vector(3, render_mode="rgb_array")
        frames: list[Any] = []
        for seed in range(8):
            env.reset(seed=seed)
            vector.reset(seed=8 * seed)
            frames += [env.render(), *(vector.render() or ())]
        assert len({frame.shape for frame in frames}) == 1

    def test_rendering(self) -> None:
        """Every declared mode gives what it should at any time."""
        for mode in self.make().metadata["render_modes"]:
            env = self.make(render_mode=mode)
            env.reset(seed=0)
            frames = [env.render()]
            frames += [env.render() for _ in _episode(env, 0)]
            if mode == "ansi":
                assert all(isinstance(frame, str) and frame for frame in frames)
            elif mode == "rgb_array":
                for frame in frames:
                    assert isinstance(frame, np.ndarray)
                    assert frame.dtype == np.uint8
                    assert frame.ndim == 3
                    assert frame.shape[2] == 3
            env.close()

    def test_actions_have_meanings(self) -> None:
        """Legal ones mean something, each something else; the text picture says them all; there are no others."""
        env = self.make(render_mode="ansi")
        meaning = env.get_wrapper_attr("action_meaning")
        rng = np.random.default_rng(0)
        _, info = env.reset(seed=0)
        for wrong in (-1, 10**9, 0.5, "1", None):
            with pytest.raises(ValueError, match="action"):
                meaning(wrong)
        for _ in range(12):
            if "action_mask" in info:
                told = [meaning(int(action)) for action in np.flatnonzero(info["action_mask"])]
                assert len(set(told)) == len(told)
                assert all(told)
                assert all(text in str(env.render()) for text in told)
            action = _legal_action(env.action_space, info, rng)
            assert meaning(action)
            _, _, terminated, truncated, info = env.step(action)
            if terminated or truncated:
                _, info = env.reset()

    def test_spec_survives_json(self) -> None:
        """Trackers store specs as JSON."""
        env = gym.make(self.env_id, **self.env_kwargs)
        assert env.spec is not None
        spec = EnvSpec.from_json(env.spec.to_json())
        assert spec.id == self.env_id
        assert _same(gym.make(spec).reset(seed=0), env.reset(seed=0))
        vector = self.make_vector(2)
        assert vector.spec is not None
        again = gym.make_vec(EnvSpec.from_json(vector.spec.to_json()))
        assert _same(again.reset(seed=0), vector.reset(seed=0))

    def test_pickle_and_deepcopy_continue_alike(self) -> None:
        """Copies in the middle of an episode go on as the original does."""
        env = self.make()
        _, info = env.reset(seed=3)
        rng = np.random.default_rng(0)
        if "action_mask" in info and info["action_mask"].sum() > 1:
            info = env.step(int(np.flatnonzero(info["action_mask"])[0]))[4]
        copies = [pickle.loads(pickle.dumps(env)), copy.deepcopy(env)]
        action = _legal_action(env.action_space, info, rng)
        expected = env.step(action)
        for other in copies:
            assert _same(other.step(action), expected)

    @pytest.mark.parametrize("seed", range(3))
    def test_saved_state_is_gone_back_to_exactly(self, seed: int) -> None:
        """From wherever, in a copy and in an equal environment: all that follows repeats."""
        env = self.make()
        rng = np.random.default_rng(seed)
        last = _walk(env, env.reset(seed=seed), int(rng.integers(8)), rng, [])
        if len(last) > 2 and (last[2] or last[3]):
            last = env.reset()
        state = env.get_state()  # type: ignore[attr-defined]
        fresh, copied = self.make(), copy.deepcopy(env)
        actions: list[Any] = []
        _walk(env, last, MAX_STEPS, rng, actions)
        expected: list[Any] = []
        # What went before does not matter, and a state is not used up.
        for other in (env, env, fresh, copied, copy.copy(fresh)):
            other.set_state(pickle.loads(pickle.dumps(state)) if other is fresh else state)  # type: ignore[attr-defined]
            found = _replay(other, actions)
            expected = expected or found
            assert len(found) == len(actions)
            assert all(_same(one, two) for one, two in zip(found, expected, strict=True))
        # Without random numbers, those of the environment stay.
        env.reset(seed=seed + 1)
        before = env.np_random.bit_generator.state
        env.set_state(state._replace(random=None))  # type: ignore[attr-defined]
        light = env.get_state(random=False)  # type: ignore[attr-defined]
        assert _same_state(light, state._replace(random=None))
        assert env.np_random.bit_generator.state == before

    @pytest.mark.parametrize("seed", range(2))
    def test_saved_rows_of_the_twin_are_gone_back_to_exactly(self, seed: int) -> None:
        """All of them, resets included; and one by one, without disturbing the others."""
        n = 3
        vector, scalar = self.make_vector(n), self.make()
        rng = np.random.default_rng(seed)
        result: tuple[Any, ...] = vector.reset(seed=seed)
        for _ in range(int(rng.integers(8))):
            result = vector.step(_legal_actions(vector, result[-1], rng))
        states = [vector.get_state(i) for i in range(n)]  # type: ignore[attr-defined]
        actions: list[Any] = []
        results: list[Any] = []
        for _ in range(40):
            actions.append(_legal_actions(vector, result[-1], rng))
            result = vector.step(actions[-1])
            results.append(copy.deepcopy(result))
        for other in (vector, self.make_vector(n)):
            for i in reversed(range(n)):
                other.set_state(i, states[i])  # type: ignore[attr-defined]
            for taken, expected in zip(actions, results, strict=True):
                assert _same(other.step(taken), expected)
        for i in range(n):
            scalar.set_state(states[i])  # type: ignore[attr-defined]
            before = [vector.get_state(k) for k in range(n)]  # type: ignore[attr-defined]
            vector.set_state(np.int64(i), scalar.get_state())  # type: ignore[attr-defined]
            for k in range(n):
                assert _same_state(vector.get_state(k), states[i] if k == i else before[k])  # type: ignore[attr-defined]

    def test_states_outside_of_an_episode_wait_for_a_reset(self) -> None:
        """That of an environment that has not begun, and that of one whose episode is over."""
        env, vector = self.make(), self.make_vector(2)
        states = [env.get_state()]  # type: ignore[attr-defined]
        _episode(env, 0)
        states.append(env.get_state())  # type: ignore[attr-defined]
        expected = env.reset()
        for other, state in ((env, states[1]), (self.make(), states[1]), (self.make(), states[0])):
            other.reset(seed=5)
            other.set_state(state)  # type: ignore[attr-defined]
            with pytest.raises(gym.error.ResetNeeded):
                other.step(other.action_space.sample())
            if state is states[1]:
                assert _same(other.reset(), expected)
        infos = vector.reset(seed=5)[1]
        vector.set_state(1, states[1])  # type: ignore[attr-defined]
        observations, _, over, _, _ = vector.step(_legal_actions(vector, infos, np.random.default_rng(0)))
        assert np.array_equal(observations[1], expected[0])
        assert not over[1]

    def test_what_is_no_state_of_it_is_refused(self) -> None:
        """With a ValueError, and nothing has changed."""
        env, vector = self.make(), self.make_vector(2)
        env.reset(seed=0)
        vector.reset(seed=0)
        state = env.get_state()  # type: ignore[attr-defined]
        rows = [vector.get_state(i) for i in range(2)]  # type: ignore[attr-defined]
        other_kind = (("kind", "other"), *state.settings[1:])
        wrong: Any
        for wrong in (
            *(None, 5, "state", b"", tuple(state), {}, state._replace(settings=other_kind)),
            *(state._replace(numbers=state.numbers[:-1]), state._replace(random={"bit_generator": "MT19937"})),
        ):
            with pytest.raises(ValueError, match="state"):
                env.set_state(wrong)  # type: ignore[attr-defined]
            with pytest.raises(ValueError, match="state"):
                vector.set_state(1, wrong)  # type: ignore[attr-defined]
        for row in (-1, 2, 0.5, None, "0", True, [0]):
            with pytest.raises(ValueError, match="row"):
                vector.get_state(row)  # type: ignore[attr-defined]
            with pytest.raises(ValueError, match="row"):
                vector.set_state(row, state)  # type: ignore[attr-defined]
        assert _same_state(env.get_state(), state)  # type: ignore[attr-defined]
        assert all(_same_state(vector.get_state(i), rows[i]) for i in range(2))  # type: ignore[attr-defined]

    @pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP])
    @pytest.mark.parametrize("seed", [0, 100])
    def test_vector_twin_equals_scalar_environments(self, mode: AutoresetMode, seed: int) -> None:
        """Step by step: observations, rewards, flags and info; illegal actions included."""
        n = 5
        vector = self.make_vector(n, autoreset_mode=mode)
        scalars = SyncVectorEnv([self.make for _ in range(n)], autoreset_mode=mode)
        assert vector.observation_space == scalars.observation_space
        assert vector.action_space == scalars.action_space
        assert vector.metadata["autoreset_mode"] is mode
        rng = np.random.default_rng(seed)
        result: tuple[Any, ...] = vector.reset(seed=seed)
        expected: tuple[Any, ...] = scalars.reset(seed=seed)
        assert _same(result, expected)
        finished = 0
        for step in range(400):
            actions = _legal_actions(vector, result[-1], rng)
            if step % 10 == 0 and "action_mask" in result[-1]:
                actions[rng.integers(n)] = rng.integers(result[-1]["action_mask"].shape[1])
            result, expected = vector.step(actions), scalars.step(actions)
            assert _same(result, expected)
            finished += int(result[2].sum())
        assert finished, "no episode ended"

    @pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP])
    def test_vector_twin_truncates_as_time_limits_do(self, mode: AutoresetMode) -> None:
        """With ``max_episode_steps``, step by step, also where an episode ends by itself."""
        n, limit = 3, 4
        vector = self.make_vector(n, autoreset_mode=mode, max_episode_steps=limit)
        scalars = SyncVectorEnv([lambda: TimeLimit(self.make(), limit)] * n, autoreset_mode=mode)
        rng = np.random.default_rng(0)
        result: tuple[Any, ...] = vector.reset(seed=0)
        assert _same(result, scalars.reset(seed=0))
        ended = 0
        for _ in range(20):
            actions = _legal_actions(vector, result[-1], rng)
            result, expected = vector.step(actions), scalars.step(actions)
            assert _same(result, expected)
            ended += int((result[2] | result[3]).sum())
        assert ended

    def test_spec_says_how_long_an_episode_is(self) -> None:
        """If it says anything; and an environment made of it behaves alike."""
        env = gym.make(self.env_id, **self.env_kwargs)
        limit = env.spec.max_episode_steps if env.spec is not None else None
        if limit is None:
            pytest.skip("the length depends on the task")
        assert len(_episode(env.unwrapped, 0)) - 1 <= limit

    def test_vector_twin_disabled_autoreset(self) -> None:
        """Only the chosen environments are reset, and one that is over refuses to step."""
        vector = self.make_vector(3, autoreset_mode=AutoresetMode.DISABLED)
        _, info = vector.reset(seed=0)
        rng = np.random.default_rng(0)
        for _ in range(MAX_STEPS):
            actions = _legal_actions(vector, info, rng)
            _, _, over, _, info = vector.step(actions)
            if over.any():
                break
        with pytest.raises(gym.error.ResetNeeded):
            vector.step(actions)
        observations, info = vector.reset(options={"reset_mask": over})
        assert vector.observation_space.contains(observations)
        # Info is about all of them, as after a reset of all; the others go on from where they are.
        every = self.make_vector(3, autoreset_mode=AutoresetMode.DISABLED).reset(seed=0)[1]
        assert info.keys() == every.keys()
        assert all(info[name].all() for name in info if name.startswith("_"))
        if "action_mask" in info:
            masks = vector.unwrapped.action_masks()  # type: ignore[attr-defined]
            assert np.array_equal(info["action_mask"].astype(np.bool_), masks)
            assert masks.any(axis=1).all()
        vector.step(_legal_actions(vector, info, rng))


def _legal_action(space: gym.Space[Any], info: dict[str, Any], rng: np.random.Generator) -> Any:
    """A random legal action; any action is legal where there is no mask."""
    if "action_mask" in info:
        return int(rng.choice(np.flatnonzero(info["action_mask"])))
    return rng.integers(space.nvec)  # type: ignore[attr-defined]


def _legal_actions(
    vector: VectorEnv[Any, Any, Any], info: dict[str, Any], rng: np.random.Generator
) -> NDArray[np.int64]:
    """A random legal action for each environment."""
    if "action_mask" not in info:
        infos: list[dict[str, Any]] = [{}] * vector.num_envs
    else:
        infos = [{"action_mask": mask if mask.any() else np.ones_like(mask)} for mask in info["action_mask"]]
    return np.array([_legal_action(vector.single_action_space, of_one, rng) for of_one in infos])


def _skip_without_masks(env: gym.Env[Any, Any]) -> None:
    if "action_mask" not in env.reset(seed=0)[1]:
        pytest.skip("every action is legal")


def _skip_without_tasks(env: gym.Env[Any, Any]) -> None:
    if not env.has_wrapper_attr("set_tasks"):
        pytest.skip("has no distribution of tasks")


def _check_mask(env: gym.Env[Any, Any], info: dict[str, Any]) -> None:
    mask = info["action_mask"]
    assert mask.dtype == np.int8
    assert mask.shape == (env.action_space.n,)  # type: ignore[attr-defined]
    assert mask.sum() >= 1, "no legal action"
    masks = env.get_wrapper_attr("action_masks")()
    assert masks.dtype == np.bool_
    assert np.array_equal(masks, mask.astype(np.bool_))
    assert mask[env.action_space.sample(mask=mask)] == 1


def _episode(env: gym.Env[Any, Any], seed: int) -> list[Any]:
    """Reset and step results of an episode in which some actions are illegal."""
    rng = np.random.default_rng(seed)
    results: list[Any] = [env.reset(seed=seed)]
    for _ in range(MAX_STEPS):
        info = results[-1][-1]
        if "action_mask" in info and rng.random() >= 0.9:
            results.append(env.step(int(rng.integers(len(info["action_mask"])))))
        else:
            results.append(env.step(_legal_action(env.action_space, info, rng)))
        if results[-1][2] or results[-1][3]:
            return results
    raise AssertionError(f"the episode did not end in {MAX_STEPS} steps")


def _walk(
    env: gym.Env[Any, Any], last: tuple[Any, ...], steps: int, rng: np.random.Generator, actions: list[Any]
) -> tuple[Any, ...]:
    """Takes legal steps from the last result, as far as the episode goes; returns the last one, notes the actions."""
    for _ in range(steps):
        if len(last) > 2 and (last[2] or last[3]):
            break
        actions.append(_legal_action(env.action_space, last[-1], rng))
        last = env.step(actions[-1])
    return last


def _replay(env: gym.Env[Any, Any], actions: list[Any]) -> list[Any]:
    """The results of actions; after the last one of an episode also that of a reset without a seed."""
    results: list[Any] = []
    for action in actions:
        results.append(env.step(action))
        if results[-1][2] or results[-1][3]:
            results[-1] = (*results[-1], *env.reset())
    return results


def _same_state(one: Any, other: Any) -> bool:
    """Whether two states are one; of objects (metrics, mappings) only whether they are of one kind."""
    return _same(tuple(one._replace(objects=None)), tuple(other._replace(objects=None)))


def _same(one: Any, other: Any) -> bool:
    """Equality of nested tuples and dicts of arrays; object arrays (final observations) entry by entry."""
    if isinstance(one, dict):
        return isinstance(other, dict) and one.keys() == other.keys() and all(_same(one[k], other[k]) for k in one)
    if isinstance(one, tuple | list):
        return len(one) == len(other) and all(map(_same, one, other))
    if isinstance(other, np.ndarray) and other.dtype == object and getattr(one, "dtype", None) == np.bool_:
        # Gymnasium keeps NumPy's truth values as objects; those of environments that it has nothing of are None.
        return np.array_equal(one, other.astype(np.bool_))
    if isinstance(one, np.ndarray) and one.dtype == object:
        return all(_same(a, b) for a, b in zip(one, other, strict=True))
    if isinstance(one, np.ndarray):
        return one.dtype == other.dtype and np.array_equal(one, other)
    return type(one) is type(other) and bool(one == other)
