"""Worker processes that execute runs; they may crash, and they end when the process that started them does."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection, wait
from typing import Any

from mapgym.agents.experiment.definition.experiment import Run
from mapgym.agents.experiment.execution.context import (
    SECONDS_BETWEEN_TRIALS,
    Observer,
    Precedence,
    RunContext,
    Snapshot,
)
from mapgym.agents.experiment.storage.folder import ExperimentFolder
from mapgym.agents.experiment.storage.results import RunResult
from mapgym.errors import SpecificationError
from mapgym.evaluation.evaluator import Budget

_STARTED, _DONE, _WAS_THERE, _BUSY, _DIED = "started", "done", "was there", "busy", "died"
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")


def run_in_workers(
    runs: Iterable[Run], context: RunContext, jobs: int, observer: Observer
) -> Iterator[tuple[Run, RunResult, bool]]:
    """Lets worker processes execute runs; yields each with its result and whether that was there before.

    A worker that dies takes only its run with it, which counts as failed. Leaving the generator ends the workers.

    Args:
        runs: what to do.
        context: the folder and what else is common to all runs.
        jobs: how many workers.
        observer: is told what begins and how far it is.
    """
    queue = deque(runs)
    precedence = Precedence(queue)
    # What another process is at, and when to try again.
    busy: deque[tuple[float, Run]] = deque()
    workers: list[_Worker] = []
    try:
        workers += [_Worker(context) for _ in range(min(jobs, len(queue)))]
        while queue or busy or any(worker.run for worker in workers):
            for worker in workers:
                if worker.run is not None:
                    continue
                following = next((run for run in queue if precedence.allows(run)), None)
                if following is not None:
                    queue.remove(following)
                elif busy and busy[0][0] <= time.monotonic():
                    following = busy.popleft()[1]
                if following is not None:
                    worker.begin(following)
            active = {worker.connection: worker for worker in workers if worker.run}
            if not active:
                observer.waiting(len(busy))
                time.sleep(max(0.0, busy[0][0] - time.monotonic()))
            for connection in wait(list(active), timeout=SECONDS_BETWEEN_TRIALS):
                assert isinstance(connection, Connection)  # nothing else is waited for
                worker = active[connection]
                run, message = worker.run, worker.receive()
                assert run is not None  # by the definition of active
                if isinstance(message, Snapshot):
                    observer.progressed(run, message)
                elif message == _STARTED:
                    observer.started(run)
                elif message == _BUSY:
                    busy.append((time.monotonic() + SECONDS_BETWEEN_TRIALS, run))
                    worker.run = None
                elif isinstance(message, SpecificationError):
                    raise message
                elif message in (_DONE, _WAS_THERE):
                    worker.run = None
                    precedence.done(run)
                    yield run, _stored(run, context), message == _WAS_THERE
                else:
                    workers[workers.index(worker)] = _Worker(context)
                    precedence.done(run)
                    yield run, _died(run, context, worker.end()), False
    finally:
        for worker in workers:
            worker.end()


class _Worker:
    """A worker process, as the process that started it sees it.

    Attributes:
        run: what it is at, None when it has nothing to do.
        connection: to it.
    """

    def __init__(self, context: RunContext) -> None:
        # Spawned rather than forked: a fork would inherit threads' locks and the state of every library.
        processes = multiprocessing.get_context("spawn")
        self.run: Run | None = None
        self.connection, theirs = processes.Pipe()
        arguments = (theirs, str(context.folder.path), context.budget, context.command)
        self._process = processes.Process(target=_work, args=arguments, daemon=True)
        with one_thread_each():
            self._process.start()
        # Now the other end is open in the worker only, so that its death ends the connection.
        theirs.close()

    def begin(self, run: Run) -> None:
        """Gives it something to do."""
        self.run = run
        # If it has died meanwhile, that is noticed when its answer is waited for.
        with contextlib.suppress(OSError):
            self.connection.send(run)

    def receive(self) -> Any:
        """Its next message."""
        try:
            return self.connection.recv()
        except (EOFError, OSError):
            return _DIED

    def end(self) -> int:
        """Ends the process if it has not ended yet; returns its exit code, below 0 for a signal."""
        self.connection.close()
        if self.run is not None:
            self._process.terminate()
        self._process.join()
        return self._process.exitcode or 0


def _stored(run: Run, context: RunContext) -> RunResult:
    result = context.folder.load(run, context.budget)
    return result or RunResult.failed(run.config(context.budget), context.command, "its result file has vanished")


def _died(run: Run, context: RunContext, exit_code: int) -> RunResult:
    """Records that a worker process died, unless it had stored its result by then."""
    stored = context.folder.load(run, context.budget)
    if stored is not None and not stored.failure:
        return stored
    reason = f"with exit status {exit_code}"
    if exit_code < 0:
        name = signal.Signals(-exit_code).name
        reason = f"of {name}" + (" (out of memory?)" if name == "SIGKILL" else "")
    failure = f"its worker process died {reason}"
    result = RunResult.failed(run.config(context.budget), context.command, failure)
    with context.folder.lock(run.file_name) as is_ours:
        if is_ours:
            context.folder.store(run, result)
    return result


@contextmanager
def one_thread_each() -> Iterator[None]:
    """Processes started in the block compute linear algebra with one thread, so that runs do not disturb each other."""
    before = {name: os.environ.get(name) for name in _THREAD_VARIABLES}
    os.environ.update(dict.fromkeys(_THREAD_VARIABLES, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


class _Relay(Observer):
    """Tells the process that started the worker."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def started(self, run: Run) -> None:
        self._connection.send(_STARTED)

    def progressed(self, run: Run, snapshot: Snapshot) -> None:
        self._connection.send(snapshot)


def _work(connection: Connection, folder: str, budget: Budget, command: str) -> None:
    """What a worker process does: one run after the other, until there is nothing more."""
    # Ctrl-C reaches all processes of a terminal; the one that started the workers deals with it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=end_with_parent, daemon=True).start()
    relay = _Relay(connection)
    with contextlib.suppress(EOFError, OSError):
        context = RunContext(ExperimentFolder(folder), budget, command)
        try:
            with context.folder.opened():
                while True:
                    done = context.do(connection.recv(), relay)
                    connection.send(_BUSY if done is None else _WAS_THERE if done[1] else _DONE)
        except SpecificationError as error:
            # A full disk, say: nothing can go on, and whoever gave the command must be told.
            connection.send(error)


def end_with_parent() -> None:
    """Ends this process when the one that started it has gone, which a kill gives no time to do anything about."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
