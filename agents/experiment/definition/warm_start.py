"""Warm starts of searches: mappings of solved layers, from a replay buffer or earlier runs, or those of a policy."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from mapgym.agents.base import missing_package
from mapgym.errors import SpecificationError, suggest
from mapgym.errors.text import quoted
from mapgym.evaluation.sparsity_aware import plain_objective
from mapgym.mapspace import MapSpace
from mapgym.spec.accelerator import Accelerator
from mapgym.warmstart import ReplayBuffer, Start, find_start

PREVIOUS_LAYER, SIMILAR = "previous-layer", "similar"
WITHIN_EXPERIMENT = (PREVIOUS_LAYER, SIMILAR)
"""Warm starts from the results of runs before, of the same agent and seed on the same accelerator."""

POLICY = "policy"
"""Warm start from what the trained policy of the agent ``amortized`` proposes."""

PROPOSALS = 64
"""How many mappings it proposes."""

NEIGHBOURS = 8
"""Solved layers whose mappings a search begins with, at most."""


@dataclass(frozen=True)
class WarmStart:
    """Where searches begin.

    Attributes:
        source: "previous-layer", "similar", "policy", or the path of a replay buffer.
        digest: SHA-256 of the entries of the replay buffer or of the file of the policy when the experiment was made,
            "" for the others: what is found depends on it.
    """

    source: str
    digest: str = ""

    @property
    def label(self) -> str:
        """What tables call it, such as "warm: similar"."""
        return f"warm: {Path(self.source).name if self.digest else self.source}"

    def begin(self, space: MapSpace, objective: str, seed: int, solved: ReplayBuffer | None = None) -> Start:
        """What a search begins with.

        Args:
            space, objective, seed: of the search.
            solved: what the experiment has found, for a warm start within it.

        Raises:
            SpecificationError: the replay buffer is not any more what it was, or the space is empty.
        """
        if self.source in WITHIN_EXPERIMENT:
            return find_start([] if solved is None else [solved], space, objective, count=NEIGHBOURS)
        if self.source == POLICY:
            from mapgym.agents.learned.amortized.proposals import propose

            proposals = propose(space, _plain(objective), np.random.default_rng(seed), PROPOSALS)
            return Start(proposals, (POLICY,), (), "")
        return find_start([self.buffer()], space, _plain(objective), count=NEIGHBOURS)

    def remark(self, accelerator: Accelerator) -> str:
        """A sentence for the user if what it begins from was made under other counting rules than a task has; or ""."""
        if self.source == POLICY:
            from mapgym.agents.learned.amortized.model import load_policy

            return load_policy().remark(accelerator)
        return self.buffer().remark(accelerator) if self.digest else ""

    def buffer(self) -> ReplayBuffer:
        """The replay buffer; raises SpecificationError if it is not any more what it was."""
        found = _opened(Path(self.source))
        if found.digest != self.digest:
            raise SpecificationError(
                f"the replay buffer {quoted(self.source)} has changed since the experiment began; give the command "
                "again with another folder, or work on a copy of the buffer"
            )
        return found

    def config(self, before: list[str]) -> dict[str, Any]:
        """What results depend on, as plain JSON values.

        Args:
            before: names of the workloads of the runs that it begins from.
        """
        if not self.digest:
            return {"source": self.source, "before": before}
        return {"source": POLICY if self.source == POLICY else "buffer", "sha256": self.digest}


def read_warm_start(text: str, what: str = "--warm-start", *, within_experiment: bool = True) -> WarmStart:
    """Reads what the user gave.

    Args:
        text: "previous-layer", "similar", "policy", or the path of a replay buffer.
        what: the option or key, for error messages.
        within_experiment: whether there are other layers to begin from; else error messages do not propose the first
            two.

    Raises:
        SpecificationError: there is no such buffer, it is empty, or no buffer; or a policy needs a package.
    """
    if text in WITHIN_EXPERIMENT:
        return WarmStart(text)
    if text == POLICY:
        return _policy(what)
    path = Path(text)
    if not path.is_file():
        names = (*WITHIN_EXPERIMENT, POLICY) if within_experiment else (POLICY,)
        raise SpecificationError(
            f"{what} is {quoted(text)}, and there is no such replay buffer (make one with 'mapgym buffer add'); "
            f"{suggest(text, names)}"
        )
    _opened.cache_clear()
    found = _opened(path)
    if not len(found):
        lost = f", and {len(found.damaged)} damaged lines" if found.damaged else ""
        raise SpecificationError(
            f"{what}: the replay buffer {quoted(text)} has no entries{lost}; add some with: mapgym buffer add {text} "
            "..."
        )
    return WarmStart(text, found.digest)


def _plain(objective: str) -> str:
    """The objective that a replay buffer or the policy is asked for: they know no others than the plain ones.

    For the front of energy and latency it is their product, for several densities what is averaged over them.
    """
    return "edp" if objective == "pareto" else plain_objective(objective)


def _policy(what: str) -> WarmStart:
    if missing := missing_package("amortized"):
        raise SpecificationError(f"{what} {POLICY}: {missing}")
    from mapgym.agents.learned.amortized.model import shipped_path

    return WarmStart(POLICY, hashlib.sha256(shipped_path().read_bytes()).hexdigest())


@lru_cache(maxsize=1)
def _opened(path: Path) -> ReplayBuffer:
    """The buffer; read once per process, as every run of an experiment asks for it."""
    return ReplayBuffer(path)
