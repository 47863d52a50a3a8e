"""Worker processes for pieces of work that return what they have found."""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from mapgym.agents.experiment.execution.workers import end_with_parent, one_thread_each
from mapgym.errors import SpecificationError


class Processes:
    """Computes things side by side; leaving the block ends whatever is not done."""

    def __init__(self, jobs: int) -> None:
        # Spawned rather than forked: a fork would inherit threads' locks and the state of every library.
        self._pool = ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn"), _begin_worker)
        self._names: dict[Future[Any], str] = {}

    def __enter__(self) -> Processes:
        return self

    def __exit__(self, *exception: object) -> None:
        self._pool.shutdown(wait=not self._names, cancel_futures=True)
        if self._names:
            for process in multiprocessing.active_children():
                process.terminate()

    def begin(self, name: str, compute: Callable[..., Any], arguments: Sequence[Any]) -> None:
        """Computes something, which is called so when it is done."""
        with one_thread_each():
            self._names[self._pool.submit(compute, *arguments)] = name

    def next(self) -> tuple[str, Any]:
        """What is done first of all that has begun: its name and what was returned; what was raised is raised here."""
        finished, _ = wait(self._names, return_when=FIRST_COMPLETED)
        future = finished.pop()
        name = self._names[future]
        try:
            found = future.result()
        except BrokenProcessPool:
            raise SpecificationError(
                f"the worker process that was at {name} died (out of memory?); run the same command again, with fewer "
                "--jobs"
            ) from None
        del self._names[future]
        return name, found


def _begin_worker() -> None:
    # Ctrl-C reaches all processes of a terminal; the one that started the workers deals with it.
    with contextlib.suppress(ValueError):
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=end_with_parent, daemon=True).start()
