"""Which runs beat the best mapping that is known, and joining them into the file of best known mappings."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from mapgym.agents.experiment.storage.results import RunResult
from mapgym.agents.labels import OBJECTIVE_UNITS, OPTIMAL_GAP
from mapgym.cost import OBJECTIVES, CostModel
from mapgym.errors.text import quoted
from mapgym.evaluation.best_known import CERTIFIED, GAP, BestKnown, best_known, key_of, read_file, write_file
from mapgym.mapping import Mapping
from mapgym.system.files import check_output_file
from mapgym.system.locks import alone_with

_ROUNDING = 1e-9
"""Share by which a value must be below another to count as lower."""


@dataclass(frozen=True)
class Improvements:
    """What runs say about the best known mappings.

    Attributes:
        better: entries for mappings that are better than the stored ones.
        new: entries for tasks of which nothing is stored.
        refutations: sentences about mappings that are better than what is proven to be possible; something is wrong.
    """

    better: tuple[BestKnown, ...]
    new: tuple[BestKnown, ...]
    refutations: tuple[str, ...]


def improvements(results: Iterable[RunResult]) -> Improvements:
    """Compares the best run of each task with what is stored; what would be an entry is priced anew.

    An entry has the lower bound that is stored, or the one of the cost model. Of objectives over several densities,
    which depend on the densities, nothing is stored.

    Raises:
        RuntimeError: a mapping is not what its result says.
    """
    best: dict[str, RunResult] = {}
    for result in results:
        if result.mapping is None or result.task.objective not in OBJECTIVES:
            continue
        key = key_of(result.task.space(), result.task.objective)
        if key is not None and (key not in best or result.ratio < best[key].ratio):
            best[key] = result
    better, new, refutations = [], [], []
    for key, result in best.items():
        stored = best_known(result.task.space(), result.task.objective)
        entry = _entry(key, result, stored)
        if stored is None:
            new.append(entry)
        elif entry.value < stored.lower_bound * (1.0 - _ROUNDING):
            refutations.append(
                f"{result.run.name}: {_with_unit(entry.value, stored)} is below the proven bound "
                f"{_with_unit(stored.lower_bound, stored)}, so that the bound or the cost is wrong; please report this"
            )
        elif not stored.certified and entry.value < stored.value * (1.0 - _ROUNDING):
            better.append(entry)
    return Improvements(tuple(better), tuple(new), tuple(refutations))


def _with_unit(value: float, entry: BestKnown) -> str:
    """A value of an entry with its unit."""
    return f"{quoted(value)} {OBJECTIVE_UNITS[entry.objective]}"


def check_known_file(path: Path) -> None:
    """Makes sure, before the work begins, that :func:`join` can join what it finds into a file.

    Raises:
        SpecificationError: the file cannot be written, is damaged, or is something else; it stays as it is.
    """
    check_output_file(path)
    if path.exists():
        read_file(path)


def join(path: Path, entries: Iterable[BestKnown]) -> int:
    """Joins entries into a file of best known mappings and replaces it atomically.

    An entry gives way only to one that says more: a lower value, or a higher bound for the same value. What another
    process joins at the same time is kept.

    Args:
        path: the file; it is made if it is missing.
        entries: what to join.

    Returns:
        Number of entries that are new or better.

    Raises:
        SpecificationError: the file cannot be written, is damaged, or is something else; it stays as it is.
    """
    entries = list(entries)
    changed = 0
    with alone_with(path):
        known = {entry.key: entry for entry in read_file(path)} if path.exists() else {}
        for entry in entries:
            old = known.get(entry.key)
            if old is None or _says_more(entry, old):
                known[entry.key] = entry
                changed += 1
        write_file(path, known.values())
    return changed


def _says_more(new: BestKnown, old: BestKnown) -> bool:
    if new.certified != old.certified:
        return new.certified
    return not new.certified and (new.value, -new.lower_bound) < (old.value, -old.lower_bound)


def _entry(key: str, result: RunResult, stored: BestKnown | None) -> BestKnown:
    """The best mapping of a run as an entry."""
    task = result.task
    assert result.mapping is not None  # looked at by the caller
    mapping = Mapping.from_dict(result.mapping, task.workload, task.accelerator)
    value = float(CostModel(task.workload, task.accelerator).evaluate(mapping).objective(task.objective))
    if not task.space().contains(mapping) or value != result.best_value:
        raise RuntimeError(
            f"{result.run.name}: the mapping costs {quoted(value)}, its result says {quoted(result.best_value)}"
        )
    bound = result.lower_bound if stored is None else max(stored.lower_bound, result.lower_bound)
    return BestKnown(
        key=key,
        workload=task.workload.name,
        accelerator=task.accelerator.name,
        peer_links=task.accelerator.peer_links,
        rules=task.accelerator.rules,
        axes=task.axes,
        objective=task.objective,
        value=value,
        lower_bound=min(bound, value),
        status=CERTIFIED if value <= bound * (1.0 + OPTIMAL_GAP) else GAP,
        mapping=result.mapping,
        command=result.command,
    )
