"""Where a warm search begins: the nearest entries of replay buffers, transferred, and an account of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mapgym.errors import SpecificationError
from mapgym.errors.text import quoted
from mapgym.mapping import MappingBatch
from mapgym.mapspace import MapSpace
from mapgym.warmstart.buffer import ReplayBuffer
from mapgym.warmstart.similarity import Similarity, log_ratio_distance
from mapgym.warmstart.transfer import transfer


@dataclass(frozen=True)
class Start:
    """Mappings that a search begins with.

    Attributes:
        mappings: n mappings of its space, that of the most similar workload first; none for a random start.
        sources: names of the n workloads that they come from.
        failures: about each entry that could not be transferred, a sentence.
        why_random: why there are no mappings, "" if there are some.
    """

    mappings: MappingBatch
    sources: tuple[str, ...]
    failures: tuple[str, ...]
    why_random: str

    def account(self) -> dict[str, Any]:
        """Everything but the mappings, as plain JSON values."""
        return {"sources": [*self.sources], "failures": [*self.failures], "why_random": self.why_random}


def find_start(
    buffers: Sequence[ReplayBuffer],
    space: MapSpace,
    objective: str = "edp",
    *,
    count: int = 1,
    similarity: Similarity = log_ratio_distance,
) -> Start:
    """Transfers the entries that are most like the workload of a space.

    Args:
        buffers: where to look; the nearest of all of them together are taken.
        space: what is searched.
        objective: of the search.
        count: entries at most.
        similarity: distance between workloads, see :mod:`mapgym.warmstart.similarity`.
    """
    near = [
        neighbor
        for buffer in buffers
        for neighbor in buffer.nearest(space.workload, space.accelerator, objective, count=count, similarity=similarity)
    ]
    near.sort(key=lambda neighbor: neighbor.place)
    batches = [MappingBatch.trivial(space.workload, space.accelerator, 0)]
    sources: list[str] = []
    failures: list[str] = []
    for neighbor in near[:count]:
        source = neighbor.entry.workload
        try:
            batches.append(transfer(neighbor.entry.mapping, source, space).batch())
            sources.append(source.name)
        except SpecificationError as error:
            failures.append(str(error))
    why = "" if sources else failures[0] if failures else _why_nothing_is_near(buffers, space, objective)
    return Start(MappingBatch.concatenate(batches), tuple(sources), tuple(failures), why)


def _why_nothing_is_near(buffers: Sequence[ReplayBuffer], space: MapSpace, objective: str) -> str:
    kinds = set().union(*(buffer.kinds for buffer in buffers))
    if not kinds:
        return "no layer has been solved yet"
    levels = sorted({count for of, count in kinds if of == objective})
    if not levels:
        known = ", ".join(sorted({of for of, _ in kinds}))
        return f"no solved layer is about the objective {objective}, only about {known}"
    return (
        f"the mappings of the solved layers are onto {' or '.join(map(str, levels))} storage levels, accelerator "
        f"{quoted(space.accelerator.name)} has {len(space.accelerator.levels)}"
    )
