"""What every answer must be: a result, or one sentence."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from hypothesis import HealthCheck, settings

from mapgym.errors import SpecificationError

_EXAMPLES = os.environ.get("MAPGYM_FUZZ_EXAMPLES")

fuzz = settings(
    max_examples=int(_EXAMPLES or 25),
    derandomize=_EXAMPLES is None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
"""A short run that is the same every time; with MAPGYM_FUZZ_EXAMPLES another one of so many examples a test."""

LONGEST_MESSAGE = 2000
SECONDS = 120
"""No file and no call of these tests is so large that its answer may take longer."""


def answer(function: Callable[[], Any]) -> Any:
    """What a function returns, or the one sentence (text) with which it refuses; anything else is raised."""
    try:
        with _alarm():
            return function()
    except SpecificationError as error:
        return check_sentence(str(error))


def check_sentence(text: str) -> str:
    """Checks that a message is one printable line of sane length; returns it."""
    assert text.isprintable(), f"not printable: {text!r}"
    assert 10 < len(text) < LONGEST_MESSAGE, f"{len(text)} characters: {text[:200]!r}"
    text.encode()
    return text


@contextmanager
def _alarm() -> Iterator[None]:
    def late(number: int, frame: FrameType | None) -> NoReturn:
        raise AssertionError(f"no answer after {SECONDS} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def remember(name: str, content: bytes | str) -> None:
    """Keeps what is tried next where MAPGYM_FUZZ_LOG names a folder: a process that is killed cannot say it."""
    folder = os.environ.get("MAPGYM_FUZZ_LOG")
    if folder:
        data = content.encode("utf-8", "surrogatepass") if isinstance(content, str) else content
        Path(folder, f"{name}-{os.getpid()}").write_bytes(data)
