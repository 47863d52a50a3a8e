"""A second process that compiles what this one will need next, while this one compiles what it needs now.

On an empty cache a newcomer would wait for one kernel after the other, with all cores but one idle. The kernel that
takes longest, and that nobody does without, can be registered here; as soon as a process has to compile anything else,
another process compiles that kernel into the same cache, and this one waits for it when it gets there.
"""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
from typing import Any

from mapgym.compilation.cache import open_cache

_MARK = "MAPGYM_COMPILES_AHEAD"
"""Set in the environment of the second process, which needs no third."""


class _Ahead:
    """What is registered, and the process that compiles it, once there is one."""

    door: Any = None
    module = function = ""
    process: subprocess.Popen[bytes] | None = None
    tried = False


def compile_ahead(door: Any, module: str, function: str) -> None:
    """Registers the kernel that a second process compiles.

    Args:
        door: the kernel.
        module, function: what to call there, without arguments, so that it is compiled as all its callers need it.
    """
    _Ahead.door, _Ahead.module, _Ahead.function = door, module, function


def begin(compiled: Any) -> None:
    """Lets the second process begin, once in a process, because this one begins to compile a kernel."""
    if _Ahead.tried or compiled is _Ahead.door:
        return
    _Ahead.tried = True
    if _Ahead.door is None or _MARK in os.environ or _cores() < 2 or multiprocessing.parent_process() is not None:
        return
    # Only what is kept is of use to another process; what is there already needs none.
    index = getattr(open_cache(_Ahead.door), "_cache_file", None)
    if index is None or index._load_index():
        return
    code = f"import importlib; importlib.import_module({_Ahead.module!r}).{_Ahead.function}()"
    environment = {**os.environ, _MARK: "1", "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path)}
    try:
        _Ahead.process = subprocess.Popen(
            [sys.executable, "-c", code],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
    except OSError:
        # It only saves time.
        return


def wait_for(compiled: Any) -> None:
    """Waits for the second process if it is about to keep the kernel that is asked for."""
    if compiled is _Ahead.door and _Ahead.process is not None:
        _Ahead.process.wait()
        _Ahead.process = None


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
