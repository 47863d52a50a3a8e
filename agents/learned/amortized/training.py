"""Training of the amortized policy: first it imitates a searcher, then it learns from its own mappings.

*Imitation.* A short evolutionary search solves each task; the policy learns to make the decisions that lead to the best
mappings found. This is cheap, because a search prices hundreds of thousands of mappings in a second, and because a
likelihood spreads over all good mappings instead of settling for one.

*Policy gradient.* An iteration draws a few tasks, lets the policy build a group of mappings of each, prices them, and
raises the probability of what was better than the rest of its group. Costs of different tasks are never compared, and
there is no critic. What is raised is not the mean of the rewards but the mean of the best of k (:func:`advantages`),
because users take the best of many; the higher k, the more the policy stays diverse. So that it forgets nothing
meanwhile, solved tasks of the first part are imitated along with it.

Tasks come from a pool that grows bit by bit, because making and solving one takes longer than many episodes.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, replace
from math import comb
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mapgym import __version__
from mapgym.agents.learned.amortized.episodes import Decisions, Episodes, retrace, roll_out
from mapgym.agents.learned.amortized.model import MODEL, Policy, load_policy, make_network, one_thread
from mapgym.agents.learned.amortized.tasks import SOLVER_SAMPLES, TrainingTask
from mapgym.agents.learned.amortized.validation import Validation, validation_mappings
from mapgym.agents.learned.stored_arrays import (
    check_finite,
    check_same_training,
    fill_training,
    read_arrays,
    reading,
    training_arrays,
    write_arrays,
)
from mapgym.agents.learned.training import CHECKPOINT, Trainer, TrainingProgress, TrainingRequest, register_trainer
from mapgym.system.files import prepare_output_folder

if TYPE_CHECKING:
    import torch

_SECONDS_BETWEEN_CHECKPOINTS = 15.0


@dataclass(frozen=True)
class Recipe:
    """How to train.

    Attributes:
        samples: mappings learned from, over all tasks: imitated ones, then the policy's own. Those that searches price
            to find what is imitated come on top, see ``priced``.
        imitated: share of them that are imitated.
        imitated_tasks: tasks of an iteration that imitates.
        tasks, group: tasks of an iteration of policy gradient, and mappings of each.
        best_of: k of the best of k that is learned.
        reminded_tasks, reminder: tasks that are imitated along with policy gradient, and the weight of that.
        fresh: tasks of an iteration that are new and join the pool; the others come from it.
        first: tasks in the pool at the start.
        pool: most tasks in the pool; then the oldest leave it.
        imitation_rate, gradient_rate: learning rates of Adam at the start of the two parts; they fall to a twentieth in
            a straight line.
        entropy: weight of the entropy of the decisions in policy gradient, at its start; it falls to a fifth likewise.
        validations: how often the policy is validated; the best one is kept.
    """

    samples: int = 1_200_000
    imitated: float = 0.5
    imitated_tasks: int = 64
    tasks: int = 16
    group: int = 32
    best_of: int = 4
    reminded_tasks: int = 32
    reminder: float = 0.2
    fresh: int = 6
    first: int = 256
    pool: int = 8192
    imitation_rate: float = 3e-3
    gradient_rate: float = 1.5e-3
    entropy: float = 0.01
    validations: int = 12

    @property
    def imitating(self) -> int:
        """Iterations that imitate."""
        return round(self.imitated * self.iterations)

    @property
    def iterations(self) -> int:
        """Iterations of the whole training."""
        return max(1, self.samples // (self.tasks * self.group))

    @property
    def solved(self) -> int:
        """Tasks that a search solves, so that they can be imitated: the first ones, those from 0 to here."""
        return self.first + self.imitating * self.fresh if self.imitating else 0

    @property
    def validated_after(self) -> frozenset[int]:
        """Iterations after which the policy is validated."""
        return frozenset(max(1, round(self.iterations * k / self.validations)) for k in range(1, self.validations + 1))

    @property
    def priced(self) -> int:
        """Mappings that the whole training asks the cost model for: by searches, by the policy and for validation.

        Not the same as ``samples``: what is imitated is learned from many times, and a search prices far more than the
        few mappings that are imitated. The last batch of a search, a few dozen mappings at most, is not counted.
        """
        own = (self.iterations - self.imitating) * self.tasks * self.group
        return self.solved * SOLVER_SAMPLES + own + validation_mappings(len(self.validated_after))


def advantages(rewards: NDArray[np.float64], k: int) -> NDArray[np.float64]:
    """How much each member of a group adds to the best of k of it, less the mean of its group.

    For k of 1 that is its distance from the mean. For more it is the mean, over the k - 1 others that it could be drawn
    with, of how far it is above the best of them: an unbiased estimate of the gradient of the mean best of k, in which
    the members that are best of no draw count for nothing.

    Args:
        rewards: float64[groups, size].
        k: at most size.

    Returns:
        float64[groups, size], whose rows add up to 0.
    """
    size = rewards.shape[1]
    gains = rewards
    if k > 1:
        order = np.argsort(rewards, axis=1, kind="stable")
        ascending = np.take_along_axis(rewards, order, axis=1)
        # weights[j]: probability that the best of k - 1 of the size - 1 others is the one of rank j.
        weights = np.array([comb(j, k - 2) for j in range(size)]) / comb(size - 1, k - 1)
        before = np.cumsum(weights) - weights
        gains_in_order = ascending * before - (np.cumsum(weights * ascending, axis=1) - weights * ascending)
        gains = np.empty_like(rewards)
        np.put_along_axis(gains, order, gains_in_order, axis=1)
    return gains - gains.mean(axis=1, keepdims=True)


@register_trainer
class AmortizedTrainer(Trainer):
    """Trains the policy; the recipe can be given by who calls it from Python."""

    name = "amortized"
    summary = "the policy that proposes mappings of any layer on any accelerator"
    options = ("rules", "samples")

    def __init__(self, recipe: Recipe | None = None) -> None:
        self._recipe = recipe or Recipe()

    def train(self, request: TrainingRequest, progress: TrainingProgress) -> str:
        """Trains, see :class:`Trainer`."""
        recipe = self._recipe
        if request.samples is not None:
            recipe = replace(recipe, samples=request.samples)
        prepare_output_folder(request.folder)
        with one_thread():
            return _Session(request, recipe, progress).run()


class _Session:
    """One run of the trainer, from a checkpoint or from the start."""

    def __init__(self, request: TrainingRequest, recipe: Recipe, progress: TrainingProgress) -> None:
        import torch

        # The references of validation take seconds, which count against the limit that the user gives.
        self._started = time.perf_counter()
        self._request, self._recipe, self._progress = request, recipe, progress
        self._identity = {"recipe": asdict(recipe), "seed": request.seed, "rules": request.rules}
        progress.total = recipe.iterations * recipe.tasks * recipe.group
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        torch.manual_seed(request.seed)
        self._network = make_network().to(self._device)
        self._optimizer = torch.optim.Adam(self._network.parameters())
        self._validation = Validation(request.rules)
        self._tasks: dict[int, TrainingTask] = {}
        self._done, self._spent = 0, 0.0
        self._history: list[dict[str, float]] = []
        self._best_score: float | None = None

    def run(self) -> str:
        folder, recipe = self._request.folder, self._recipe
        if (folder / CHECKPOINT).exists():
            self._load()
        if self._done < recipe.iterations:
            self._continue()
        if not (folder / MODEL).exists():
            # Interrupted before the first validation: not what will be chosen, but something to try.
            self._write_model(self._validation.scores(Policy(self._network)))
        about = load_policy(str(folder / MODEL)).about
        with reading(folder / MODEL, "policy of agent 'amortized'"):
            text = f"Wrote {folder / MODEL}: {self._summary(about)}."
        if self._done < recipe.iterations:
            text += (
                f" {self._progress.done:,} of {self._progress.total:,} samples are done; the same command continues."
            )
        return text

    def _continue(self) -> None:
        recipe, began = self._recipe, time.process_time()
        before, saved = self._spent, time.perf_counter()
        marks = recipe.validated_after
        while self._done < recipe.iterations:
            self._iterate()
            self._spent = before + time.process_time() - began
            now = time.perf_counter()
            out_of_time = self._request.seconds is not None and now - self._started >= self._request.seconds
            if self._done in marks:
                self._validate()
            if self._done in marks or out_of_time or now - saved > _SECONDS_BETWEEN_CHECKPOINTS:
                self._save()
                saved = now
            if out_of_time:
                return

    def _iterate(self) -> None:
        import torch

        recipe = self._recipe
        rng = np.random.default_rng((self._request.seed, 2, self._done))
        if self._done < recipe.imitating:
            self._set_rate(recipe.imitation_rate, self._done / recipe.imitating)
            record, gains = _imitated(self._choose(rng, recipe.imitated_tasks))
            self._learn(record, gains, 0.0)
        else:
            done = (self._done - recipe.imitating) / (recipe.iterations - recipe.imitating)
            self._set_rate(recipe.gradient_rate, done)
            self._improve(self._choose(rng, recipe.tasks), rng, recipe.entropy * (1.0 - 0.8 * done))
        torch.nn.utils.clip_grad_norm_(self._network.parameters(), 1.0)
        self._optimizer.step()
        self._done += 1
        self._progress.done = self._done * recipe.tasks * recipe.group

    def _set_rate(self, rate: float, done: float) -> None:
        for group in self._optimizer.param_groups:
            group["lr"] = rate * (1.0 - 0.95 * done)

    def _choose(self, rng: np.random.Generator, n: int) -> list[TrainingTask]:
        """A few new tasks, and others from the pool."""
        recipe = self._recipe
        pool, newest = self._pool_at(self._done), recipe.first + self._done * recipe.fresh
        older = [pool[place] for place in rng.choice(len(pool), n - recipe.fresh, replace=False)]
        return [self._task(number) for number in (*range(newest, newest + recipe.fresh), *older)]

    def _pool_at(self, done: int) -> range:
        """The numbers of the tasks in the pool after so many iterations."""
        drawn = self._recipe.first + done * self._recipe.fresh
        return range(max(0, drawn - self._recipe.pool), drawn)

    def _task(self, number: int) -> TrainingTask:
        """A task is a function of the seed and of its number; those that left the pool are forgotten."""
        if number not in self._tasks:
            self._tasks[number] = TrainingTask((self._request.seed, 1, number), self._request.rules)
            self._tasks.pop(number - self._recipe.pool, None)
        return self._tasks[number]

    def _improve(self, chosen: list[TrainingTask], rng: np.random.Generator, entropy: float) -> None:
        recipe, n = self._recipe, len(chosen) * self._recipe.group
        episodes = roll_out(
            Policy(self._network),
            [entry.task for entry in chosen],
            np.repeat(np.arange(len(chosen)), recipe.group),
            int(rng.integers(2**63)),
            np.ones(n),
            np.zeros(n),
            record=True,
        )
        gains = advantages(rewards_of(episodes, chosen, recipe.group), recipe.best_of).ravel()
        pool = self._pool_at(self._done + 1)
        solved = range(pool.start, recipe.solved)
        places = rng.choice(len(solved), min(recipe.reminded_tasks, len(solved)), replace=False) if solved else ()
        reminders = [self._task(solved[place]) for place in places]
        if not reminders:
            self._learn(Decisions.concatenate(episodes.record), gains, entropy)
            return
        record, weights = _imitated(reminders)
        record.episode += n
        joined = Decisions.concatenate([*episodes.record, record])
        self._learn(joined, np.concatenate([gains, recipe.reminder * weights]), entropy)

    def _learn(self, record: Decisions, gains: NDArray[np.float64], entropy_weight: float) -> None:
        """Leaves the gradient of the loss in the network; gains: float64[episode], what its decisions are worth."""
        import torch

        def tensor(array: NDArray[Any]) -> torch.Tensor:
            return torch.from_numpy(array).to(self._device)

        counts = tensor(record.counts)
        logits = self._network(tensor(record.decisions), tensor(record.options), counts)
        owner = torch.arange(len(counts), device=self._device).repeat_interleave(counts)
        highest = torch.full((len(counts),), -torch.inf, device=self._device)
        highest = highest.scatter_reduce(0, owner, logits.detach(), "amax")
        weights = (logits - highest[owner]).exp()
        sums = torch.zeros(len(counts), device=self._device).index_add(0, owner, weights)
        logs = logits - highest[owner] - sums.log()[owner]
        entropy = -(logs.exp() * logs).sum()
        worth = tensor(gains.astype(np.float32))[tensor(record.episode)]
        loss = -(worth * logs[tensor(record.picked)]).sum() - entropy_weight * entropy
        self._optimizer.zero_grad()
        (loss / (8 * len(gains))).backward()

    def _validate(self) -> None:
        scores = self._validation.scores(Policy(self._network))
        self._history.append({"samples": self._progress.done, "seconds": round(self._spent, 1), **scores})
        self._progress.text = ", ".join(f"{name} {value:.3f}" for name, value in scores.items())
        self._progress.on_milestone(
            f"{self._progress.done:,} of {self._progress.total:,} samples, {self._spent:.0f} s: {self._progress.text}"
        )
        score = scores[self._validation.selected_by]
        if self._best_score is None or score < self._best_score:
            self._best_score = score
            self._write_model(scores)

    def _write_model(self, scores: dict[str, float]) -> None:
        about = {
            **self._identity,
            "command": self._request.command,
            "mapgym_version": __version__,
            "samples": self._progress.done,
            "cpu_seconds": round(self._spent, 1),
            "validation": scores,
        }
        Policy(self._network, about).save(self._request.folder / MODEL)

    def _save(self) -> None:
        arrays = training_arrays(self._network, self._optimizer)
        about = {**self._identity, "done": self._done, "cpu_seconds": self._spent, "history": self._history}
        write_arrays(self._request.folder / CHECKPOINT, arrays, {**about, "best_score": self._best_score})

    def _load(self) -> None:
        arrays, about = read_arrays(self._request.folder / CHECKPOINT)
        check_same_training(self._request.folder, about, self._identity)
        check_finite(self._request.folder / CHECKPOINT, arrays)
        with reading(self._request.folder / CHECKPOINT, "checkpoint of agent 'amortized'"):
            fill_training(self._network, self._optimizer, arrays)
            self._done, self._spent = range(self._recipe.iterations + 1)[about["done"]], float(about["cpu_seconds"])
            self._history, score = list(about["history"]), about["best_score"]
            self._best_score = None if score is None else float(score)
        self._progress.done = self._done * self._recipe.tasks * self._recipe.group

    def _summary(self, about: dict[str, Any]) -> str:
        scores = ", ".join(f"{name} {value:.3f}" for name, value in about["validation"].items())
        learned = f"learned from {about['samples']:,} mappings in {about['cpu_seconds']:,.0f} CPU seconds"
        return f"{learned}; on validation {scores}"


def _imitated(tasks: list[TrainingTask]) -> tuple[Decisions, NDArray[np.float64]]:
    """The decisions that lead to the best mappings of tasks, and the weight of each mapping; their mean is 1."""
    episodes = retrace([entry.task for entry in tasks], [entry.elites.batch for entry in tasks])
    weights = np.concatenate([entry.elites.weights for entry in tasks])
    return Decisions.concatenate(episodes.record), weights * len(weights) / len(tasks)


def rewards_of(episodes: Episodes, tasks: list[TrainingTask], group: int) -> NDArray[np.float64]:
    """float64[task, group]: minus the logarithm of the objective; of a mapping that is none, as the worst of its group.

    Args:
        episodes: group episodes of each task, task by task.
        tasks: the tasks.
        group: how many.
    """
    rewards = np.full((len(tasks), group), -np.inf)
    for k, entry in enumerate(tasks):
        rows, batch = episodes.mappings(k)
        if len(rows):
            costs = entry.model.evaluate(batch).objective(entry.task.objective)
            rewards[k, rows - k * group] = -np.log(costs)
    worst = np.where(np.isfinite(rewards), rewards, np.inf).min(axis=1, keepdims=True)
    return np.where(np.isfinite(rewards), rewards, np.where(np.isfinite(worst), worst, 0.0))
