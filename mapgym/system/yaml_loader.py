"""Reads YAML that people write: safely, strictly, and with the file and line in every complaint."""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

import yaml

from mapgym.errors import SpecificationError
from mapgym.errors.text import quoted, shortened
from mapgym.system.input_file import DEEPEST, LONGEST_NUMBER, read_text

# Ten times as fast, where PyYAML was built with it.
_FAST: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

MOST_NODES = 250_000
"""Values and keys of a file, those that aliases repeat counted each time."""

_TAGS = {
    f"tag:yaml.org,2002:{name}": kind
    for kind, names in (
        (yaml.ScalarNode, ("null", "bool", "int", "float", "str")),
        (yaml.SequenceNode, ("seq",)),
        (yaml.MappingNode, ("map",)),
    )
    for name in names
}
"""Tag of plain data -> the kind of node that it belongs to."""

# YAML 1.2's own, without its other ways of writing whole numbers. PyYAML's table reads 1e-3 as text, 010 as 8, 1:30 as
# 90 and no as False.
_SCALARS = [
    (f"tag:yaml.org,2002:{name}", re.compile(rf"^(?:{pattern})$"), first)
    for name, pattern, first in (
        ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
        ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
        ("int", r"[-+]?[0-9]+", list("-+0123456789")),
        (
            "float",
            r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
            list("-+.0123456789"),
        ),
    )
]


def load_yaml(path: Path | Traversable, *, ours: bool = False) -> object:
    """Returns the content of a YAML (or JSON) file as plain dicts, lists, strings, numbers, booleans and None.

    Scalars are read as in YAML 1.2: 1e-3 is a number, and yes, no, on, off and dates are text.

    Args:
        path: the file, UTF-8.
        ours: it comes with mapgym, so that nothing in it is hostile, and the parser in C reads it.

    Raises:
        SpecificationError: the file is missing, unreadable, empty, cut off, not YAML, has the same key twice, holds
            what is no plain data, or is larger or deeper than what anybody writes.
    """
    return parse_yaml(read_text(path, "a YAML file"), path, _FastLoader if ours else PlainLoader)


def parse_yaml(text: str, path: object, kind: Callable[[str], Any] | None = None) -> object:
    """Like :func:`load_yaml`, for text.

    Args:
        text: the YAML.
        path: where it comes from, for messages.
        kind: a subclass of :class:`PlainLoader` that knows tags of some format.

    Raises:
        SpecificationError: as there.
    """
    loader = None
    try:
        # A SafeLoader builds plain data only.
        loader = (kind or PlainLoader)(text)
        data = loader.get_single_data()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        # A forgotten colon is noticed one line too late; the context is where it was forgotten.
        shown = error.context_mark if error.context == "while scanning a simple key" else mark
        line = shown.line + 1 if shown else 1
        problem = shortened(str(error.problem), 200)
        if mark and not text[mark.index :].strip():
            raise SpecificationError(
                f"{path}, line {line}: the YAML stops in the middle of something ({problem}); is the file cut off?"
            ) from None
        raise SpecificationError(f"{path}, line {line}: not valid YAML, {problem}; mend that line") from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise SpecificationError(f"{path}, line {line}: a character that YAML forbids; remove it") from None
    except SpecificationError:
        raise  # of what a loader has read on the way
    except (ValueError, LookupError, TypeError, AttributeError, OverflowError) as error:
        # What PyYAML's scanner stumbles over, such as "\U00110000"; it is at the line that it has got to.
        line = getattr(loader, "line", 0) + 1
        raise SpecificationError(
            f"{path}, line {line}: not valid YAML ({shortened(str(error), 200)}); mend that line"
        ) from None
    if data is None:
        raise SpecificationError(f"{path}: is empty; is the file cut off?")
    return data


def dump_yaml(data: object, *, flow: bool | None = None, width: float = 120) -> str:
    """Plain data as YAML that :func:`load_yaml` reads as the same, and so does whoever reads YAML 1.1.

    Args:
        data: dicts, lists, text, numbers, booleans and None.
        flow: True for brackets throughout, None for brackets around what holds plain values only.
        width: of a line.
    """
    return yaml.dump(data, Dumper=_Dumper, sort_keys=False, default_flow_style=flow, width=width)


def wrong_yaml(problem: str, mark: yaml.Mark | None) -> yaml.MarkedYAMLError:
    """What a loader raises at a place of the text; :func:`parse_yaml` makes a sentence of it."""
    return yaml.constructor.ConstructorError(problem=problem, problem_mark=mark)


class _PlainData(yaml.constructor.SafeConstructor):
    """Builds plain data without YAML 1.1's surprises and without duplicate keys."""

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        """Builds plain data, and refuses what a tag would make something else of."""
        if not isinstance(node, _TAGS.get(node.tag, ())):
            tag = quoted(node.tag.replace("tag:yaml.org,2002:", "!!", 1))
            raise wrong_yaml(f"the tag {tag} does not make plain data of this", node.start_mark)
        try:
            return super().construct_object(node, deep)
        except (ValueError, LookupError, TypeError, OverflowError):
            kind = node.tag.rpartition(":")[2]
            raise wrong_yaml(f"{quoted(node.value)} cannot be read as {kind}", node.start_mark) from None

    def construct_scalar(self, node: yaml.ScalarNode | yaml.MappingNode) -> str:
        """The text of a scalar. JSON writes some characters as two halves, which are joined; a lone half is none."""
        text: str = super().construct_scalar(node)
        if text.isascii():
            return text
        try:
            return text.encode("utf-16", "surrogatepass").decode("utf-16")
        except UnicodeDecodeError:
            raise wrong_yaml(f"half a character in {quoted(text)}", node.start_mark) from None

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        """Builds a dict, refusing a key that is given twice (PyYAML keeps the last one silently)."""
        seen: dict[Hashable, int] = {}
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            line = key_node.start_mark.line + 1
            if not isinstance(key, Hashable):
                raise wrong_yaml("a key must be text or a number", key_node.start_mark)
            # All names are taken as text, so that 1 and "1" are one.
            forms = {key, str(key)}
            for form in forms & seen.keys():
                raise wrong_yaml(f"duplicate key {quoted(key)} (first given on line {seen[form]})", key_node.start_mark)
            seen.update(dict.fromkeys(forms, line))
        return super().construct_mapping(node, deep)


class PlainLoader(_PlainData, yaml.SafeLoader):
    """PyYAML's safe loader with limits, and without duplicate keys."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = 0
        self._composed = 0
        # Anchored node -> its values and its depth, aliases within it counted as what they stand for.
        self._extent: dict[yaml.Node, tuple[int, int]] = {}

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """Composes a node; an alias counts as much as what it repeats, because whoever walks the data repeats it."""
        alias = self.check_event(yaml.AliasEvent)
        mark, before = self.peek_event().start_mark, self._composed
        if self._depth >= DEEPEST:
            raise wrong_yaml(f"nested more than {DEEPEST} deep", mark)
        self._depth += 1
        node: yaml.Node | None = super().compose_node(parent, index)
        self._depth -= 1
        assert node is not None
        if alias:
            if node not in self._extent:
                raise wrong_yaml("an alias within what it stands for", mark)
            size, deep = self._extent[node]
            self._composed += size
            if self._depth + deep > DEEPEST:
                raise wrong_yaml(f"nested more than {DEEPEST} deep", mark)
        else:
            self._composed += 1
            self._extent[node] = (self._composed - before, self._height(node))
        if self._composed > MOST_NODES:
            raise wrong_yaml(f"more than {MOST_NODES:,} values, aliases counted as what they stand for", mark)
        return node

    def _height(self, node: yaml.Node) -> int:
        if isinstance(node, yaml.ScalarNode):
            return 1
        children = node.value if isinstance(node, yaml.SequenceNode) else [each for pair in node.value for each in pair]
        return 1 + max((self._extent[child][1] for child in children), default=0)


class _FastLoader(_FAST, _PlainData):
    """The parser in C, which knows no limits."""

    def __init__(self, text: str) -> None:
        _FAST.__init__(self, text)


def _construct_int(loader: _PlainData, node: yaml.ScalarNode) -> int:
    text = loader.construct_scalar(node)
    if len(text) > LONGEST_NUMBER:
        raise wrong_yaml("a whole number that is too long", node.start_mark)
    return int(text)


class _Dumper(yaml.SafeDumper):
    """PyYAML's safe dumper, which quotes also what only YAML 1.2 takes for a number."""


PlainLoader.yaml_implicit_resolvers = {}
_FastLoader.yaml_implicit_resolvers = {}
for _tag, _pattern, _first in _SCALARS:
    for _kind in (PlainLoader, _FastLoader, _Dumper):
        _kind.add_implicit_resolver(_tag, _pattern, _first)
_PlainData.yaml_constructors = {**_PlainData.yaml_constructors, "tag:yaml.org,2002:int": _construct_int}
