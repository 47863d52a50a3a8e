"""Warm starts of searches: the mappings of solved layers, of a replay buffer or of an experiment's own earlier runs."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from mapgym.errors import SpecificationError, suggest
from mapgym.sparsity_aware import SparsityAware, is_sparsity_aware
from mapgym.warmstart import ReplayBuffer

PREVIOUS_LAYER, SIMILAR = "previous-layer", "similar"
WITHIN_EXPERIMENT = (PREVIOUS_LAYER, SIMILAR)
"""Warm starts from the results of runs before, of the same agent and seed on the same accelerator."""

NEIGHBOURS = 8
"""Solved layers whose mappings a search begins with, at most."""


@dataclass(frozen=True)
class WarmStart:
    """Where searches begin.

    Attributes:
        source: "previous-layer", "similar", or the path of a replay buffer.
        digest: SHA-256 of the replay buffer's file when the experiment was made, "" for the others: what is found
            depends on it.
    """

    source: str
    digest: str = ""

    @property
    def label(self) -> str:
        """What tables call it, such as "warm: similar"."""
        return f"warm: {Path(self.source).name if self.digest else self.source}"

    def buffer(self) -> ReplayBuffer:
        """The replay buffer; raises SpecificationError if it is not any more what it was."""
        found, digest = _opened(Path(self.source))
        if digest != self.digest:
            raise SpecificationError(
                f"the replay buffer {self.source!r} has changed since the experiment began; give the command again "
                "with another folder, or work on a copy of the buffer"
            )
        return found

    def config(self, before: list[str]) -> dict[str, Any]:
        """What results depend on, as plain JSON values.

        Args:
            before: names of the workloads of the runs that it begins from.
        """
        return {"source": "buffer", "sha256": self.digest} if self.digest else {"source": self.source, "before": before}


def objective_of_entries(objective: str) -> str:
    """The objective of the entries that a search begins from, in a replay buffer, which knows the plain ones only.

    For the front of energy and latency it is their product, for several densities what is averaged over them.
    """
    if is_sparsity_aware(objective):
        return SparsityAware.parse(objective).objective
    return "edp" if objective == "pareto" else objective


def read_warm_start(text: str, what: str = "--warm-start") -> WarmStart:
    """Reads what the user gave.

    Args:
        text: "previous-layer", "similar", or the path of a replay buffer.
        what: the option or key, for error messages.

    Raises:
        SpecificationError: there is no such buffer, it is empty, or no buffer.
    """
    if text in WITHIN_EXPERIMENT:
        return WarmStart(text)
    path = Path(text)
    if not path.is_file():
        raise SpecificationError(
            f"{what} is {text!r}, and there is no such replay buffer (make one with 'mapgym buffer add'); "
            f"{suggest(text, WITHIN_EXPERIMENT)}"
        )
    _opened.cache_clear()
    found, digest = _opened(path)
    if not len(found):
        lost = f", and {len(found.damaged)} damaged lines" if found.damaged else ""
        raise SpecificationError(
            f"{what}: the replay buffer {text!r} has no entries{lost}; add some with: mapgym buffer add {text} ..."
        )
    return WarmStart(text, digest)


@lru_cache(maxsize=1)
def _opened(path: Path) -> tuple[ReplayBuffer, str]:
    """The buffer and its digest; once per process, as every run of an experiment asks for it."""
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return ReplayBuffer(path), digest
