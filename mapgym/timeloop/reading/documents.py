"""Files for Timeloop, read and put together: any number of them, with what they include, by their sections.

Timeloop takes any number of YAML files and looks at the keys at their top (``architecture``, ``problem``, ``mapping``
...). Those of v0.4 are written for a Python front end: they carry tags (``!Component``), merge mappings deeply
(``<<<``), include each other and are Jinja2 templates. docs/timeloop.md says what of that is read.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from mapgym.errors import SpecificationError
from mapgym.errors.text import quoted
from mapgym.system.input_file import read_text
from mapgym.system.yaml_loader import PlainLoader, parse_yaml, wrong_yaml
from mapgym.timeloop.reading.known_files import KNOWN_FILES
from mapgym.timeloop.reading.templates import is_template, render

SECTIONS = {
    "arch": "architecture",
    "architecture": "architecture",
    "compound_components": "components",
    "components": "components",
    "primitive_components": "components",
    "variables": "variables",
    "problem": "problem",
    "mapping": "mapping",
    "constraints": "constraints",
    "architecture_constraints": "architecture_constraints",
    "arch_constraints": "architecture_constraints",
    "mapspace_constraints": "mapspace_constraints",
    "mapspace": "mapspace",
    "sparse_optimizations": "sparse_optimizations",
    "ERT": "ERT",
    "ART": "ART",
    "mapper": "mapper",
    "globals": "globals",
}
"""Keys at the top of files, with underscores -> what they are called here."""

ENDINGS = (".yaml", ".yml", ".json", ".jinja", ".jinja2", ".j2", ".cfg")
"""Of files that are read."""

_IN_FOLDERS = (".yaml", ".yml")
_MOST_FILES, _MOST_INCLUDES, _DEEPEST_INCLUDE = 2000, 500, 20
_LOADED = "!mapgym-loaded"
_DEEP = "<<<"


class Table(dict[str, Any]):
    """A mapping that knows its file and its tag, such as ``!Component`` ("" for none). Keys are text."""

    def __init__(
        self, entries: Mapping[str, Any] | Iterable[tuple[str, Any]] = (), file: str = "", tag: str = ""
    ) -> None:
        super().__init__(entries)
        self.file, self.tag = file, tag


class Rows(list[Any]):
    """A list that knows its file and its tag."""

    def __init__(self, entries: Iterable[Any] = (), file: str = "", tag: str = "") -> None:
        super().__init__(entries)
        self.file, self.tag = file, tag


def file_of(value: object, otherwise: str = "") -> str:
    """The file that a mapping or a list was read from."""
    return value.file or otherwise if isinstance(value, Table | Rows) else otherwise


def tag_of(value: object) -> str:
    """The tag of a mapping or a list, such as ``!Container``; "" for none."""
    return value.tag if isinstance(value, Table | Rows) else ""


@dataclass(frozen=True)
class Ignored:
    """Something that was read and has no effect.

    Attributes:
        file: where it stands.
        key: what it is, such as "architecture: DRAM: attributes: type".
        why: in a few words.
    """

    file: str
    key: str
    why: str

    def __str__(self) -> str:
        return f"{self.file}: {self.key}: {self.why}"


@dataclass(frozen=True)
class Section:
    """What stands under one key at the top of a file.

    Attributes:
        name: one of the values of :data:`SECTIONS`.
        value: mappings as :class:`Table`, lists as :class:`Rows`, else text, numbers, booleans and None.
        file: the file that it is in.
        key: the key as it is written there.
    """

    name: str
    value: Any
    file: str
    key: str


@dataclass
class Documents:
    """What some files hold.

    Attributes:
        files: the paths that were read, without what they include.
        sections: in the order of the files.
        ignored: keys at the top that mean nothing here, and files of a folder without sections.
    """

    files: list[str] = field(default_factory=list)
    sections: list[Section] = field(default_factory=list)
    ignored: list[Ignored] = field(default_factory=list)

    def every(self, *names: str) -> list[Section]:
        """All sections of some names."""
        return [section for section in self.sections if section.name in names]

    def one(self, name: str) -> Section | None:
        """The section of a name; None if there is none.

        Raises:
            SpecificationError: several files have one.
        """
        found = self.every(name)
        if len(found) > 1:
            raise SpecificationError(
                f"{found[0].file} and {found[1].file} both have the section {quoted(found[0].key)}; name one of them"
            )
        return found[0] if found else None

    @property
    def where(self) -> str:
        """The files, for messages about something that none of them has."""
        return ", ".join(self.files[:3]) + (f" and {len(self.files) - 3} more" if len(self.files) > 3 else "")


def read_documents(
    paths: str | os.PathLike[str] | Sequence[str | os.PathLike[str]], values: Mapping[str, object] | None = None
) -> Documents:
    """Reads files for Timeloop.

    Args:
        paths: files, and folders whose files are read, including those in folders within.
        values: what names in templates stand for.

    Raises:
        SpecificationError: a file is missing, no YAML, or includes what is missing or includes itself.
    """
    given = [paths] if isinstance(paths, str | os.PathLike) else list(paths)
    reading = _Reading(values or {})
    documents = Documents()
    if not given:
        raise SpecificationError("no files for Timeloop are given; name at least one")
    for path in map(Path, given):
        if path.is_dir():
            files = _in_folder(path)
            for file in files:
                _add(documents, reading, file, is_found=True)
            if not files:
                raise SpecificationError(f"{path}: holds no file that ends in .yaml; name files, or another folder")
        else:
            _add(documents, reading, path, is_found=False)
    documents.ignored += reading.ignored
    return documents


def read_text_document(text: str, file: str) -> Documents:
    """Like :func:`read_documents`, for the text of one file that includes nothing."""
    documents = Documents(files=[file])
    reading = _Reading({})
    _sort(documents, reading.parse(text, Path(file), []), file, is_found=False)
    documents.ignored += reading.ignored
    return documents


def _in_folder(folder: Path) -> list[Path]:
    files = [
        path
        for path in sorted(folder.rglob("*"))
        if path.suffix.lower() in _IN_FOLDERS and path.is_file() and not path.name.startswith(".")
    ]
    if len(files) > _MOST_FILES:
        raise SpecificationError(f"{folder}: holds {len(files)} files; name those of one design, at most {_MOST_FILES}")
    return files


def _add(documents: Documents, reading: _Reading, path: Path, *, is_found: bool) -> None:
    documents.files.append(str(path))
    _sort(documents, reading.load(path, []), str(path), is_found=is_found)


def _sort(documents: Documents, data: object, file: str, *, is_found: bool) -> None:
    """Takes the sections of a file."""
    if not isinstance(data, Table):
        if is_found:
            documents.ignored.append(Ignored(file, "the whole file", "it is no mapping with sections of Timeloop"))
            return
        raise SpecificationError(
            f"{file}: holds {'nothing' if data is None else type(data).__bases__[0].__name__} at its top; give a "
            "mapping with a key such as architecture or problem"
        )
    if "shape" in data and not any(key in data for key in SECTIONS):
        # A shape alone, as in the folder problem-shapes of Timeloop.
        data = Table({"problem": data}, data.file)
    for key, value in data.items():
        name = SECTIONS.get(key.replace("-", "_"))
        if name is not None:
            documents.sections.append(Section(name, value, file_of(value, file), key))
        else:
            documents.ignored.append(Ignored(file, key, "no section of Timeloop is called so"))


class _Reading:
    """Reads files and what they include."""

    def __init__(self, values: Mapping[str, object]) -> None:
        self._values = values
        self._open: list[Path] = []
        self._count = 0
        self._loaded: list[Any] = []
        self.ignored: list[Ignored] = []

    def load(self, path: Path, folders: list[str]) -> Any:
        """The content of a file, with what it includes."""
        if path.suffix.lower() == ".cfg":
            # Few files are of this kind.
            from mapgym.timeloop.reading.libconfig import parse_libconfig

            return _tables(parse_libconfig(read_text(path, "a file for Timeloop"), str(path)), str(path))
        inside = list(folders)
        return self.parse(self._text(path, inside), path, inside)

    def parse(self, text: str, path: Path, folders: list[str]) -> Any:
        """The content of YAML."""
        include = partial(self._include, path=path, folders=folders)
        data = parse_yaml(text, path, partial(_Loader, file=str(path), include=include, loaded=self._loaded))
        return _merged(data, str(path))

    def _text(self, path: Path, folders: list[str]) -> str:
        """The text of a file, its template filled in; adds to the folders what the template adds."""
        real = path.resolve()
        if real in self._open:
            raise SpecificationError(f"{path}: includes itself, by way of {self._open[-1]}; remove one of the includes")
        self._count += 1
        if len(self._open) >= _DEEPEST_INCLUDE or self._count > _MOST_INCLUDES + _MOST_FILES:
            raise SpecificationError(f"{path}: files include each other too deeply or too often; write fewer includes")
        self._open.append(real)
        try:
            text = read_text(path, "a file for Timeloop")
            if is_template(text):
                text = render(text, self._functions(path, folders), self._values, str(path))
            return text
        finally:
            self._open.pop()

    def _functions(self, path: Path, folders: list[str]) -> dict[str, Callable[..., object]]:
        """What templates may call: the functions of Timeloop's Python front end that read files."""

        def add_to_path(folder: str) -> str:
            folders.extend(str(found) for found in self._find(folder, path, folders))
            return ""

        def load(pattern: str, keys: str, several: bool) -> str:
            found = self._find(pattern, path, folders)
            if len(found) > 1 and not several:
                raise SpecificationError(
                    f"{path}: include({quoted(pattern)}) finds {len(found)} files; name one, or write include_all"
                )
            self._open.append(path.resolve())
            try:
                values = [_at(self._load_included(file, folders), keys, file) for file in found]
            finally:
                self._open.pop()
            self._loaded.append(Rows(values, str(path)) if several else values[0])
            return f"{_LOADED} {len(self._loaded) - 1}"

        def include_text(pattern: str) -> str:
            known = KNOWN_FILES.get(Path(str(pattern)).name)
            if known is not None and not self._search(pattern, path, folders):
                self.ignored.append(Ignored(str(path), f"include_text({pattern})", known.note))
                return known.text
            return "\n".join(self._text(file, list(folders)) for file in self._find(pattern, path, folders))

        return {
            "cwd": lambda: str(path.resolve().parent),
            "include": lambda pattern, keys="": load(pattern, keys, several=False),
            "include_all": lambda pattern, keys="": load(pattern, keys, several=True),
            "include_text": include_text,
            "add_to_path": add_to_path,
            "find_path": lambda name: str(self._find(name, path, folders)[0]),
            "find_paths": lambda name: [str(found) for found in self._find(name, path, folders)],
            "path_exists": lambda name: bool(self._search(name, path, folders)),
        }

    def _include(self, name: str, is_folder: bool, path: Path, folders: list[str]) -> Any:
        """What the tags ``!include`` and ``!includedir`` stand for."""
        pattern = str(Path(name.removesuffix(",")) / "*.yaml") if is_folder else name.removesuffix(",")
        self._open.append(path.resolve())
        try:
            values = [self._load_included(file, folders) for file in self._find(pattern, path, folders)]
        finally:
            self._open.pop()
        return Rows(values, str(path)) if is_folder else values[0]

    def _load_included(self, file: Path, folders: list[str]) -> Any:
        if file.resolve() in self._open:
            raise SpecificationError(f"{file}: includes itself, by way of {self._open[-1]}; remove one of the includes")
        return self.load(file, folders)

    def _find(self, pattern: str, path: Path, folders: Sequence[str]) -> list[Path]:
        found = self._search(pattern, path, folders)
        if not found:
            raise SpecificationError(
                f"{path}: includes {quoted(pattern)}, and there is no such file; put it beside, or correct the path"
            )
        return found

    @staticmethod
    def _search(pattern: str, path: Path, folders: Sequence[str]) -> list[Path]:
        """Files of a name or a pattern, beside a file or in the folders that were added."""
        pattern = str(pattern)
        places = [""] if os.path.isabs(pattern) else [str(path.parent), *folders]
        try:
            found = [name for place in places for name in sorted(glob.glob(os.path.join(place, pattern)))]
        except (OSError, ValueError):
            return []
        return list({Path(name).resolve(): Path(name) for name in found}.values())


class _Loader(PlainLoader):
    """Reads YAML with the tags of Timeloop's Python front end, into mappings and lists that know their file."""

    def __init__(self, text: str, file: str, include: Callable[[str, bool], Any], loaded: list[Any]) -> None:
        super().__init__(text)
        self._file, self._include, self._loaded_values = file, include, loaded

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """Composes a node; an anchor may be used again for another value, as YAML 1.2 has it."""
        event = self.peek_event()
        if isinstance(event, yaml.NodeEvent) and not isinstance(event, yaml.AliasEvent):
            self.anchors.pop(event.anchor, None)
        return super().compose_node(parent, index)

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        """Builds a value; a mapping or a list keeps its tag."""
        tag = node.tag if node.tag.startswith("!") else ""
        if isinstance(node, yaml.MappingNode):
            return Table(self._pairs(node), self._file, tag)
        if isinstance(node, yaml.SequenceNode):
            return Rows([self.construct_object(each) for each in node.value], self._file, tag)
        if tag in ("!include", "!includedir"):
            return self._include(str(node.value), tag == "!includedir")
        if tag == _LOADED:
            if not str(node.value).isdecimal() or int(node.value) >= len(self._loaded_values):
                raise wrong_yaml(f"the tag {tag} is not for files", node.start_mark)
            return self._loaded_values[int(node.value)]
        if tag:
            # A component without anything: "- !Nothing".
            return Table((), self._file, tag)
        return super().construct_object(node, deep)

    def _pairs(self, node: yaml.MappingNode) -> dict[str, Any]:
        pairs: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                raise wrong_yaml("a key must be text or a number", key_node.start_mark)
            key = str(key_node.value)
            value = self.construct_object(value_node)
            # Timeloop takes any of two; published files do repeat a bound.
            if pairs.get(key, value) != value:
                raise wrong_yaml(f"duplicate key {quoted(key)} with another value", key_node.start_mark)
            pairs[key] = value
        return pairs


def _merged(value: Any, file: str) -> Any:
    """Data in which ``<<`` and ``<<<`` have been carried out: the latter merges mappings and lists within, too."""
    if isinstance(value, Rows):
        return Rows([_merged(each, file) for each in value], value.file, value.tag)
    if not isinstance(value, Table):
        return value
    result = Table({key: _merged(each, file) for key, each in value.items()}, value.file, value.tag)
    for key in ("<<", _DEEP):
        if key not in result:
            continue
        given = result.pop(key)
        for each in given if isinstance(given, Rows) else [given]:
            if not isinstance(each, Table):
                raise SpecificationError(f"{file}: {key} is {quoted(each)}; give a mapping to merge")
            _merge(result, each, is_deep=key == _DEEP)
    return result


def _merge(into: Table, other: Table, *, is_deep: bool) -> None:
    for key, value in other.items():
        if key not in into:
            into[key] = value
        elif is_deep and tag_of(into[key]) != "!nomerge":
            own = into[key]
            if isinstance(own, Table) and isinstance(value, Table):
                into[key] = Table(own, own.file, own.tag)
                _merge(into[key], value, is_deep=True)
            elif isinstance(own, Rows) and isinstance(value, Rows):
                into[key] = Rows([*own, *value], own.file, own.tag)


def _at(value: Any, keys: str, file: Path) -> Any:
    """What stands at a place such as ``architecture.nodes`` of an included file."""
    for key in filter(None, str(keys).split(".")):
        if not isinstance(value, Table) or key not in value:
            raise SpecificationError(f"{file}: has no {quoted(keys)}, which another file includes; add it")
        value = value[key]
    return value


def _tables(value: Any, file: str) -> Any:
    """Plain data as mappings and lists that know their file."""
    if isinstance(value, Mapping):
        return Table({str(key): _tables(each, file) for key, each in value.items()}, file)
    if isinstance(value, list | tuple):
        return Rows([_tables(each, file) for each in value], file)
    return value
