"""Folders of results: which files belong together, and what each of them has."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping as AbcMapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mapgym.errors import SpecificationError
from mapgym.system.input_file import read_text
from mapgym.timeloop.reading.documents import read_documents
from mapgym.timeloop.reading.loops import looks_like_nest
from mapgym.timeloop.results.stats import looks_like_stats

_STATS = re.compile(r"(?i)(?P<run>.*?)[._-]?stats(?:\.txt|\.out)?$")
_YAML = (".yaml", ".yml", ".json")
_KEYS = ("ERT", "problem", "mapping", "sparse_optimizations", "architecture")
_MOST_FILES, _DEEPEST = 20_000, 12


@dataclass
class Document:
    """What a file has under one of Timeloop's keys."""

    data: Any
    file: Path


@dataclass
class Case:
    """The files of one evaluation.

    Attributes:
        name: the folder and, if it holds several evaluations, the run.
        stats: ``*.stats.txt``.
        nest: ``*.map.txt``, if there is one.
        documents: by Timeloop's key.
        notes: files that were not read, and why; sentences.
    """

    name: str
    stats: Path
    nest: Path | None = None
    documents: dict[str, Document] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def document(self, key: str) -> tuple[Any, str]:
        """What there is under a key, and the file for messages; (None, "") if nothing."""
        found = self.documents.get(key)
        return (None, "") if found is None else (found.data, str(found.file))


def is_results(path: Path) -> bool:
    """Whether a path leads to results rather than to records of runs: a folder, or what begins as ``*.stats.txt``."""
    return path.is_dir() or (path.is_file() and _begins_as(path, looks_like_stats))


def find_cases(path: Path) -> list[Case]:
    """The evaluations in a folder and the folders within.

    Args:
        path: the folder, or one ``*.stats.txt``.

    Raises:
        SpecificationError: there is none.
    """
    if path.is_file():
        return [_case(path, path.parent, _files(path.parent), several=True)]
    if not path.is_dir():
        raise SpecificationError(f"{path}: there is no such folder; check the path")
    cases: list[Case] = []
    files_of: dict[Path, list[Path]] = {}
    seen = 0
    for folder in _folders(path, 0):
        files = files_of[folder] = _files(folder)
        seen += len(files)
        if seen > _MOST_FILES:
            raise SpecificationError(f"{path}: has more than {_MOST_FILES:,} files; give a smaller folder")
        stats = [file for file in files if _STATS.match(file.name) and _begins_as(file, looks_like_stats)]
        found = [_case(file, folder, files, several=len(stats) > 1) for file in stats]
        around = [files_of[each] for each in folder.parents if each in files_of]
        for case in found:
            _add_from_around(case, around)
        cases += found
    if not cases:
        raise SpecificationError(
            f"{path}: holds no results of Timeloop; give a folder with a file that ends in stats.txt, beside which its "
            "map.txt and, where there are such, ERT.yaml and the processed input lie"
        )
    return cases


def _folders(path: Path, depth: int) -> Iterator[Path]:
    yield path
    if depth < _DEEPEST:
        for entry in sorted(path.iterdir()):
            if entry.is_dir() and not entry.is_symlink() and not entry.name.startswith("."):
                yield from _folders(entry, depth + 1)


def _files(folder: Path) -> list[Path]:
    return sorted(entry for entry in folder.iterdir() if entry.is_file() and not entry.name.startswith("."))


def _run(stats: Path) -> str:
    """What the names of the files of an evaluation begin with, such as "timeloop-mapper"."""
    match = _STATS.match(stats.name)
    return match["run"] if match else stats.stem


def _case(stats: Path, folder: Path, files: Iterable[Path], *, several: bool) -> Case:
    run = _run(stats)
    case = Case(f"{folder.name}/{run}" if several else folder.name, stats)
    others = {_run(file) for file in files if _STATS.match(file.name)} - {run}
    for file in _own_first(files, run, others):
        if file.suffix.lower() in _YAML:
            _add_documents(case, file)
        elif case.nest is None and file.name.endswith("map.txt") and _begins_as(file, looks_like_nest):
            case.nest = file
    return case


def _own_first(files: Iterable[Path], run: str, others: set[str]) -> list[Path]:
    """The files of an evaluation: those that begin with its name, then those of none."""

    def owner(name: str) -> str:
        runs = [each for each in {run, *others} if each and re.match(re.escape(each) + r"[._-]", name)]
        return max(runs, key=len, default="")

    files = list(files)
    own = [file for file in files if run and owner(file.name) == run]
    return own + [file for file in files if owner(file.name) == ""]


def _add_documents(case: Case, file: Path) -> None:
    try:
        documents = read_documents(file)
    except SpecificationError as error:
        if not re.search(r"holds \w+ at its top", str(error)):  # a file of another kind
            case.notes.append(f"not read: {error}")
        return
    for section in documents.every(*_KEYS):
        key, found = section.name, section.value
        is_flat = key == "architecture" and isinstance(found, AbcMapping) and "local" in found
        if found and (key not in case.documents or (is_flat and not _is_flat(case))):
            case.documents[key] = Document(found, file)


def _add_from_around(case: Case, around: Iterable[Iterable[Path]]) -> None:
    """Takes what is missing from the folders around, the nearest first, where one file only has it."""
    for files in around:
        if len(case.documents) == len(_KEYS):
            return
        others: dict[str, list[Document]] = {}
        for file in files:
            if file.suffix.lower() in _YAML:
                near = Case(case.name, case.stats)
                _add_documents(near, file)
                for key, document in near.documents.items():
                    others.setdefault(key, []).append(document)
        for key, documents in others.items():
            if len(documents) == 1:
                case.documents.setdefault(key, documents[0])


def _is_flat(case: Case) -> bool:
    data, _ = case.document("architecture")
    return isinstance(data, AbcMapping) and "local" in data


def add_file(case: Case, key: str, file: Path) -> None:
    """Takes a file that the user has named for one of the keys, instead of what the folder has.

    Raises:
        SpecificationError: it cannot be read, or does not have the key.
    """
    if key == "mapping" and file.suffix.lower() not in _YAML:
        case.nest = file
        case.documents.pop("mapping", None)
        return
    section = read_documents(file).one(key)
    if section is None:
        raise SpecificationError(f"{file}: has no key {key!r}; give Timeloop's file with it")
    case.documents[key] = Document(section.value, file)


def _begins_as(file: Path, test: Any) -> bool:
    try:
        with file.open("rb") as stream:
            return bool(test(stream.read(4000).decode("utf-8", "replace")))
    except OSError:
        return False


def read_nest_text(case: Case) -> str | None:
    """The text of the printed nest; None if there is none."""
    return None if case.nest is None else read_text(case.nest, "what Timeloop writes as *.map.txt")
