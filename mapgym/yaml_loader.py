"""Reads YAML that people write: safely, strictly, and with the file and line in every complaint."""

from __future__ import annotations

import re
from collections.abc import Hashable
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

import yaml

from mapgym.errors import SpecificationError
from mapgym.text import quoted


def load_yaml(path: Path | Traversable) -> object:
    """Returns the content of a YAML (or JSON) file as plain dicts, lists, strings, numbers, booleans and None.

    Scalars are read as in YAML 1.2: 1e-3 is a number, and yes, no, on, off and dates are text.

    Args:
        path: the file, UTF-8.

    Raises:
        SpecificationError: the file is missing, unreadable, empty, cut off, not YAML, or has the same key twice.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise SpecificationError(f"{path}: there is no such file; check the path") from None
    except OSError as error:
        raise SpecificationError(f"{path}: cannot be read ({error.strerror}); give a readable file") from None
    except UnicodeDecodeError:
        raise SpecificationError(f"{path}: is not UTF-8 text; give a YAML file") from None
    try:
        # _Loader is a SafeLoader: it builds plain data only.
        data = yaml.load(text, _Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        # A forgotten colon is noticed one line too late; the context is where it was forgotten.
        shown = error.context_mark if error.context == "while scanning a simple key" else mark
        line = shown.line + 1 if shown else 1
        if mark and not text[mark.index :].strip():
            raise SpecificationError(
                f"{path}, line {line}: the YAML stops in the middle of something ({error.problem}); "
                "is the file cut off?"
            ) from None
        raise SpecificationError(f"{path}, line {line}: not valid YAML, {error.problem}; mend that line") from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise SpecificationError(f"{path}, line {line}: a character that YAML forbids; remove it") from None
    except RecursionError:
        raise SpecificationError(f"{path}: is nested too deeply to be read; flatten it") from None
    if data is None:
        raise SpecificationError(f"{path}: is empty; is the file cut off?")
    return data


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader without YAML 1.1's surprises and without duplicate keys."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        """Builds a dict, refusing a key that is given twice (PyYAML keeps the last one silently)."""
        seen: dict[Hashable, int] = {}
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            line = key_node.start_mark.line + 1
            if not isinstance(key, Hashable):
                raise yaml.constructor.ConstructorError(
                    problem="a key must be text or a number", problem_mark=key_node.start_mark
                )
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    problem=f"duplicate key {quoted(key)} (first given on line {seen[key]})",
                    problem_mark=key_node.start_mark,
                )
            seen[key] = line
        return super().construct_mapping(node, deep)


def _construct_int(loader: _Loader, node: yaml.ScalarNode) -> int:
    try:
        return int(loader.construct_scalar(node))
    except ValueError:
        raise yaml.constructor.ConstructorError(
            problem="a whole number that is too long", problem_mark=node.start_mark
        ) from None


# PyYAML's own table reads 1e-3 as text, 010 as 8, 1:30 as 90 and no as False.
_Loader.yaml_implicit_resolvers = {}
for _tag, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?[0-9]+", list("-+0123456789")),
    (
        "float",
        r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        list("-+.0123456789"),
    ),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(rf"^(?:{_pattern})$"), _first)
_Loader.add_constructor("tag:yaml.org,2002:int", _construct_int)
