"""Mappings as YAML files that ``mapgym show`` reads."""

from __future__ import annotations

from pathlib import Path

from mapgym.errors.text import printable
from mapgym.mapping import Mapping
from mapgym.system.files import write_text
from mapgym.system.yaml_loader import dump_yaml


def write_mapping(path: Path, mapping: Mapping | dict[str, object], about: str) -> None:
    """Writes a mapping atomically.

    Args:
        path: the file.
        mapping: the mapping or its plain form.
        about: what it maps and what it costs; becomes comment lines.
    """
    data = mapping if isinstance(mapping, dict) else mapping.to_dict()
    write_text(path, yaml_comment(about) + dump_yaml(data))


def yaml_comment(text: str) -> str:
    """Lines of text as a comment."""
    return "".join(f"# {printable(line)}\n" for line in text.splitlines())
