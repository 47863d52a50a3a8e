"""Trained policies of the agents of Stable-Baselines3 in a file that cannot execute anything.

The library's own files contain pickles. Ours is one safetensors file with the parameters of the networks, and a JSON
text in its header that says what they are of: agent and its parameters, environment, tasks, sizes, versions. The model
is made anew from that text, and then filled.
"""

from __future__ import annotations

from collections.abc import Mapping as AbcMapping
from dataclasses import dataclass, fields
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from mapgym import __version__
from mapgym.agents.base import agent_class
from mapgym.agents.learned.stored_arrays import check_finite, read_arrays, reading, rules_remark, write_arrays
from mapgym.cost import OBJECTIVES
from mapgym.errors import SpecificationError
from mapgym.errors.text import quoted
from mapgym.evaluation.sparsity_aware import plain_objective
from mapgym.spec.accelerator import Accelerator

if TYPE_CHECKING:
    from stable_baselines3.common.base_class import BaseAlgorithm

    from mapgym.adapters.sb3 import VecEnv

POLICY = "policy.safetensors"
_KINDS = {
    "agent": str,
    "parameters": dict,
    "env": str,
    "workloads": list,
    "accelerator": dict,
    "objective": str,
    "sizes": dict,
    "one_task": bool,
}
LIBRARIES = ("torch", "stable_baselines3", "sb3_contrib", "gymnasium")

Arrays = dict[str, NDArray[Any]]


class ActingAgent(Protocol):
    """What an agent must have whose policy can be stored; its parameters are fields."""

    name: ClassVar[str]
    policy: str
    num_envs: int
    threads: int

    def make_model(self, env: VecEnv, seed: int, *, one_task: bool = True) -> BaseAlgorithm:
        """An untrained model."""


Actor = TypeVar("Actor", bound=ActingAgent)


def sizes_of(env: VecEnv) -> dict[str, Any]:
    """The sizes that decide whether a policy can act in an environment."""
    actions: Any = env.action_space
    choices = [int(actions.n)] if hasattr(actions, "n") else actions.nvec.tolist()
    return {"observation": int(np.prod(env.observation_space.shape or ())), "actions": choices}


def policy_arrays(model: BaseAlgorithm) -> Arrays:
    """Copies of the parameters of all networks of a model."""
    return {name: tensor.detach().cpu().numpy().copy() for name, tensor in model.policy.state_dict().items()}


def fill_policy(model: BaseAlgorithm, arrays: AbcMapping[str, NDArray[Any]]) -> None:
    """Gives a model the parameters of another one that was made in the same way."""
    import torch

    model.policy.load_state_dict({name: torch.from_numpy(array.copy()) for name, array in arrays.items()})


def write_policy(path: Path, arrays: Arrays, about: dict[str, Any]) -> None:
    """Writes a policy with a description, and the versions of the libraries that made it, atomically."""
    versions = {"mapgym": __version__, **{name: version(name) for name in LIBRARIES}}
    write_arrays(path, arrays, {**about, "versions": versions})


@dataclass(frozen=True)
class StoredPolicy:
    """A policy as it was read.

    Attributes:
        path: of the file.
        about: its description.
        arrays: parameters of the networks.
    """

    path: Path
    about: dict[str, Any]
    arrays: Arrays

    def remark(self, accelerator: Accelerator) -> str:
        """A sentence about it having been trained under other counting rules than a task has; empty if it was not.

        It can be sampled all the same: what it proposes is priced under the rules of the task.
        """
        return rules_remark(f"the policy in {quoted(self.path)}", self.about, accelerator)

    def mismatch(self, objective: str) -> str:
        """A sentence about it having been trained for another objective; empty if it was not.

        It can be sampled all the same: observations say what the objective is, but that never changed in training.
        """
        metric, trained = plain_objective(objective), self.about["objective"]
        if metric == trained:
            return ""
        return (
            f"the policy in {quoted(self.path)} was trained for {trained}, not for {metric}; it is sampled all the "
            f"same, and 'mapgym train {self.about['agent']} --objective {metric}' trains one that aims at it"
        )

    def agent(self, asked: Actor) -> Actor:
        """The agent that was trained, to act as one of the same name was asked to.

        Raises:
            SpecificationError: the policy is of another agent.
        """
        if asked.name != self.about["agent"]:
            raise SpecificationError(
                f"the policy in {quoted(self.path)} is of agent {quoted(self.about['agent'])}, not of "
                f"{quoted(asked.name)}; give --agent {self.about['agent']} or leave it out"
            )
        known = {entry.name for entry in fields(asked)}  # type: ignore[arg-type]
        trained = {name: value for name, value in self.about["parameters"].items() if name in known}
        return type(asked)(**{**trained, "policy": asked.policy, "num_envs": asked.num_envs, "threads": asked.threads})

    def model(self, agent: ActingAgent, env: VecEnv, seed: int) -> BaseAlgorithm:
        """The model, ready to act in an environment.

        Raises:
            SpecificationError: observations or actions there are others than in training, or the file is damaged.
        """
        sizes, trained = sizes_of(env), self.about["sizes"]
        if sizes != trained:
            tasks = ", ".join(entry["name"] for entry in self.about["workloads"][:3])
            raise SpecificationError(
                f"the policy in {quoted(self.path)} was trained on {tasks} on "
                f"{quoted(self.about['accelerator']['name'])}, "
                f"with {trained['observation']} numbers in an observation and {_text(trained)} actions; this task has "
                f"{sizes['observation']} and {_text(sizes)}: train one for it with 'mapgym train'"
            )
        model = agent.make_model(env, seed, one_task=self.about["one_task"])
        try:
            fill_policy(model, self.arrays)
        except (RuntimeError, TypeError):
            raise SpecificationError(
                f"{quoted(self.path)} does not hold the networks that its description names; train it anew"
            ) from None
        return model


def _text(sizes: AbcMapping[str, Any]) -> str:
    return " x ".join(map(str, sizes["actions"]))


def read_policy(where: str | Path) -> StoredPolicy:
    """Reads a policy.

    Args:
        where: the folder of a training, or the file in it.

    Raises:
        SpecificationError: there is none, or it is damaged.
    """
    path = Path(where)
    if path.is_dir():
        path /= POLICY
    if not path.is_file():
        raise SpecificationError(
            f"there is no policy in {quoted(Path(where))}; give the folder of a training, such as one written by "
            "'mapgym train maskable-ppo --workload paper/resnet_conv4 --accelerator accel_b --steps 200000 -o DIR'"
        )
    if find_spec("safetensors") is None:
        raise SpecificationError("a policy needs the package 'safetensors'; install it with: pip install 'mapgym[rl]'")
    arrays, about = read_arrays(path)
    with reading(path, "policy of an agent that 'mapgym train' trains in an environment"):
        _check(about)
    check_finite(path, arrays)
    return StoredPolicy(path, about, arrays)


def _check(about: dict[str, Any]) -> None:
    """Raises KeyError, TypeError or SpecificationError unless a description has all that is looked for in it later."""
    sizes = about["sizes"]
    kinds = [
        *((about[key], kind) for key, kind in _KINDS.items()),
        *((entry["name"], str) for entry in (*about["workloads"], about["accelerator"])),
        *((size, int) for size in (sizes["observation"], *sizes["actions"])),
        (about["workloads"][0], dict),
    ]
    for value, kind in kinds:
        if type(value) is not kind:
            raise TypeError(f"{quoted(value)} is no {kind.__name__}")
    if about["objective"] not in OBJECTIVES:
        raise SpecificationError(f"unknown objective {quoted(about['objective'])}")
    agent = agent_class(about["agent"])
    if not hasattr(agent, "make_model"):
        raise SpecificationError(f"agent {quoted(agent.name)} does not act in an environment")
    known = {entry.name for entry in fields(agent)}
    agent(**{name: value for name, value in about["parameters"].items() if name in known})
