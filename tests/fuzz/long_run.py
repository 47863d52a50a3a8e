"""``make fuzz``: the tests of this folder with new examples, round after round; none begins when the time is up.

A round that finds something ends the run with status 1 and says how to repeat it. What a process tried last is kept in
build/fuzz/: one that is killed by what it tried cannot say so itself.
"""

from __future__ import annotations

import argparse
import os
import secrets
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]


def main() -> int:
    """Runs rounds; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("minutes", type=float, help="how long")
    parser.add_argument("--examples", type=int, default=100, help="of each test in a round")
    parser.add_argument("--seed", type=int, help="of one round, to repeat it")
    parser.add_argument("rest", nargs="*", help="arguments for pytest, after --")
    given = parser.parse_args()
    log = ROOT / "build" / "fuzz"
    log.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, "MAPGYM_FUZZ_EXAMPLES": str(given.examples), "MAPGYM_FUZZ_LOG": str(log)}
    deadline = time.monotonic() + 60 * given.minutes
    rounds = 0
    while (left := deadline - time.monotonic()) > 0:
        for file in log.iterdir():
            file.unlink()
        seed = secrets.randbelow(2**32) if given.seed is None else given.seed
        command = [
            sys.executable,
            "-m",
            "pytest",
            str(HERE),
            "-q",
            "-x",
            f"--hypothesis-seed={seed}",
            *(given.rest or ["-n", "2"]),
        ]
        print(f"round {rounds + 1}, seed {seed}, {left / 60:.1f} minutes left", flush=True)
        # The last round may go on beyond the time: one that is cut short cannot say what it has found.
        if subprocess.run(command, cwd=ROOT, env=environment).returncode != 0:
            print(f"found by: {Path(sys.argv[0]).name} {given.minutes:g} --seed {seed} --examples {given.examples}")
            print(f"what was tried last: {log}")
            return 1
        rounds += 1
        if given.seed is not None:
            break
    print(f"{rounds} rounds of {given.examples} examples a test found nothing")
    return 0


if __name__ == "__main__":
    sys.exit(main())
