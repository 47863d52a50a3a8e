"""The amortized policy: a small network that scores the legal choices of a decision, and its file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mapgym.agents.learned.amortized.episodes_kernels import CHOICE_FEATURES, STATE_FEATURES
from mapgym.agents.learned.stored_arrays import (
    SHIPPED,
    check_finite,
    read_arrays,
    reading,
    rules_remark,
    write_arrays,
)
from mapgym.errors import SpecificationError, suggest
from mapgym.errors.text import quoted
from mapgym.spec.accelerator import Accelerator
from mapgym.spec.rules import stored_rules

if TYPE_CHECKING:
    import torch

HIDDEN, NARROW = 128, 64
MODEL = "model.safetensors"
DEFAULT_MODEL = "standard"
_PREFIX, _SUFFIX = "amortized_", ".safetensors"


@dataclass(frozen=True)
class Policy:
    """A network and where it comes from.

    Attributes:
        network: see :func:`make_network`.
        about: what the file says about itself: command, recipe, scores.
        path: of the file, if it is from one.
    """

    network: torch.nn.Module
    about: dict[str, Any] = field(default_factory=dict)
    path: Path | None = None

    def score(
        self, decisions: NDArray[np.float32], options: NDArray[np.float32], counts: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        """Logits of the legal choices.

        Args:
            decisions: float32[n, STATE_FEATURES].
            options: float32[m, CHOICE_FEATURES], the legal choices of the decisions, in their order.
            counts: int64[n], how many each decision has.

        Returns:
            float32[m].
        """
        import torch

        device = next(self.network.parameters()).device
        with torch.inference_mode():
            inputs = (torch.from_numpy(array).to(device) for array in (decisions, options, counts))
            logits: NDArray[np.float32] = self.network(*inputs).cpu().numpy()
        if not np.isfinite(logits).all():
            raise SpecificationError(
                f"the policy of the agent 'amortized'{self._where()} has diverged: its answers are no finite numbers; "
                "train it anew with 'mapgym train amortized'"
            )
        return logits

    def _where(self) -> str:
        return "" if self.path is None else f" in {quoted(self.path)}"

    def remark(self, accelerator: Accelerator) -> str:
        """A sentence about it having been trained under other counting rules than a task has; "" if it was not.

        It can be used all the same: its proposals are priced under the rules of the task.
        """
        return rules_remark(f"the policy of the agent 'amortized'{self._where()}", self.about, accelerator)

    def save(self, path: Path) -> None:
        """Writes the file, atomically; weights as float16, which changes a logit by about a thousandth."""
        arrays = {name: value.cpu().numpy().astype(np.float16) for name, value in self.network.state_dict().items()}
        write_arrays(path, arrays, self.about)


def make_network() -> torch.nn.Module:
    """A perceptron that looks at a decision and at one of its choices; ``forward`` is :meth:`Policy.score` on tensors.

    What it makes of the decision is computed once and added to what it makes of each choice.
    """
    import torch

    class Network(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.decision_in = torch.nn.Linear(STATE_FEATURES, HIDDEN)
            self.decision_out = torch.nn.Linear(HIDDEN, HIDDEN)
            self.option_in = torch.nn.Linear(CHOICE_FEATURES, HIDDEN, bias=False)
            self.score_in = torch.nn.Linear(HIDDEN, NARROW)
            self.score_out = torch.nn.Linear(NARROW, 1, bias=False)
            # All choices are alike at first: training begins with the masked random policy.
            torch.nn.init.zeros_(self.score_out.weight)

        def forward(self, decisions: torch.Tensor, options: torch.Tensor, counts: torch.Tensor) -> torch.Tensor:
            hidden = self.decision_out(torch.relu(self.decision_in(decisions)))
            hidden = torch.relu(self.option_in(options) + hidden.repeat_interleave(counts, dim=0))
            scores: torch.Tensor = self.score_out(torch.relu(self.score_in(hidden))).squeeze(-1)
            return scores

    return Network()


@contextmanager
def one_thread() -> Iterator[None]:
    """Keeps torch on one thread: more do not help such small matrices, and hurt on a machine that is busy.

    One thread also adds up in one order, so that the same seed gives the same result.
    """
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def shipped_models() -> list[str]:
    """Names of the policies that come with the package."""
    return sorted(path.name[len(_PREFIX) : -len(_SUFFIX)] for path in SHIPPED.glob(f"{_PREFIX}*{_SUFFIX}"))


def shipped_path(model: str = DEFAULT_MODEL) -> Path:
    """The file of a policy that comes with the package."""
    return SHIPPED / f"{_PREFIX}{model}{_SUFFIX}"


@cache
def shipped_rules() -> str:
    """The counting rules under which the standard policy was trained."""
    return stored_rules(read_arrays(shipped_path())[1])


def find_policy(model: str) -> Path:
    """The file of a policy; takes and raises what :func:`load_policy` does, but does not look into the file."""
    if model in shipped_models():
        return shipped_path(model)
    path = Path(model)
    if path.is_dir():
        path = path / MODEL
    if not path.is_file():
        raise SpecificationError(
            f"there is no policy {quoted(model)}; give the folder of a 'mapgym train amortized' or a shipped name: "
            f"{suggest(model, shipped_models())}"
        )
    return path


def load_policy(model: str = DEFAULT_MODEL) -> Policy:
    """Loads a policy.

    Args:
        model: name of a shipped one, a file, or the folder of a training.

    Raises:
        SpecificationError: there is none, or the file holds something else.
    """
    path = find_policy(model)
    return _load_once(path) if path.parent == SHIPPED else _load(path)


@cache
def _load_once(path: Path) -> Policy:
    return _load(path)


def _load(path: Path) -> Policy:
    import torch

    arrays, about = read_arrays(path)
    network = make_network()
    with reading(path, "policy of the agent 'amortized'"):
        network.load_state_dict({name: torch.from_numpy(array.astype(np.float32)) for name, array in arrays.items()})
    check_finite(path, arrays)
    network.requires_grad_(False)
    return Policy(network, about, path)
