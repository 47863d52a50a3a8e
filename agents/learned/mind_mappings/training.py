"""Training of the surrogate of Mind Mappings.

The cost model is so fast that data need not be stored: samples come in chunks, each made anew from the seed and its
number when its turn comes. The state between two chunks is therefore small, and a training that continues from a
checkpoint does exactly what it would have done without the interruption.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mapgym import __version__
from mapgym.agents.learned.mind_mappings.data import AXES, cost_targets, make_chunk, random_mappings, random_problem
from mapgym.agents.learned.mind_mappings.encoding import Encoding, vector_width
from mapgym.agents.learned.mind_mappings.model import Normalisation, Surrogate, load_surrogate, make_network
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
from mapgym.errors.text import quoted
from mapgym.mapspace import MapSpace
from mapgym.system.files import prepare_output_folder

if TYPE_CHECKING:
    import torch

    from mapgym.spec.accelerator import Accelerator

MODEL = "model.safetensors"
_SECONDS_BETWEEN_CHECKPOINTS = 15.0
_HELD_OUT = 2**31
_HELD_OUT_PROBLEMS = 100
_MILESTONES = 20


@dataclass(frozen=True)
class Recipe:
    """How to train.

    Attributes:
        samples: different mappings.
        passes: how often each is learned from.
        mappings_per_problem: mappings of one random problem.
        chunk_problems: problems of a chunk, within which samples are shuffled.
        improved: share of mappings that are edits of good ones, see :func:`make_chunk`.
        hidden: units of the hidden layers.
        optimizer: "adam", with a rate that falls to 0 along a cosine, or "sgd" with momentum 0.9 and a rate that falls
            to a tenth each fifth of the training.
        learning_rate: at the start.
        batch_size: samples of a step.
    """

    samples: int = 8_000_000
    passes: int = 1
    mappings_per_problem: int = 512
    chunk_problems: int = 128
    improved: float = 0.5
    hidden: tuple[int, ...] = (384, 384, 384)
    optimizer: str = "adam"
    learning_rate: float = 2e-3
    batch_size: int = 1024

    @property
    def chunk_samples(self) -> int:
        """Samples of a chunk."""
        return self.chunk_problems * self.mappings_per_problem

    def chunks(self) -> list[int]:
        """Numbers of the chunks to learn from, in order."""
        return [*range(-(-self.samples // self.chunk_samples))] * self.passes

    def rate(self, done: float) -> float:
        """The learning rate when a share of the training is done."""
        if self.optimizer == "sgd":
            return float(self.learning_rate * 0.1 ** int(5 * done))
        return float(self.learning_rate * 0.5 * (1.0 + np.cos(np.pi * done)))


ORIGINAL = Recipe(
    samples=10_000_000,
    passes=100,
    mappings_per_problem=500,
    chunk_problems=200,
    improved=0.0,
    hidden=(64, 256, 1024, 2048, 2048, 1024, 256, 64),
    optimizer="sgd",
    learning_rate=1e-2,
    batch_size=256,
)
"""The sizes, the optimiser and the schedule of the released code of Mind Mappings."""


@register_trainer
class MindMappingsTrainer(Trainer):
    """Trains the surrogate; the recipe can be given by who calls it from Python."""

    name = "mind-mappings"
    summary = "the surrogate of the costs of mappings on one accelerator"
    options = ("accelerator", "rules", "samples", "full")
    needs = ("accelerator",)

    def __init__(self, recipe: Recipe | None = None) -> None:
        self._recipe = recipe

    def train(self, request: TrainingRequest, progress: TrainingProgress) -> str:
        """Trains, see :class:`Trainer`."""
        import torch

        recipe = self._recipe or (ORIGINAL if request.full else Recipe())
        if request.samples is not None:
            recipe = Recipe(**{**asdict(recipe), "samples": request.samples})
        prepare_output_folder(request.folder)
        threads = torch.get_num_threads()
        # One thread adds up in one order: the same seed gives the same weights.
        torch.set_num_threads(1)
        try:
            return _Session(request, recipe, progress).run()
        finally:
            torch.set_num_threads(threads)


class _Session:
    """One run of the trainer, from a checkpoint or from the start."""

    def __init__(self, request: TrainingRequest, recipe: Recipe, progress: TrainingProgress) -> None:
        import torch

        assert request.accelerator is not None  # it is among what the trainer needs
        self._accelerator = request.accelerator
        self._request, self._recipe, self._progress = request, recipe, progress
        self._chunks = recipe.chunks()
        progress.total = len(self._chunks) * recipe.chunk_samples
        self._identity = {
            "recipe": {**asdict(recipe), "hidden": list(recipe.hidden)},
            "seed": request.seed,
            "accelerator": self._accelerator.to_dict(),
            "rules": self._accelerator.rules,
        }
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        levels = len(self._accelerator.levels)
        torch.manual_seed(request.seed)
        self._network = make_network([vector_width(levels), *recipe.hidden, 3 * levels + 3]).to(self._device)
        self._optimizer = _make_optimizer(recipe, self._network)
        self._norm: Normalisation | None = None
        self._done, self._spent, self._loss = 0, 0.0, float("nan")

    def run(self) -> str:
        checkpoint, model = self._request.folder / CHECKPOINT, self._request.folder / MODEL
        if checkpoint.exists():
            self._load()
            if self._done == len(self._chunks) and model.exists():
                about = load_surrogate(str(model)).about
                with reading(model, "model of agent 'mind-mappings'"):
                    return f"The training in {quoted(self._request.folder)} is done: {accuracy_text(about)}."
        started = saved = time.perf_counter()
        spent_before = self._spent
        out_of_time = False
        while self._done < len(self._chunks) and not out_of_time:
            self._learn_chunk()
            now = time.perf_counter()
            self._spent = spent_before + now - started
            out_of_time = self._request.seconds is not None and now - started >= self._request.seconds
            if now - saved > _SECONDS_BETWEEN_CHECKPOINTS or out_of_time or self._done == len(self._chunks):
                self._save()
                saved = now
        surrogate = self._surrogate()
        surrogate.save(model)
        text = f"Wrote {model}: {accuracy_text(surrogate.about)}."
        if self._done < len(self._chunks):
            text += (
                f" {self._progress.done:,} of {self._progress.total:,} samples are done; the same command continues."
            )
        return text

    def _learn_chunk(self) -> None:
        import torch

        recipe = self._recipe
        vectors, targets = self._chunk(self._chunks[self._done])
        if self._norm is None:
            self._norm = _normalisation(vectors, targets)
        inputs = torch.from_numpy(self._norm.inputs(vectors)).to(self._device)
        wanted = torch.from_numpy(self._norm.targets(targets)).to(self._device)
        loss_function = torch.nn.SmoothL1Loss()
        steps = range(0, len(inputs), recipe.batch_size)
        total = torch.zeros((), device=self._device)
        for first in steps:
            rows = slice(first, first + recipe.batch_size)
            rate = recipe.rate((self._done + first / len(inputs)) / len(self._chunks))
            for group in self._optimizer.param_groups:
                group["lr"] = rate
            self._optimizer.zero_grad()
            loss = loss_function(self._network(inputs[rows]), wanted[rows])
            loss.backward()
            self._optimizer.step()
            total += loss.detach()
        self._loss = float(total) / len(steps)
        before = self._done * _MILESTONES // len(self._chunks)
        self._done += 1
        self._report()
        if self._done * _MILESTONES // len(self._chunks) > before:
            self._progress.on_milestone(
                f"{self._progress.done:,} of {self._progress.total:,} samples, {self._progress.text}"
            )

    def _report(self) -> None:
        self._progress.done = self._done * self._recipe.chunk_samples
        self._progress.text = f"loss {self._loss:.4f}"

    def _chunk(self, number: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        recipe = self._recipe
        return make_chunk(
            self._accelerator,
            (self._request.seed, number),
            recipe.chunk_problems,
            recipe.mappings_per_problem,
            recipe.improved,
        )

    def _save(self) -> None:
        assert self._norm is not None
        arrays = {**self._norm._asdict(), **training_arrays(self._network, self._optimizer)}
        about = {**self._identity, "chunks_done": self._done, "seconds": self._spent, "loss": self._loss}
        write_arrays(self._request.folder / CHECKPOINT, arrays, about)

    def _load(self) -> None:
        arrays, about = read_arrays(self._request.folder / CHECKPOINT)
        check_same_training(self._request.folder, about, self._identity)
        check_finite(self._request.folder / CHECKPOINT, arrays)
        with reading(self._request.folder / CHECKPOINT, "checkpoint of agent 'mind-mappings'"):
            fill_training(self._network, self._optimizer, arrays)
            self._norm = Normalisation(*(arrays[name] for name in Normalisation._fields))
            self._norm.check(len(self._accelerator.levels))
            self._done = range(len(self._chunks) + 1)[about["chunks_done"]]
            self._spent, self._loss = float(about["seconds"]), float(about["loss"])
        self._report()

    def _surrogate(self) -> Surrogate:
        assert self._norm is not None
        surrogate = Surrogate(
            self._network.to("cpu"),
            len(self._accelerator.levels),
            self._norm,
            about={
                **self._identity,
                "command": self._request.command,
                "mapgym_version": __version__,
                "samples": self._done * self._recipe.chunk_samples,
                "seconds": round(self._spent, 1),
            },
        )
        surrogate.about["rank_correlation"] = rank_correlation(
            surrogate, self._accelerator, self._request.seed, self._recipe.mappings_per_problem
        )
        return surrogate


def rank_correlation(
    surrogate: Surrogate,
    accelerator: Accelerator,
    seed: int,
    mappings: int,
    improved: float = 0.0,
    best: float = 1.0,
) -> float:
    """Spearman's correlation of predicted and true EDP among mappings of a problem; mean of random, unseen problems.

    Args:
        surrogate: the model.
        accelerator: on which the mappings are priced; not necessarily the one that the surrogate was trained for.
        seed: of the training, whose problems are others.
        mappings: mappings of each problem.
        improved: share of them that are edits of good ones, see :func:`random_mappings`.
        best: share of them, those of the lowest EDP, among which ranks are compared.
    """
    correlations = []
    rng = np.random.default_rng((seed, _HELD_OUT))
    for _ in range(_HELD_OUT_PROBLEMS):
        workload = random_problem(rng)
        encoding = Encoding(workload, surrogate.levels)
        batch = random_mappings(MapSpace(workload, accelerator, AXES), rng, mappings, improved)
        true = surrogate.objective(cost_targets(encoding, accelerator, batch), "edp")
        predicted = surrogate.objective(surrogate.predict(encoding.encode(batch)), "edp")
        counted = np.argsort(true, kind="stable")[: max(2, round(best * mappings))]
        first, second = (np.argsort(np.argsort(values[counted], kind="stable")) for values in (true, predicted))
        correlations.append(np.corrcoef(first, second)[0, 1])
    return round(float(np.mean(correlations)), 4)


def accuracy_text(about: dict[str, Any]) -> str:
    """What a model says about its accuracy."""
    return (
        f"{about['samples']:,} samples in {about['seconds']:,.0f} s, rank correlation {about['rank_correlation']:.3f} "
        "with the true EDP of random mappings of unseen problems"
    )


def _make_optimizer(recipe: Recipe, network: torch.nn.Module) -> torch.optim.Optimizer:
    import torch

    if recipe.optimizer == "sgd":
        return torch.optim.SGD(network.parameters(), lr=recipe.learning_rate, momentum=0.9)
    return torch.optim.Adam(network.parameters(), lr=recipe.learning_rate)


def _normalisation(vectors: NDArray[np.float32], targets: NDArray[np.float32]) -> Normalisation:
    """Means and scales of inputs, means and standard deviations of targets."""
    std = vectors.std(axis=0, dtype=np.float64)
    scale = np.divide(1.0, std, out=np.zeros_like(std), where=std > 1e-6)
    target_std = np.maximum(targets.std(axis=0, dtype=np.float64), 1e-6)
    arrays = (vectors.mean(axis=0, dtype=np.float64), scale, targets.mean(axis=0, dtype=np.float64), target_std)
    return Normalisation(*(array.astype(np.float32) for array in arrays))
