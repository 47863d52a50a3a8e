"""Files for ZigZag: what kind each is, and what it holds."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from mapgym.errors import SpecificationError
from mapgym.interop.imported import Imported, Notes, naming
from mapgym.interop.zigzag.accelerators import Words, read_accelerator
from mapgym.interop.zigzag.layers import read_network
from mapgym.system.input_file import read_text
from mapgym.system.yaml_loader import PlainLoader, parse_yaml


def read_zigzag(
    paths: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    word_bits: int | None = None,
    output_bits: int | None = None,
) -> Imported:
    """Reads accelerators and lists of layers for ZigZag.

    Args:
        paths: YAML files.
        word_bits: of a word of inputs and weights; left out, as ``input_precision`` says, or 8.
        output_bits: of a word in memories that hold outputs only; left out, twice as many as of the others.

    Raises:
        SpecificationError: a file is missing, no YAML, or something else; or it has what cannot be expressed.
    """
    given = [paths] if isinstance(paths, str | os.PathLike) else list(paths)
    if not given:
        raise SpecificationError("no files for ZigZag are given; name at least one")
    imported = Imported()
    for path in map(Path, given):
        notes = Notes(str(path))
        data = parse_yaml(read_text(path, "a YAML file for ZigZag"), path, partial(_LastWins, notes=notes))
        match _kind(data):
            case "accelerator":
                words = Words(word_bits, output_bits)
                with naming(str(path)):
                    imported.accelerators.append(read_accelerator(data, str(path), words, notes))  # type: ignore[arg-type]
            case "layers":
                with naming(str(path)):
                    imported.networks.append(read_network(data, str(path), notes))  # type: ignore[arg-type]
            case "mapping":
                raise SpecificationError(
                    f"{path}: is a mapping for ZigZag, which says how to map and not what; name a file of an "
                    "accelerator or of layers"
                )
            case _:
                raise SpecificationError(
                    f"{path}: is neither an accelerator for ZigZag (keys memories and operational_array) nor a list of "
                    "layers (with equation and loop_sizes); name such a file"
                )
        imported.ignored += notes.ignored()
    return imported


def _kind(data: object) -> str:
    if isinstance(data, Mapping):
        return "accelerator" if {"memories", "operational_array"} & data.keys() else ""
    if isinstance(data, list) and data and all(isinstance(entry, Mapping) for entry in data):
        keys = {key for entry in data for key in entry}
        if keys & {"equation", "loop_dims", "loop_sizes"}:
            return "layers"
        return "mapping" if keys & {"spatial_mapping", "memory_operand_links", "temporal_ordering"} else ""
    return ""


class _LastWins(PlainLoader):
    """Of a key that is given twice, the last one counts, as in ZigZag; its own files do that."""

    def __init__(self, text: str, notes: Notes) -> None:
        super().__init__(text)
        self._notes = notes

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Builds a dict."""
        last = {key.value: key for key, _ in node.value if isinstance(key, yaml.ScalarNode)}
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and last[key.value] is not key:
                line = key.start_mark.line + 1
                self._notes.add("", f"{key.value} on line {line}", "is given again below, and the last one counts")
        node.value = [(key, each) for key, each in node.value if last.get(getattr(key, "value", None), key) is key]
        return super().construct_mapping(node, deep)
