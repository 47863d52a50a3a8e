"""A second process compiles the longest kernel while this one compiles another."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

import pytest

from places import REPOSITORY

MODULE = """
import os
import numpy as np
from mapgym.compilation import kernel
from mapgym.compilation.ahead import compile_ahead

@kernel
def long(a):
    return a[0] + 1

@kernel
def other(a):
    return a[0] + 2

def compile_long():
    open(os.environ["NOTES"], "a").write(f"{os.getpid()}\\n")
    return long(np.zeros(1))

compile_ahead(long, __name__, "compile_long")
"""


@pytest.fixture
def run(tmp_path):
    """Runs code after the module has been imported; returns what it prints, and who compiled the long kernel."""
    (tmp_path / "two.py").write_text(MODULE)

    def run(code, **environment):
        notes = tmp_path / "notes"
        notes.unlink(missing_ok=True)
        places = {"PYTHONPATH": f"{tmp_path}{os.pathsep}{REPOSITORY}", "NUMBA_CACHE_DIR": str(tmp_path / "cache")}
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(code)],
            env={**os.environ, **places, "NOTES": str(notes), **environment},
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout.split(), notes.read_text().split() if notes.exists() else []

    return run


USE = """
    import os, numpy as np, two
    a = np.zeros(1)
    print(os.getpid(), two.other(a), two.long(a), sum(two.long.stats.cache_hits.values()))
"""

needs_two_cores = pytest.mark.skipif(
    len(getattr(os, "sched_getaffinity", lambda _: {0})(0)) < 2, reason="a second process is of no use on one core"
)


@needs_two_cores
def test_the_long_kernel_is_compiled_elsewhere_and_loaded_here(run):
    (pid, other, long, hits), compilers = run(USE)
    assert (other, long, hits) == ("2.0", "1.0", "1")
    assert len(compilers) == 1
    assert compilers[0] != pid


@needs_two_cores
def test_nobody_compiles_what_is_there(run):
    run(USE.replace("two.other(a), ", "0, "))
    (*_, hits), compilers = run(USE)
    assert (hits, compilers) == ("1", [])


def test_who_needs_the_long_kernel_first_compiles_it_itself(run):
    (_, _, long, hits), compilers = run(USE.replace("two.other(a), ", "0, "))
    assert (long, hits, compilers) == ("1.0", "0", [])


def test_the_second_process_starts_no_third(run):
    _, compilers = run(USE, MAPGYM_COMPILES_AHEAD="1")
    assert compilers == []
