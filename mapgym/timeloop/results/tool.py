"""Timeloop's model, run on files that are written for it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from mapgym.errors import SpecificationError
from mapgym.errors.text import quoted
from mapgym.mapping.export import Export
from mapgym.system.files import write_text

MODEL = "timeloop-model"


def run_model(export: Export, folder: Path) -> None:
    """Writes files into a folder and lets Timeloop's model leave its results there.

    Args:
        export: the files, see :func:`mapgym.timeloop.writing.export_timeloop`.
        folder: that is there.

    Raises:
        SpecificationError: the model is not installed, or cannot price them; says what it says last.
    """
    program = shutil.which(MODEL)
    if program is None:
        raise SpecificationError(
            f"{MODEL} is not on the PATH; install Timeloop, or write its files with 'mapgym export --to timeloop'"
        )
    for name, text in export.files.items():
        write_text(folder / name, text)
    done = subprocess.run(
        [program, *export.files], cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace"
    )
    if done.returncode != 0 or not any(folder.glob("*stats.txt")):
        lines = [line for line in f"{done.stdout}\n{done.stderr}".splitlines() if line.strip()]
        last = quoted(lines[-1].strip()) if lines else "nothing"
        raise SpecificationError(f"{MODEL} ended with status {done.returncode} and no results; it said last: {last}")
