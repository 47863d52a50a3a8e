"""Settings that every test shares."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest
from hypothesis import settings

# Workers run side by side: more threads than one in each would only wait for each other. Must be set before NumPy or
# PyTorch is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MPLBACKEND", "Agg")

# No deadline: the first example of a test may wait for a compilation. Continuous integration draws the same examples
# in every run.
settings.register_profile("mapgym", deadline=None, derandomize="CI" in os.environ, print_blob=True)
settings.load_profile("mapgym")


@pytest.fixture
def mapgym(capsys):
    """Runs the command in this process; returns (exit status, stdout, stderr without the notice of the first use)."""

    def run(*arguments):
        from mapgym.agents.cli import main

        with pytest.raises(SystemExit) as stopped:
            main([str(argument) for argument in arguments])
        out, error = capsys.readouterr()
        lines = [line for line in error.splitlines(keepends=True) if not line.startswith("mapgym: compiling")]
        return stopped.value.code or 0, out, "".join(lines)

    return run


@pytest.fixture
def ctrl_c() -> Iterator[None]:
    """Lets SIGINT interrupt, as in a terminal; in a process that began in the background it is ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
