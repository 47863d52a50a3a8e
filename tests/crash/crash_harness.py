"""Kills every long command at random moments, gives it again until it is done, and compares with an undisturbed run.

``make crash-test``, or ``python tests/crash/crash_harness.py --kills 200 --seed 0 --case run``. Whatever is random is
drawn from the seed, the case and the number of the episode, so that an episode can be repeated; how far a command had
come when it was killed depends on the machine. Commands run in forks of this process, which has imported everything, so
that kills hit work and not imports.
"""

from __future__ import annotations

import os

os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", MPLBACKEND="Agg")

import argparse
import importlib
import resource
import shlex
import shutil
import signal
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from crash_cases import CASES, Case, prepare
from crash_contents import Contents, contents, differences, leftovers

_LONGEST_SECONDS = 300.0
"""A command that takes longer hangs."""

_MOST_KILLS = 4
"""Of one episode."""


@dataclass
class Reference:
    """What undisturbed runs of a case write.

    Attributes:
        contents: of the folder ``out``.
        varies: places that differ between two undisturbed runs.
        seconds: how long one takes.
    """

    contents: Contents
    varies: set[str]
    seconds: float


@dataclass
class Report:
    """What happened to a case."""

    case: Case
    kills: int = 0
    others: int = 0
    moments: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)


class Process:
    """A command in a fork of this process, in a folder, its output in a file."""

    def __init__(self, command: str, folder: Path, *, most_bytes: int | None = None) -> None:
        self.log = folder / "log"
        sys.stdout.flush()
        self.pid = os.fork()
        if self.pid == 0:
            _be(shlex.split(command), folder, most_bytes)
        # Its own group, for whoever is first to use it.
        os.setpgid(self.pid, self.pid)

    def kill(self, *, group: bool) -> None:
        """Ends the process, with all that it has started or by itself, as kill -9 does."""
        (os.killpg if group else os.kill)(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)

    def wait(self, seconds: float) -> int | None:
        """Its exit status; None if it is not done after so many seconds."""
        deadline = time.monotonic() + seconds
        while True:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                return os.waitstatus_to_exitcode(status)
            if time.monotonic() > deadline:
                return None
            time.sleep(0.002)


def _be(arguments: Sequence[str], folder: Path, most_bytes: int | None) -> None:
    """Becomes the command; does not return."""
    status = 70
    try:
        os.setpgid(0, 0)
        os.chdir(folder)
        log = os.open("log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        if most_bytes is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, resource.RLIM_INFINITY))
        sys.argv = ["mapgym", *arguments]
        from mapgym.agents.cli import main

        main([*arguments])
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else int(bool(error.code))
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


class Harness:
    """Runs cases in folders below one."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder, self.seed = folder, seed
        self.references: dict[str, Reference] = {}
        self._number = 0

    def begin(self, case: Case) -> Path:
        """A new folder with the inputs of a case and what it continues."""
        self._number += 1
        folder = self.folder / f"{self._number}"
        shutil.copytree(self.folder / "inputs", folder)
        if case.continues:
            shutil.copytree(self.folder / f"reference of {case.continues}", folder / "out")
        elif case.needs_folder:
            (folder / "out").mkdir()
        return folder

    def reference(self, case: Case) -> Reference:
        """Two undisturbed runs, once for each case."""
        if case.name not in self.references:
            if case.continues:
                self.reference(next(one for one in CASES if one.name == case.continues))
            found, seconds = [], []
            for number in range(2):
                folder, start = self.begin(case), time.monotonic()
                status = Process(case.command, folder).wait(_LONGEST_SECONDS)
                if status != 0:
                    raise SystemExit(
                        f"{case.name}: undisturbed, it ends with {status}:\n{(folder / 'log').read_text()}"
                    )
                seconds.append(time.monotonic() - start)
                found.append(contents(folder / "out"))
                if number == 0:
                    shutil.copytree(folder / "out", self.folder / f"reference of {case.name}")
                shutil.rmtree(folder)
            self.references[case.name] = Reference(found[0], differences(*found), min(seconds))
        return self.references[case.name]

    def episode(self, case: Case, number: int, report: Report, most_kills: int) -> None:
        """Kills a command some times, and lets it come to its end."""
        reference, folder = self.reference(case), self.begin(case)
        rng = np.random.default_rng([self.seed, zlib.crc32(case.name.encode()), number])
        killed = done = 0
        for _ in range(min(most_kills, int(rng.integers(1, _MOST_KILLS + 1)))):
            moment, group = float(rng.uniform(0, 1)), bool(rng.random() < 0.7)
            process = Process(case.command, folder)
            status = process.wait(moment * reference.seconds)
            if status is None:
                process.kill(group=group)
                killed += 1
                report.moments.append(f"{moment * reference.seconds:.2f}s")
            else:
                done += status == 0
                self._check_status(case, status, folder, report, number)
        report.kills += killed
        self._finish(case, folder, report, f"episode {number}", done, killed)

    def full_disk(self, case: Case, number: int, report: Report) -> None:
        """Lets files grow to so many bytes only: one sentence, and afterwards the command goes on."""
        folder = self.begin(case)
        most = int(np.random.default_rng([self.seed, 1, number]).choice([0, 100, 1000, 4096, 20_000]))
        status = Process(case.command, folder, most_bytes=most).wait(_LONGEST_SECONDS)
        report.others += 1
        self._check_status(case, status, folder, report, f"files of at most {most} bytes", allowed=(0, 1, 2))
        self._finish(case, folder, report, f"files of at most {most} bytes", int(status == 0), 0)

    def no_folder(self, case: Case, number: int, report: Report) -> None:
        """Puts a file where the folder should be."""
        del number
        folder = self.begin(case)
        shutil.rmtree(folder / "out", ignore_errors=True)
        (folder / "out").write_text("mine")
        status = Process(case.command, folder).wait(_LONGEST_SECONDS)
        report.others += 1
        self._check_status(case, status, folder, report, "a file in place of the folder", allowed=(2,))
        if (folder / "out").read_text() != "mine":
            report.failures.append(f"{case.name}: a file in place of the folder was changed")
        shutil.rmtree(folder)

    def two_starts(self, case: Case, number: int, report: Report) -> None:
        """Starts a command twice at once."""
        folder = self.begin(case)
        rng = np.random.default_rng([self.seed, 2, number])
        first = Process(case.command, folder)
        time.sleep(float(rng.choice([0.0, 0.01, 0.3])))
        second = Process(case.command, folder)
        statuses = [process.wait(_LONGEST_SECONDS) for process in (first, second)]
        report.others += 1
        for status in statuses:
            self._check_status(case, status, folder, report, "two starts", allowed=(0, 2))
        if 0 not in statuses:
            report.failures.append(f"{case.name}: of two starts none came to its end")
        self._finish(case, folder, report, "two starts", statuses.count(0), 0)

    def _check_status(
        self,
        case: Case,
        status: int | None,
        folder: Path,
        report: Report,
        what: object,
        allowed: tuple[int, ...] = (0,),
    ) -> None:
        log = (folder / "log").read_text(errors="replace")
        if status not in allowed or "Traceback" in log:
            report.failures.append(f"{case.name}: {what}: exit status {status}\n{log[-3000:]}")

    def _finish(self, case: Case, folder: Path, report: Report, what: str, done: int, killed: int) -> None:
        """Gives the command once more, which comes to its end, and compares."""
        before = len(report.failures)
        (folder / "log").unlink(missing_ok=True)
        process = Process(case.command, folder)
        status = process.wait(_LONGEST_SECONDS)
        if status is None:
            process.kill(group=True)
        self._check_status(case, status, folder, report, f"{what}, given again")
        done += status == 0
        reference, found = self.reference(case), contents(folder / "out") if (folder / "out").is_dir() else {}
        left = leftovers(folder)
        if left:
            report.failures.append(f"{case.name}: {what}: temporary files are left over: {', '.join(left[:5])}")
        if case.adds:
            self._check_additions(case, found, report, what, done, killed)
        else:
            differ = sorted(
                place
                for place in differences(reference.contents, found) - reference.varies
                if not any(part in place for part in case.ignored)
            )
            if differ:
                shown = "".join(
                    f"\n    {place}: {_short(reference.contents.get(place))}, now {_short(found.get(place))}"
                    for place in differ[:8]
                )
                report.failures.append(f"{case.name}: {what}: {len(differ)} differences{shown}")
        if len(report.failures) == before:
            shutil.rmtree(folder)

    def _check_additions(self, case: Case, found: Contents, report: Report, what: str, done: int, killed: int) -> None:
        """Whatever was acknowledged is there once; what was killed, once or not at all."""
        (expected,) = self.reference(case).contents.values()
        if any(value != expected for value in found.values()) or not done <= len(found) <= done + killed:
            report.failures.append(
                f"{case.name}: {what}: {len(found)} entries, of {done} acknowledged and {killed} killed additions"
            )


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) < 160 else f"{text[:150]}..."


def _warm_up(folder: Path) -> None:
    """Imports and compiles what the commands use."""
    for module in ("matplotlib.pyplot", "pyarrow.parquet", "torch", "sb3_contrib", "tensorboard", "scipy.optimize"):
        importlib.import_module(module)
    from mapgym.agents.cli import main
    from mapgym.agents.learned.amortized import training as amortized_training
    from mapgym.agents.learned.mind_mappings import training as mind_mappings_training
    from mapgym.agents.learned.sb3 import training as stock_training

    # Small trainings would end before their first checkpoint.
    for module in (amortized_training, mind_mappings_training):
        module._SECONDS_BETWEEN_CHECKPOINTS = 0.05
    stock_training.SEGMENT_STEPS = 640
    folder.mkdir()
    output, here = os.dup(1), Path.cwd()
    os.chdir(folder)
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    try:
        for agent in ("random", "gamma"):
            main(["search", "toy/tiny_gemm", "tiny", "--agent", agent, "--samples", "50"])
    except SystemExit:
        pass
    finally:
        sys.stdout.flush()
        os.dup2(output, 1)
        os.chdir(here)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the harness; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=100, help="how many processes to kill, of all cases together")
    parser.add_argument("--minutes", type=float, default=10, help="stop after so many minutes; 0 for never")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--case", action="append", choices=[case.name for case in CASES], help="may be repeated")
    parser.add_argument("--kills-only", action="store_true", help="no full disk, no second start")
    options = parser.parse_args(arguments)
    cases = [case for case in CASES if options.case is None or case.name in options.case]
    folder = Path(tempfile.mkdtemp(prefix="crash-"))
    begun = time.monotonic()

    def is_over() -> bool:
        return bool(options.minutes) and time.monotonic() - begun > 60 * options.minutes

    _warm_up(folder / "warm-up")
    (folder / "inputs").mkdir()
    prepare(folder / "inputs")
    harness = Harness(folder, options.seed)
    reports = [Report(case) for case in cases]
    number = 0
    others: list[Callable[[Case, int, Report], None]] = [harness.no_folder, harness.full_disk, harness.two_starts]
    while sum(report.kills for report in reports) < options.kills and not is_over():
        for report in reports:
            left = options.kills - sum(each.kills for each in reports)
            if left <= 0 or is_over():
                break
            harness.episode(report.case, number, report, left)
            if not options.kills_only and number < len(others):
                others[number](report.case, number, report)
        number += 1
    return _summary(reports, harness, options.seed, options.kills, time.monotonic() - begun)


def _summary(reports: list[Report], harness: Harness, seed: int, kills: int, seconds: float) -> int:
    failed = [report for report in reports if report.failures]
    for report in reports:
        reference = harness.references.get(report.case.name)
        if reference is None:
            print(f"{report.case.name}: not reached")
            continue
        print(
            f"{report.case.name}: {report.kills} kills, {report.others} other accidents, "
            f"{len(reference.contents) - len(reference.varies)} values compared, "
            f"{reference.seconds:.1f} s undisturbed; "
            f"{'killed at ' + ', '.join(report.moments[:12]) if report.moments else 'not killed'}"
            f"{'' if not report.failures else f'; {len(report.failures)} FAILURES'}"
        )
    for report in failed:
        for failure in report.failures:
            print(f"\nFAILED {failure}")
        again = f"--seed {seed} --kills {kills} --case '{report.case.name}'"
        print(f"  repeat: .venv/bin/python tests/crash/crash_harness.py {again}")
    total = sum(report.kills for report in reports)
    print(f"\n{total} of {kills} kills in {seconds / 60:.1f} minutes, seed {seed}: {len(failed)} commands failed")
    if failed:
        print(f"What they left is in {harness.folder}.")
    else:
        shutil.rmtree(harness.folder)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
