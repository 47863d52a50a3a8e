"""The command line with arguments that nobody should give, and with hostile files."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main
from hypothesis import given, strategies as st

import corpus
from contract import check_sentence, fuzz, remember
from hostile import NUMBERS, TEXTS, files
from mapgym.agents import agent_names
from mapgym.agents.cli import app, main

pytest.importorskip("pyarrow")
pytest.importorskip("torch")

GOOD = (
    "search toy/tiny_gemm tiny --samples 20 --agent {agent}",
    "search toy/tiny_gemm tiny --samples 20 --axes tile,bypass --objective energy -o found.yaml --json",
    "search workload.yaml machine.yaml --samples 20 --constraints constraints.yaml --seed 3",
    "search network.yaml:fc tiny --samples 20 --warm-start buffer",
    "search toy/tiny_gemm tiny_sparse --samples 20 --density weights=0.5",
    "search toy/tiny_gemm tiny_sparse --samples 20 --densities 0.5,0.1 --objective sparsity-aware",
    "search toy/tiny_gemm tiny --samples 20 --agent gamma -p population=10",
    "search toy/tiny_gemm tiny --samples 20 --objective pareto",
    "search toy/tiny_gemm tiny --samples 20 --certify 0.2",
    "show workload.yaml tiny mapping.yaml",
    "show toy/tiny_gemm tiny --dataflow weight-stationary",
    "show workload.yaml tiny mapping.yaml --explain DRAM/Inputs",
    "map network.yaml tiny -o mapped --samples-per-layer 10 --clock 1 --certify 0.1",
    "sweep network.yaml tiny --set Buf.capacity_words=256,512 -o swept --samples-per-layer 10",
    "export mapping.yaml --workload workload.yaml --accelerator tiny --to timeloop -o exported",
    "compare --agents random,gamma --workload toy/tiny_gemm --accelerator tiny --samples 20 --seeds 2 -o compared",
    "run experiment.yaml -o experiment --jobs 1",
    "report finished",
    "validate records.jsonl",
    "validate published --json",
    "list workloads",
    "list agents",
    "buffer list buffer",
    "buffer show buffer 0",
    "buffer add buffer toy/tiny_gemm tiny mapping.yaml",
    "buffer verify buffer",
    "study order --quick -o order",
    "tune hill-climb --update tuning.yaml",
    "train dqn --workload toy/tiny_gemm --accelerator tiny --steps 64 -o trained",
)
SECONDS = 10
"""A command that has not ended by then is interrupted, as by Ctrl-C, which is an answer of its own."""


@pytest.fixture(scope="module", autouse=True)
def elsewhere() -> Iterator[None]:
    before = Path.cwd()
    yield
    os.chdir(before)


def options() -> list[str]:
    """Every option of every command."""
    found = set()
    commands: list[Any] = [typer.main.get_command(app)]
    for command in commands:
        commands.extend(getattr(command, "commands", {}).values())
        found |= {name for parameter in command.params for name in parameter.opts if name.startswith("-")}
    return sorted(found - {"--help"})


# Listed before anything is drawn: commands and agents are imported for it, and what they import draws random numbers.
AGENTS, OPTIONS = agent_names(), options()

WORDS = [
    *TEXTS, *map(str, NUMBERS[:-8]), "nan", "inf", "1e999", "-1", "0", "tiny", "accel_b", "resnet18", "resnet18/conv1",
    "random", "workload.yaml", "machine.yaml", "network.yaml", "mapping.yaml", "constraints.yaml", "experiment.yaml",
    "buffer", "finished", ".", "/", "/dev/null", "/dev/full", "missing/file.yaml", "weights=nan", "inputs=2", "x=1",
    "population=-1", "drawn=1e9",
]  # fmt: skip


@st.composite
def command_lines(draw: Any) -> list[str]:
    line = draw(st.sampled_from(GOOD)).format(agent=draw(st.sampled_from(AGENTS)))
    arguments = shlex.split(line)
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(arguments) - 1))
        kind = draw(st.sampled_from(("replace", "replace", "replace", "drop", "double", "insert", "option")))
        word = draw(st.sampled_from(WORDS))
        if kind == "replace":
            arguments[at] = word
        elif kind == "drop":
            del arguments[at]
        elif kind == "double":
            arguments.insert(at, arguments[at])
        elif kind == "insert":
            arguments.insert(at + 1, word)
        else:
            arguments += [draw(st.sampled_from(OPTIONS)), word]
        if not arguments:
            arguments = ["--version"]
    # A process is given no NUL, and no text that cannot be encoded.
    return [word.replace("\x00", "") for word in arguments]


def good_files() -> dict[str, bytes]:
    """What the good command lines read, but for the folder of a finished experiment."""
    return {
        "workload.yaml": corpus.as_yaml(corpus.GEMM),
        "machine.yaml": corpus.catalog_file("accelerators/tiny.yaml"),
        "network.yaml": corpus.as_yaml(corpus.NETWORK),
        "mapping.yaml": corpus.mapping_file(),
        "constraints.yaml": corpus.as_yaml(corpus.CONSTRAINTS),
        "experiment.yaml": corpus.as_yaml(corpus.EXPERIMENT),
        "tuning.yaml": corpus.catalog_file("tuning.yaml"),
        "records.jsonl": corpus.records("dense"),
        "buffer": corpus.buffer_file(),
    }


def lay_out(folder: Path, hostile: dict[str, bytes]) -> None:
    finished = {f"finished/{name}": content for name, content in corpus.experiment_files().items()}
    finished |= {f"published/{name}": content for name, content in corpus.results_files().items()}
    for name, content in {**good_files(), **finished, **hostile}.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def run(arguments: list[str], out: Path, error: Path) -> tuple[int, int]:
    """Exit status of a command in a process of its own, and how often it was interrupted because it took long.

    The process is a fork of this one, which has compiled and imported already what commands need.
    """
    process = os.fork()
    if process == 0:
        os._exit(_command(arguments, out, error))
    begun, interrupted = time.monotonic(), 0
    while True:
        ended, status = os.waitpid(process, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status), interrupted
        seconds = time.monotonic() - begun
        if seconds > (interrupted + 1) * SECONDS:
            # Again and again: an interruption within the compiler is lost.
            interrupted += 1
            os.kill(process, signal.SIGINT if interrupted < 30 else signal.SIGKILL)
        time.sleep(0.005)


def _command(arguments: list[str], out: Path, error: Path) -> int:
    """Runs the command in the forked process; returns its exit status, 99 for an exception that it let through."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number, path in ((1, out), (2, error)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    sys.stdout, sys.stderr = (os.fdopen(number, "w", encoding="utf-8", closefd=False) for number in (1, 2))
    status: Any = 99
    try:
        main(arguments)
    except SystemExit as stopped:
        status = stopped.code if isinstance(stopped.code, int) else 0 if stopped.code is None else 1
    except BaseException:
        traceback.print_exc()
    with contextlib.suppress(OSError):
        sys.stdout.flush()
        sys.stderr.flush()
    return status


def check(arguments: list[str], hostile: dict[str, bytes]) -> None:
    remember("command", shlex.join(arguments))
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder) / "work"
        work.mkdir()
        os.chdir(work)
        lay_out(work, hostile)
        streams = Path(folder) / "out", Path(folder) / "error"
        status, interrupted = run(arguments, *streams)
        out, error = (path.read_text(encoding="utf-8") for path in streams)
        os.chdir("/")
        # Whoever presses Ctrl-C again interrupts the answer to the first one.
        assert status in ((0, 1, 2, 130) if interrupted < 2 else (0, 1, 2, 99, 130)), (status, error)
        assert "\x1b" not in out + error
        if interrupted:
            # What was interrupted while compiling says so in many words.
            return
        assert "Traceback" not in out + error
        for line in error.splitlines():
            if line.startswith("mapgym: ") and "compiling" not in line:
                check_sentence(line)
        if status == 0:
            assert not list(work.rglob(".unfinished-*"))


@fuzz
@given(command_lines())
def test_arguments(arguments):
    check(arguments, {})


@fuzz
@given(st.data())
def test_files(data):
    line = data.draw(
        st.sampled_from([line for line in GOOD if ".yaml" in line or "buffer" in line or ".jsonl" in line])
    )
    arguments = shlex.split(line.format(agent="random"))
    good = good_files()
    named = [name for name in good if any(name in word for word in arguments)]
    if not named:
        return
    name = data.draw(st.sampled_from(named))
    content = data.draw(files(good[name]))
    remember("commands-file", content)
    check(arguments, {name: content})
