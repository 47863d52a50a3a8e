"""The command line as tests use it."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

# A test run in the background may have inherited an ignored SIGINT, which Python would leave ignored.
_START = """import signal; signal.signal(signal.SIGINT, signal.default_int_handler)
if __name__ == "__main__":
    from mapgym.agents.cli import main; main()"""


def without_notice(error: str) -> str:
    """What stderr says apart from the notice of the first use, which depends on what was run before."""
    return "".join(line for line in error.splitlines(keepends=True) if not line.startswith("mapgym: compiling"))


def one_sentence(error: str) -> str:
    """Checks that stderr is one line from mapgym without a traceback; returns it."""
    lines = without_notice(error).splitlines()
    assert len(lines) == 1, error
    assert lines[0].startswith("mapgym: ")
    assert "Traceback" not in error
    return lines[0]


def spawn(*arguments: object, **options: Any) -> subprocess.Popen[str]:
    """Starts the command as a process of its own that can be interrupted."""
    command = [sys.executable, "-c", _START, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)
