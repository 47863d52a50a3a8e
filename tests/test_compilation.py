"""How kernels are compiled and cached; the cache leans on internals of Numba that these tests watch."""

from __future__ import annotations

import inspect
import os
import subprocess
import sys
from pathlib import Path

from mapgym import compilation
from mapgym.agents.search.gamma_breeding_kernels import breed
from mapgym.cost.kernel import price_batch


def test_cached_kernels_carry_the_stamp_of_all_modules_with_kernels():
    ours = compilation._files_with_kernels()
    assert price_batch._cache._cache_file._source_stamp == compilation._stamp(ours)
    # An agent's kernels contain code of their neighbours too.
    theirs = Path(inspect.getfile(breed.py_func)).parent.glob("*kernels.py")
    assert breed._cache._cache_file._source_stamp == compilation._stamp([*ours, *theirs])


def run(code: str, **environment: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-c", code], env=os.environ | environment, capture_output=True, text=True, timeout=120
    )


def test_the_first_use_says_that_it_compiles_and_the_second_does_not(tmp_path):
    code = (
        "from mapgym.legality import _first_factor_below_one as f; import numpy as np; a = np.ones((1, 1, 1), 'int32')"
    )
    first, second = (run(f"{code}; print(f(0, a, a))", NUMBA_CACHE_DIR=str(tmp_path)) for _ in range(2))
    assert (first.stdout, second.stdout) == ("0\n", "0\n")
    assert "compiling kernels for their first use" in first.stderr
    assert second.stderr == ""


def test_vectorisation_of_other_peoples_functions_is_left_alone():
    from numba import config

    before = config.LOOP_VECTORIZE
    with compilation._scalar_loops():
        assert config.LOOP_VECTORIZE == 0
    assert before == config.LOOP_VECTORIZE
