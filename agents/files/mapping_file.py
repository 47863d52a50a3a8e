"""Mappings in files: as YAML that ``mapgym search -o`` writes, or as Timeloop has them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from mapgym.errors import SpecificationError
from mapgym.errors.text import printable
from mapgym.mapping import Mapping
from mapgym.system.files import write_text
from mapgym.system.input_file import read_text
from mapgym.system.yaml_loader import dump_yaml, load_yaml

if TYPE_CHECKING:
    from mapgym.spec.accelerator import Accelerator
    from mapgym.spec.workload import Workload

_YAML = (".yaml", ".yml", ".json")


def write_mapping(path: Path, mapping: Mapping | dict[str, object], about: str) -> None:
    """Writes a mapping atomically.

    Args:
        path: the file.
        mapping: the mapping or its plain form.
        about: what it maps and what it costs; becomes comment lines.
    """
    data = mapping if isinstance(mapping, dict) else mapping.to_dict()
    write_text(path, yaml_comment(about) + dump_yaml(data))


def read_mapping(path: Path, workload: Workload, accelerator: Accelerator) -> Mapping:
    """The mapping in a file: ours, or Timeloop's directives (``mapping``) or loops (``*.map.txt``).

    Raises:
        SpecificationError: it holds none, or not one of this workload on this accelerator.
    """
    if path.suffix.lower() not in _YAML:
        from mapgym.timeloop.reading.mappings import looks_like_printed_nest, read_printed_nest

        text = read_text(path, "a mapping")
        if looks_like_printed_nest(text):
            return read_printed_nest(text, workload, accelerator, str(path))
    data = load_yaml(path)
    theirs = data["mapping"] if isinstance(data, dict) and "mapping" in data else data
    if isinstance(theirs, list) or (isinstance(theirs, dict) and "nodes" in theirs):
        from mapgym.timeloop.reading.mappings import looks_like_timeloop, read_timeloop_mapping

        if looks_like_timeloop(theirs):
            return read_timeloop_mapping(theirs, workload, accelerator, str(path))
    if isinstance(data, dict) and isinstance(data.get("mapping"), dict):
        # What "mapgym search --json" prints has the mapping among other keys.
        data = data["mapping"]
    if not isinstance(data, dict):
        raise SpecificationError(f"{path}: holds no mapping; give what 'mapgym search -o' writes, or Timeloop's")
    return Mapping.from_dict(data, workload, accelerator, str(path))


def yaml_comment(text: str) -> str:
    """Lines of text as a comment."""
    return "".join(f"# {printable(line)}\n" for line in text.splitlines())
