"""Notices Ctrl-C where what is interrupted deals with it by itself."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType


class Interruption:
    """Context manager that notes whether Ctrl-C came within its block.

    The solver of optima turns Ctrl-C into an early result. Who runs it in a loop must stop all the same.

    Attributes:
        happened: whether it came.
    """

    def __init__(self) -> None:
        self.happened = False

    def __enter__(self) -> Interruption:
        self._previous = signal.getsignal(signal.SIGINT)
        # Signals belong to the main thread; where they are ignored, they must stay so.
        self._is_noting = threading.current_thread() is threading.main_thread() and callable(self._previous)
        if self._is_noting:
            signal.signal(signal.SIGINT, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Also what somebody else's handler has made of it, or a caller raises itself.
        self.happened = self.happened or kind is KeyboardInterrupt
        if self._is_noting:
            signal.signal(signal.SIGINT, self._previous)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.happened = True
        if callable(self._previous):
            self._previous(number, frame)
