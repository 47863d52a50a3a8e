"""Timeloop's files where a workload or an accelerator is named: ``arch.yaml``, ``arch.yaml,ERT.yaml``, a folder."""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence

from mapgym.errors import InputWarning, SpecificationError
from mapgym.errors.text import quoted
from mapgym.spec.accelerator import Accelerator
from mapgym.spec.workload import Workload
from mapgym.timeloop.reading.documents import Documents, Ignored, read_documents
from mapgym.timeloop.reading.specification import TimeloopSpecification, read_timeloop

_ESTIMATE = re.compile(r"(?P<files>.+?):(?P<energies>pat(?:@[^:/\\]*)?)", re.DOTALL)
_SHOWN = 3


def named_documents(text: str) -> Documents:
    """The documents of files as :func:`read_named` takes them."""
    return read_documents(_files_of(text)[0])


def _files_of(text: str) -> tuple[list[str], str | None]:
    """The files, and the estimate of energies, of what a user has named."""
    match = _ESTIMATE.fullmatch(text)
    files, energies = (match["files"], match["energies"]) if match else (text, None)
    return [file.strip() for file in files.split(",") if file.strip()], energies


def read_named(text: str) -> TimeloopSpecification:
    """What one or several files say, or the files of a folder.

    Args:
        text: their paths, separated by commas; at the end ":pat" or such as ":pat@45nm@0.9V" for an estimate of
            energies that no ERT says. Without either it is ":pat", and :func:`named_accelerator` warns of it.

    Raises:
        SpecificationError: as :func:`~mapgym.timeloop.reading.specification.read_timeloop`.
    """
    files, energies = _files_of(text)
    return read_timeloop(files, "pat" if _is_estimated(text) else energies)


def _is_estimated(text: str) -> bool:
    """Whether nothing is said of energies, so that Timeloop's public model has to do, as in Timeloop."""
    return _files_of(text)[1] is None and not named_documents(text).every("ERT")


def named_accelerator(text: str) -> Accelerator:
    """The accelerator that files for Timeloop describe; warns of what has no effect."""
    found = read_named(text)
    if found.accelerator is None:
        raise SpecificationError(f"{text}: holds no architecture; name the file that has the key architecture, too")
    _warn(text, found.ignored)
    if _is_estimated(text):
        message = (
            f"{quoted(text)}: has no ERT; energies are Timeloop's public estimate (PAT), as if {text}:pat were named"
        )
        warnings.warn(message, InputWarning, stacklevel=4)
    return found.accelerator


def named_workload(text: str) -> Workload:
    """The workload that files for Timeloop describe; warns of what has no effect."""
    found = read_named(text)
    if found.workload is None:
        raise SpecificationError(f"{text}: holds no problem; name the file that has the key problem")
    _warn(text, found.ignored)
    return found.workload


def _warn(text: str, ignored: Sequence[Ignored]) -> None:
    if ignored:
        shown = ", ".join(entry.key for entry in ignored[:_SHOWN])
        more = f" and {len(ignored) - _SHOWN} more" if len(ignored) > _SHOWN else ""
        message = f"{quoted(text)}: without effect: {shown}{more}; 'mapgym import timeloop' lists all, with reasons"
        warnings.warn(message, InputWarning, stacklevel=4)
