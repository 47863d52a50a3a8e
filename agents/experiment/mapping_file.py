"""Mappings as YAML files that ``mapgym show`` reads."""

from __future__ import annotations

from pathlib import Path

import yaml

from mapgym.files import write_text
from mapgym.mapping import Mapping


def write_mapping(path: Path, mapping: Mapping | dict[str, object], about: str) -> None:
    """Writes a mapping atomically.

    Args:
        path: the file.
        mapping: the mapping or its plain form.
        about: what it maps and what it costs; becomes comment lines.
    """
    data = mapping if isinstance(mapping, dict) else mapping.to_dict()
    comment = "".join(f"# {line}\n" for line in about.splitlines())
    write_text(path, comment + yaml.safe_dump(data, sort_keys=False, default_flow_style=None, width=120))
