"""The surrogate of Mind Mappings: a multilayer perceptron from the vector of a mapping to its costs, and its file.

A file holds weights and normalisation, see :mod:`mapgym.agents.learned.stored_arrays`.
"""

from __future__ import annotations

import itertools
import operator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mapgym.agents.learned.mind_mappings.encoding import vector_width
from mapgym.agents.learned.stored_arrays import SHIPPED, check_finite, part, read_arrays, reading, write_arrays
from mapgym.errors import SpecificationError, suggest
from mapgym.errors.text import quoted
from mapgym.spec.rules import stored_rules

if TYPE_CHECKING:
    import torch

_PREFIX, _SUFFIX = "mind_mappings_", ".safetensors"
LOSSES = ("objective", "outputs")
"""What a search descends: the predicted objective, or the sum of all outputs, as the released code does."""


class Normalisation(NamedTuple):
    """Shifts and scales that give inputs and targets mean 0 and variance 1.

    Attributes:
        input_mean, input_scale: float32[width]; a scale of 0 hides an entry that never varied in training.
        target_mean, target_std: float32[targets], of the logarithms of costs over their lower bounds.
    """

    input_mean: NDArray[np.float32]
    input_scale: NDArray[np.float32]
    target_mean: NDArray[np.float32]
    target_std: NDArray[np.float32]

    def check(self, levels: int) -> None:
        """Raises ValueError unless the arrays have the lengths for accelerators of so many levels."""
        if [array.shape for array in self] != [(vector_width(levels),)] * 2 + [(3 * levels + 3,)] * 2:
            raise ValueError("a normalisation of other lengths")

    def inputs(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """What the network sees of vectors."""
        return (vectors - self.input_mean) * self.input_scale

    def targets(self, targets: NDArray[np.float32]) -> NDArray[np.float32]:
        """What the network is to answer."""
        return (targets - self.target_mean) / self.target_std


@dataclass
class Surrogate:
    """A network with its normalisation.

    Attributes:
        network: from normalised vectors to normalised targets.
        levels: storage levels of the accelerator that it was trained for.
        norm: the normalisation.
        about: what the file says about itself: command, accelerator, recipe, accuracy.
    """

    network: torch.nn.Sequential
    levels: int
    norm: Normalisation
    about: dict[str, Any]

    @property
    def rules(self) -> str:
        """The counting rules of the costs that it learned to predict."""
        return stored_rules(self.about)

    def predict(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """float32[n, targets]: ln of predicted costs over their lower bounds."""
        import torch

        with torch.inference_mode():
            outputs = self.network(torch.from_numpy(self.norm.inputs(vectors))).numpy()
        with np.errstate(over="ignore"):
            predicted = np.asarray(outputs * self.norm.target_std + self.norm.target_mean)
        if not np.isfinite(predicted).all():
            raise SpecificationError(
                "the model of the agent 'mind-mappings' has diverged: its answers are no numbers; train it anew with "
                "'mapgym train mind-mappings', or search with a lower learning_rate"
            )
        return predicted

    def descent(self, vectors: NDArray[np.float32], objective: str, loss: str) -> NDArray[np.float32]:
        """Where the loss falls: a unit step against its gradient, taken between normalised vectors.

        Args:
            vectors: float32[n, width].
            objective: edp, energy or latency.
            loss: one of ``LOSSES``.

        Returns:
            float32[n, width] steps, in the units of the vectors.
        """
        import torch

        inputs = torch.from_numpy(self.norm.inputs(vectors)).requires_grad_()
        outputs = self.network(inputs)
        weights = np.ones_like(self.norm.target_std)
        if loss == "objective":
            weights = _output_weights(objective, len(weights)) * self.norm.target_std
        (gradient,) = torch.autograd.grad((outputs @ torch.from_numpy(weights)).sum(), inputs)
        scale = self.norm.input_scale
        units = np.divide(1.0, scale, out=np.zeros_like(scale), where=scale > 0)
        return np.asarray(-gradient.numpy() * units)

    def objective(self, predictions: NDArray[np.float32], objective: str) -> NDArray[np.float32]:
        """float32[n]: ln of an objective over its bound, from the output of :meth:`predict`."""
        return predictions @ _output_weights(objective, predictions.shape[1])

    def save(self, path: Path) -> None:
        """Writes the model, weights as float16, atomically."""
        arrays: dict[str, NDArray[Any]] = self.norm._asdict()
        for name, tensor in self.network.state_dict().items():
            arrays[f"network.{name}"] = tensor.cpu().numpy().astype(np.float16)
        write_arrays(path, arrays, {"levels": self.levels, **self.about})


def make_network(widths: list[int]) -> torch.nn.Sequential:
    """A perceptron with ReLU between its layers.

    Args:
        widths: of the input, the hidden layers and the output.
    """
    import torch

    parts: list[torch.nn.Module] = []
    for before, after in itertools.pairwise(widths):
        parts += [torch.nn.Linear(before, after), torch.nn.ReLU()]
    return torch.nn.Sequential(*parts[:-1])


def shipped_models() -> list[str]:
    """Names of the models that come with the package."""
    return sorted(path.name[len(_PREFIX) : -len(_SUFFIX)] for path in SHIPPED.glob(f"{_PREFIX}*{_SUFFIX}"))


def shipped_rules() -> str:
    """The counting rules under which the shipped models were trained."""
    found = (read_arrays(SHIPPED / f"{_PREFIX}{model}{_SUFFIX}")[1] for model in shipped_models())
    return ", ".join(dict.fromkeys(map(stored_rules, found)))


def load_surrogate(model: str) -> Surrogate:
    """Loads a model.

    Args:
        model: name of a shipped one, a file, or the folder of a training.

    Raises:
        SpecificationError: there is none, or the file is not a model.
    """
    import torch

    path = SHIPPED / f"{_PREFIX}{model}{_SUFFIX}" if model in shipped_models() else Path(model)
    if path.is_dir():
        path = path / "model.safetensors"
    if not path.is_file():
        raise SpecificationError(
            f"there is no model {quoted(model)}; give the folder of a 'mapgym train mind-mappings' or a shipped name: "
            f"{suggest(model, shipped_models())}"
        )
    arrays, about = read_arrays(path)
    with reading(path, "model of mind-mappings"):
        levels = operator.index(about.pop("levels"))
        weights = {name: torch.from_numpy(a.astype(np.float32)) for name, a in part(arrays, "network").items()}
        matrices = [weights[f"{2 * layer}.weight"] for layer in range(len(weights) // 2)]
        if any(0 in matrix.shape for matrix in matrices):
            raise ValueError("an empty layer")
        network = make_network([matrices[0].shape[1], *(matrix.shape[0] for matrix in matrices)])
        network.load_state_dict(weights)
        norm = Normalisation(*(arrays[name].astype(np.float32) for name in Normalisation._fields))
        norm.check(levels)
        if (matrices[0].shape[1], matrices[-1].shape[0]) != (len(norm.input_mean), len(norm.target_mean)):
            raise ValueError("a network of other sizes")
    check_finite(path, arrays)
    network.requires_grad_(False)
    return Surrogate(network, levels, norm, about)


def _output_weights(objective: str, targets: int) -> NDArray[np.float32]:
    """Which outputs add up to the logarithm of an objective; the last two are energy and latency."""
    weights = np.zeros(targets, np.float32)
    weights[-2] = objective in ("edp", "energy")
    weights[-1] = objective in ("edp", "latency")
    return weights
