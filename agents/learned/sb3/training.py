"""Training of the agents of Stable-Baselines3 ahead of a search: ``mapgym train ppo`` and its like.

A training is a row of segments of about ``SEGMENT_STEPS`` steps. Each begins with new episodes and new random numbers,
both from the seed and the number of the segment, and ends with an evaluation and a checkpoint. What a checkpoint must
hold is therefore small (networks, optimiser, the steps that DQN remembers), and a training that continues from one does
exactly what it would have done without the interruption.
"""

from __future__ import annotations

import importlib.util
import inspect
import json
import math
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray

from mapgym.agents.base import make_agent
from mapgym.agents.files.tables import Table
from mapgym.agents.learned.sb3.policy import POLICY, Arrays, fill_policy, policy_arrays, sizes_of, write_policy
from mapgym.agents.learned.sb3.stock import DEFAULT_ENV, StockAgent, computing, is_searchable, vector_class
from mapgym.agents.learned.stored_arrays import (
    check_finite,
    check_same_training,
    fill_optimizer,
    optimizer_arrays,
    part,
    read_arrays,
    reading,
    write_arrays,
)
from mapgym.agents.learned.training import CHECKPOINT, Trainer, TrainingProgress, TrainingRequest, register_trainer
from mapgym.envs.sparse.sparse_tasks import WEIGHT_DENSITIES
from mapgym.errors import SpecificationError
from mapgym.errors.text import quoted
from mapgym.evaluation.sparsity_aware import SPARSITY_AWARE
from mapgym.system.files import prepare_output_folder, write_text

if TYPE_CHECKING:
    from mapgym.adapters.sb3 import VecEnv

SEGMENT_STEPS = 20_000
EVALUATIONS = "evaluations.csv"
GROUP = 16
"""Mappings of a group in an evaluation; policies are selected by the best of so many, which is how they are used."""

_LEAST_GROUPS = 4
_COLUMNS = ("steps", "seconds", "best of 1", f"best of {GROUP}", "best in training")
_MEMORY = ("observations", "next_observations", "actions", "rewards", "dones", "timeouts")


class StockTrainer(Trainer):
    """Trains an agent of Stable-Baselines3 in an environment."""

    summary = "a policy in an environment"
    requires: ClassVar[tuple[str, ...]] = ("torch", "stable_baselines3", "safetensors")
    options = ("env", "workload", "accelerator", "rules", "objective", "steps", "parameter")
    needs = ("workload", "accelerator", "steps")

    def train(self, request: TrainingRequest, progress: TrainingProgress) -> str:
        """Trains, see :class:`Trainer`."""
        named = request.parameters.get("env", request.env)
        if request.env not in (None, named):
            raise SpecificationError(
                f"training {quoted(self.name)} was given the environment {quoted(request.env)} and the parameter "
                f"env={named}; leave one of them out"
            )
        agent = make_agent(self.name, **{**request.parameters, "env": DEFAULT_ENV if named is None else named})
        assert isinstance(agent, StockAgent)
        if agent.policy:
            raise SpecificationError("a policy that is given learns nothing; leave the parameter policy out")
        with computing(agent.threads):
            session = _Session(agent, request, progress)
            prepare_output_folder(request.folder)
            return session.run()


@register_trainer
class PpoTrainer(StockTrainer):
    """Trains ``ppo``."""

    name = "ppo"


@register_trainer
class MaskablePpoTrainer(StockTrainer):
    """Trains ``maskable-ppo``."""

    name = "maskable-ppo"
    requires = (*StockTrainer.requires, "sb3_contrib")


@register_trainer
class A2cTrainer(StockTrainer):
    """Trains ``a2c``."""

    name = "a2c"


@register_trainer
class DqnTrainer(StockTrainer):
    """Trains ``dqn``."""

    name = "dqn"


def training_env(agent: StockAgent, request: TrainingRequest, num_envs: int) -> VecEnv:
    """Environments that draw from the tasks of a training.

    Raises:
        SpecificationError: the environment takes no single accelerator or no layers.
    """
    from mapgym.adapters.sb3 import VecEnv

    kind = vector_class(agent.env)
    known = inspect.signature(kind).parameters
    options: dict[str, Any] = {"orders": agent.orders} if "orders" in known else {}
    options["workload" if "workload" in known else "network"] = list(request.workloads)
    return VecEnv(
        kind(
            num_envs,
            accelerator=request.accelerator,
            objective=request.objective,
            autoreset_mode=AutoresetMode.SAME_STEP,
            **options,
        )
    )


def judged_tasks(agent: StockAgent, request: TrainingRequest) -> tuple[list[dict[str, Any]], int]:
    """What the policy is evaluated on: every layer equally often.

    Returns:
        for each group of environments the options of its reset, and how many episodes of each environment count: one,
        or, where the environment goes through the layers by itself, as many as there are layers.
    """
    known, layers = inspect.signature(vector_class(agent.env)).parameters, list(dict.fromkeys(request.workloads))
    if "workload" not in known:
        return [{}] * math.ceil(_LEAST_GROUPS / len(layers)), len(layers)
    # Mappings for weights of different densities are not compared.
    densities = [{"weight_density": density} for density in WEIGHT_DENSITIES] if "weight_densities" in known else [{}]
    groups = math.ceil(max(_LEAST_GROUPS, len(densities)) / len(layers)) * len(layers)
    return [{"workload": layers[k % len(layers)], **densities[k % len(densities)]} for k in range(groups)], 1


class _Session:
    """One run of the trainer, from a checkpoint or from the start."""

    def __init__(self, agent: StockAgent, request: TrainingRequest, progress: TrainingProgress) -> None:
        assert request.accelerator is not None  # these are among what the trainer needs
        assert request.steps is not None
        self._agent, self._request, self._progress = agent, request, progress
        self._env = training_env(agent, request, agent.num_envs)
        one_task = len(request.workloads) == 1
        self._model = agent.make_model(self._env, request.seed, one_task=one_task)
        about = {
            "agent": agent.name,
            "parameters": asdict(agent),
            "env": agent.env,
            "workloads": [workload.to_dict() for workload in request.workloads],
            "accelerator": request.accelerator.to_dict(),
            "rules": request.accelerator.rules,
            "objective": request.objective,
            "seed": request.seed,
            "sizes": sizes_of(self._env),
            "one_task": one_task,
        }
        # What is compared with a file must have gone through JSON itself.
        self._about: dict[str, Any] = json.loads(json.dumps(about))
        self._total = request.steps
        self._segments, self._spent = 0, 0.0
        self._evaluations: list[list[float]] = []
        self._best: Arrays = {}
        self._judged, self._episodes = judged_tasks(agent, request)
        self._has_densities = any("weight_density" in options for options in self._judged)
        self._judge = training_env(agent, request, GROUP * len(self._judged))
        progress.total, progress.unit = self._total, "steps"

    def run(self) -> str:
        """Trains; returns what has been reached."""
        checkpoint = self._request.folder / CHECKPOINT
        if checkpoint.exists():
            self._load()
        if self._model.num_timesteps >= self._total:
            return f"The training in {quoted(self._request.folder)} is done: {self._reached()}."
        self._open_log()
        started, before = time.perf_counter(), self._spent
        out_of_time = False
        try:
            while self._model.num_timesteps < self._total and not out_of_time:
                self._learn_segment()
                self._spent = before + time.perf_counter() - started
                self._evaluate()
                self._save()
                elapsed = time.perf_counter() - started
                out_of_time = self._request.seconds is not None and elapsed >= self._request.seconds
        finally:
            self._env.close()
            self._judge.close()
        text = f"Wrote {self._request.folder / POLICY}: {self._reached()}."
        if self._model.num_timesteps < self._total:
            return (
                f"{text} {self._model.num_timesteps:,} of {self._total:,} steps are done; the same command continues."
            )
        if is_searchable(self._agent.env):
            objective = self._request.objective
            if self._has_densities:
                objective = f"{SPARSITY_AWARE}:{objective}"
            option = "" if objective == "edp" else f" --objective {objective}"
            return f"{text}\nUse it with: mapgym search WORKLOAD ACCELERATOR --policy {self._request.folder}{option}"
        return (
            f"{text}\n'mapgym search --policy' does not take it, because {self._agent.env} is no environment to search "
            "a single layer in; in Python, read_policy of mapgym.agents.learned.sb3.policy reads it."
        )

    def _open_log(self) -> None:
        """Sends the library's metrics to TensorBoard, if that is installed."""
        from stable_baselines3.common.logger import KVWriter, Logger, TensorBoardOutputFormat

        outputs: list[KVWriter] = []
        if importlib.util.find_spec("tensorboard") is not None:
            outputs = [TensorBoardOutputFormat(str(self._request.folder / "tensorboard"))]
        self._model.set_logger(Logger(None, outputs))

    def _seed(self, purpose: int) -> int:
        """A seed for this segment."""
        return int(np.random.SeedSequence((self._request.seed, self._segments, purpose)).generate_state(1)[0])

    def _learn_segment(self) -> None:
        from stable_baselines3.common.callbacks import BaseCallback

        session, progress = self, self._progress

        class Report(BaseCallback):
            def _on_step(self) -> bool:
                progress.done = min(self.num_timesteps, session._total)
                progress.text = session._progress_text()
                return True

        model = self._model
        model.set_random_seed(self._seed(0))
        # None makes the library begin with new episodes.
        model._last_obs = None
        steps = min(SEGMENT_STEPS, self._total - model.num_timesteps)
        with self._agent.answering():
            model.learn(steps, callback=Report(), reset_num_timesteps=False, log_interval=None)  # type: ignore[arg-type]
        self._segments += 1

    def _evaluate(self) -> None:
        """Draws mappings of the policy, and keeps the policy if it is the best so far."""
        if not all(np.isfinite(array).all() for array in policy_arrays(self._model).values()):
            raise SpecificationError(
                f"the training in {quoted(self._request.folder)} has diverged: the weights are no finite numbers; give "
                "a lower learning_rate, and another folder with -o"
            )
        self._model.set_random_seed(self._seed(1))
        logs = np.log(self._drawn())
        each, best = float(np.exp(logs.mean())), float(np.exp(logs.min(axis=1).mean()))
        if not self._evaluations or best <= min(row[3] for row in self._evaluations):
            self._best = policy_arrays(self._model)
        steps = self._model.num_timesteps
        self._evaluations.append([steps, round(self._spent, 2), each, best, self._env.best_ratio])
        self._model.logger.record("evaluation/best_of_1", each)
        self._model.logger.record(f"evaluation/best_of_{GROUP}", best)
        dump: Any = self._model
        dump.dump_logs()
        self._progress.on_milestone(f"{steps:,} of {self._total:,} steps, {self._spent:.0f} s: {self._progress_text()}")

    def _drawn(self) -> NDArray[np.float64]:
        """Cost over lower bound of mappings of the policy: float64[groups, GROUP], those of a group of one task."""
        env = self._judge
        env.seed(self._seed(2))
        observations = env.reset()
        for k, options in enumerate(self._judged):
            if options:
                mask = np.arange(env.num_envs) // GROUP == k
                observations, _ = env.env.reset(options={**options, "reset_mask": mask})
        found = np.full((env.num_envs, self._episodes), np.nan)
        ended = np.zeros(env.num_envs, np.int64)
        while (ended < self._episodes).any():
            observations, _, _, _ = env.step(self._agent.act(self._model, env, observations))
            wanted = ended[env.ended] < self._episodes
            rows = env.ended[wanted]
            found[rows, ended[rows]] = env.ratios[wanted]
            ended[rows] += 1
        return found.reshape(-1, GROUP, self._episodes).swapaxes(1, 2).reshape(-1, GROUP)

    def _progress_text(self) -> str:
        text = f"best {_times(self._env.best_ratio)} the lower bound"
        if self._evaluations:
            text += f", of {GROUP} from the policy {_times(self._evaluations[-1][3])}"
        return text

    def _reached(self) -> str:
        steps, seconds, _, _, trained = self._evaluations[-1]
        best = min(self._evaluations, key=lambda row: row[3])
        averaged = ["layers"] * (len(self._request.workloads) > 1)
        averaged += ["densities"] * self._has_densities
        several = f", geometric mean over {' and '.join(averaged)}" if averaged else ""
        rate = f" ({steps / seconds:,.0f}/s with evaluations)" if seconds else ""
        return (
            f"{steps:,.0f} steps in {seconds:,.0f} s{rate}; the best of {GROUP} mappings of the policy "
            f"costs {_times(best[3])} the lower bound{several}, the best in training {_times(trained)}"
        )

    def _save(self) -> None:
        """Writes the checkpoint, the best policy and the table of evaluations."""
        folder, model = self._request.folder, self._model
        arrays = {f"policy.{name}": array for name, array in policy_arrays(model).items()}
        arrays |= {f"best.{name}": array for name, array in self._best.items()}
        arrays |= optimizer_arrays(model.policy.optimizer)
        memory = getattr(model, "replay_buffer", None)
        if memory is not None:
            arrays |= {f"memory.{name}": getattr(memory, name) for name in _MEMORY}
        progress = {
            "segments": self._segments,
            "steps": model.num_timesteps,
            "updates": model._n_updates,
            "calls": getattr(model, "_n_calls", 0),
            "memory": None if memory is None else [int(memory.pos), bool(memory.full)],
            "seconds": self._spent,
            # JSON has no infinity, which is the best in training before an episode has ended.
            "evaluations": [[value if math.isfinite(value) else None for value in row] for row in self._evaluations],
        }
        write_policy(folder / POLICY, self._best, {**self._about, **progress, "command": self._request.command})
        rows: list[list[object]] = [list(row) for row in self._evaluations]
        write_text(folder / EVALUATIONS, Table("", "", _COLUMNS, rows).to_csv())
        # Last, so that the other files are never behind it.
        write_arrays(folder / CHECKPOINT, arrays, {**self._about, "progress": progress})

    def _load(self) -> None:
        """Goes back to the checkpoint.

        Raises:
            SpecificationError: it is of another training, or damaged.
        """
        folder, model = self._request.folder, self._model
        arrays, about = read_arrays(folder / CHECKPOINT)
        check_same_training(folder, about, self._about, another="other")
        check_finite(folder / CHECKPOINT, arrays)
        with reading(folder / CHECKPOINT, f"checkpoint of agent {quoted(self._agent.name)}"):
            self._continue_from(arrays, about["progress"])
        self._env.best_ratio = self._evaluations[-1][4]
        self._progress.done = model.num_timesteps
        self._progress.text = self._progress_text()

    def _continue_from(self, arrays: Arrays, progress: dict[str, Any]) -> None:
        """Takes over what :meth:`_save` has kept; everything else is drawn anew at the start of a segment."""
        model: Any = self._model
        fill_policy(model, part(arrays, "policy"))
        fill_optimizer(model.policy.optimizer, arrays)
        model.num_timesteps, model._n_updates = _count(progress["steps"]), _count(progress["updates"])
        memory: Any = getattr(model, "replay_buffer", None)
        if memory is not None:
            for name in _MEMORY:
                ours, array = getattr(memory, name), arrays[f"memory.{name}"]
                if ours.shape != array.shape:
                    raise ValueError(f"{name} of another shape")
                ours[:] = array
            position, full = progress["memory"]
            memory.pos, memory.full = _count(position) % memory.buffer_size, bool(full)
            model._n_calls = _count(progress["calls"])
            # Follows from the steps, but is brought up to date after the next one only.
            model.exploration_rate = model.exploration_schedule(0.0)
        self._best, self._segments = part(arrays, "best"), _count(progress["segments"])
        self._spent = float(progress["seconds"])
        rows = progress["evaluations"]
        self._evaluations = [[math.inf if value is None else value + 0 for value in row] for row in rows]
        if any(len(row) != len(_COLUMNS) for row in self._evaluations) or not self._evaluations:
            raise ValueError("evaluations of other columns")
        shapes = [{name: array.shape for name, array in each.items()} for each in (self._best, part(arrays, "policy"))]
        if shapes[0] != shapes[1]:
            raise ValueError("no best policy")


def _count(value: Any) -> int:
    """The value, if it is a whole number from 0."""
    if type(value) is not int or value < 0:
        raise ValueError(f"{quoted(value)} is no number of steps")
    return value


def _times(ratio: float) -> str:
    """A cost relative to the lower bound, such as "1.052 x"; "-" before there is a mapping."""
    return f"{ratio:.3f} x" if math.isfinite(ratio) else "-"
