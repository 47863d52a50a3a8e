"""The first moments of the command ``mapgym``, whose process imports the package before anything of its own can run.

The package imports this module first, and the module does its work when it is imported. It imports nothing that takes
time.
"""

from __future__ import annotations

import os
import signal
import sys

INTERRUPTED = 130
"""Exit status after Ctrl-C, 128 + SIGINT as shells count."""


def begin() -> None:
    """Makes the process of the command safe to import the rest in; does nothing in any other process."""
    if os.path.basename((getattr(sys, "argv", None) or [""])[0]) not in ("mapgym", "mapgym.exe", "mapgym-script.py"):
        return
    occupy_standard_streams()
    # Python's own handler would show where in some import Ctrl-C has struck.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _end)


def imported() -> None:
    """Ends what :func:`begin` began: from here on Ctrl-C is a KeyboardInterrupt, which the commands deal with."""
    if signal.getsignal(signal.SIGINT) is _end:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def occupy_standard_streams() -> None:
    """Opens what a shell has closed (``>&-``), so that no other file gets its number and what is meant for it."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    # Python has none where the number was closed when it started.
    if sys.stdout is None:
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - for as long as the process lives
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115


def _end(number: int, frame: object) -> None:
    os._exit(INTERRUPTED)


begin()
