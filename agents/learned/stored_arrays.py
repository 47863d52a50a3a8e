"""Arrays on disk with a description, and what checkpoints of trainings make of them.

A file is one safetensors file, which cannot execute code: the arrays, and in its header a JSON text about them and a
digest of text and arrays. What is read is therefore what was written.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mapgym.errors import SpecificationError
from mapgym.errors.text import quoted
from mapgym.spec.accelerator import Accelerator
from mapgym.spec.rules import stored_rules
from mapgym.system.files import write_bytes

if TYPE_CHECKING:
    import torch

SHIPPED = Path(__file__).parent / "weights"
_SEALED, _UNSEALED = "mapgym-sealed", "mapgym"
"""What the text is called in the header: with a digest before it, and as it was before there were digests."""


def write_arrays(path: Path, arrays: Mapping[str, NDArray[Any]], about: Mapping[str, Any]) -> None:
    """Writes arrays and a JSON-able description into one safetensors file, atomically; what was there stays until then.

    Raises:
        SpecificationError: it cannot be written.
    """
    from safetensors.numpy import save

    contiguous = {name: np.asarray(array, order="C") for name, array in arrays.items()}
    text = json.dumps(about, allow_nan=False)
    # In one entry: the order of several is left to chance.
    data = save(contiguous, metadata={_SEALED: f"{_digest(text, contiguous)} {text}"})
    write_bytes(path, data)


def read_arrays(path: Path) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Reads what :func:`write_arrays` wrote.

    Files that were written before there were digests are taken without one.

    Raises:
        SpecificationError: the file is damaged, cannot be read, or is not ours.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            ((name, text),) = (file.metadata() or {}).items()
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
        if name == _SEALED:
            digest, _, text = text.partition(" ")
            is_whole = digest == _digest(text, arrays)
        else:
            is_whole = name == _UNSEALED
        about = json.loads(text) if is_whole else None
    except OSError as error:
        raise SpecificationError(
            f"cannot read {quoted(path)} ({(error.strerror or type(error).__name__).lower()}); check its permissions"
        ) from None
    except (SafetensorError, ValueError, TypeError, AttributeError, RecursionError, MemoryError):
        about = None
    if not isinstance(about, dict):
        raise SpecificationError(f"{quoted(path)} is damaged, or was not written by mapgym; remove it and train anew")
    return arrays, about


def _digest(text: str, arrays: Mapping[str, NDArray[Any]]) -> str:
    digest = hashlib.sha256(text.encode())
    for name, array in sorted(arrays.items()):
        digest.update(f"\n{name} {array.dtype.str} {array.shape}\n".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


@contextmanager
def reading(path: Path, what: str) -> Iterator[None]:
    """Says in one sentence that a file, sound as it is, does not hold what the block looks for in it.

    Args:
        path: the file.
        what: it should be, such as "checkpoint of agent 'ppo'".

    Raises:
        SpecificationError: the block finds a key missing, of another kind, or of other sizes.
    """
    try:
        yield
    except (KeyError, IndexError, TypeError, ValueError, AttributeError, RuntimeError, OverflowError) as error:
        reason = f" ({error})" if isinstance(error, SpecificationError) else ""
        raise SpecificationError(
            f"{quoted(path)} is no {what}, or one of another version{reason}; remove it and train it anew"
        ) from error


def check_finite(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Raises SpecificationError if an array of a file holds something that is no finite number."""
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            raise SpecificationError(
                f"{quoted(path)} holds weights that are no finite numbers (in {quoted(name)}), as a training that "
                "diverges leaves them; train it anew, with a lower learning rate"
            )


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
    shapes = [tuple(parameter.shape) for group in optimizer.param_groups for parameter in group["params"]]
    for name, array in part(arrays, "optimizer").items():
        index, _, entry = name.partition(".")
        if array.size != 1 and array.shape != shapes[int(index)]:
            raise ValueError(f"{name} has the shape {array.shape}")
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


def rules_remark(what: str, about: Mapping[str, Any], accelerator: Accelerator) -> str:
    """A sentence about a policy having been trained under other counting rules than a task has; empty if it was not.

    Args:
        what: it is, such as "the policy 'standard'".
        about: its description.
        accelerator: of the task.
    """
    if (trained := stored_rules(about)) == accelerator.rules:
        return ""
    return (
        f"{what} was trained under {trained}, this task counts as {accelerator.rules}; what it proposes is priced as "
        f"{accelerator.rules}, and 'mapgym train' trains one that aims at that"
    )


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
    if (theirs := stored_rules(stored)) != (ours := wanted["rules"]):
        raise SpecificationError(
            f"{quoted(folder)} holds a training under {theirs}, this one counts as {ours}; give --rules {theirs}, or "
            "another folder with -o"
        )
    stored = {**stored, "rules": theirs}
    if isinstance(machine := stored.get("accelerator"), dict):
        stored["accelerator"] = {**machine, "rules": stored_rules(machine)}
    for key, ours in wanted.items():
        if stored.get(key) != ours:
            raise SpecificationError(
                f"{quoted(folder)} holds a training with {another} {key}; give the options that it was begun with, or "
                "another folder with -o"
            )
