"""Arrays on disk with a description, and what checkpoints of trainings make of them.

A file is one safetensors file, which cannot execute code: the arrays, and a JSON text about them in its header.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mapgym.errors import SpecificationError
from mapgym.files import replacing
from mapgym.text import quoted

if TYPE_CHECKING:
    import torch

SHIPPED = Path(__file__).parent / "weights"
_HEADER_KEY = "mapgym"


def write_arrays(path: Path, arrays: Mapping[str, NDArray[Any]], about: Mapping[str, Any]) -> None:
    """Writes arrays and a JSON-able description into one safetensors file, atomically."""
    from safetensors.numpy import save_file

    with replacing(path) as temporary:
        contiguous = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
        save_file(contiguous, temporary, metadata={_HEADER_KEY: json.dumps(about, allow_nan=False)})


def read_arrays(path: Path) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Reads what :func:`write_arrays` wrote; raises SpecificationError for a damaged or foreign file."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            about = json.loads((file.metadata() or {})[_HEADER_KEY])
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
    except (SafetensorError, KeyError, ValueError):
        about = None
    if not isinstance(about, dict):
        raise SpecificationError(f"{quoted(path)} is damaged, or was not written by mapgym; remove it and train anew")
    return arrays, about


def part(arrays: Mapping[str, NDArray[Any]], name: str) -> dict[str, NDArray[Any]]:
    """The arrays whose names begin with ``name`` and a dot, without that."""
    return {key.removeprefix(f"{name}."): array for key, array in arrays.items() if key.startswith(f"{name}.")}


def optimizer_arrays(optimizer: torch.optim.Optimizer) -> dict[str, NDArray[Any]]:
    """What an optimiser remembers of each parameter, as the part "optimizer"."""
    states = optimizer.state_dict()["state"].items()
    return {
        f"optimizer.{index}.{name}": value.cpu().numpy() for index, state in states for name, value in state.items()
    }


def fill_optimizer(optimizer: torch.optim.Optimizer, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Gives an optimiser the part "optimizer"."""
    import torch

    state: dict[int, dict[str, torch.Tensor]] = {}
    for name, array in part(arrays, "optimizer").items():
        index, _, entry = name.partition(".")
        state.setdefault(int(index), {})[entry] = torch.from_numpy(array)
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})


def training_arrays(network: torch.nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, NDArray[Any]]:
    """The parameters of a network as the part "network", and the part "optimizer"."""
    parameters = {f"network.{name}": value.cpu().numpy() for name, value in network.state_dict().items()}
    return {**parameters, **optimizer_arrays(optimizer)}


def fill_training(
    network: torch.nn.Module, optimizer: torch.optim.Optimizer, arrays: Mapping[str, NDArray[Any]]
) -> None:
    """Gives a network and its optimiser what :func:`training_arrays` has made of them."""
    import torch

    network.load_state_dict({name: torch.from_numpy(array) for name, array in part(arrays, "network").items()})
    fill_optimizer(optimizer, arrays)


def check_same_training(
    folder: Path, stored: Mapping[str, Any], wanted: Mapping[str, Any], another: str = "another"
) -> None:
    """Raises SpecificationError if a checkpoint is that of a training with other options.

    Args:
        folder: of the training.
        stored: the description of the checkpoint.
        wanted: what has to be in it.
        another: how the message says so of the first that differs.
    """
    for key, ours in wanted.items():
        if stored.get(key) != ours:
            raise SpecificationError(
                f"{quoted(folder)} holds a training with {another} {key}; give the options that it was begun "
                "with, or "
                "another folder with -o"
            )
