"""What a command imports decides how soon it starts."""

from __future__ import annotations

import subprocess
import sys

FOREIGN = ("mapgym.envs", "mapgym.agents.learned", "mapgym.agents.studies", "mapgym.warmstart", "scipy.linalg", "torch")


def test_a_search_imports_nothing_that_it_does_not_need():
    code = (
        "import sys\n"
        "from mapgym.agents.cli import main\n"
        "try:\n"
        "    main(['search', 'toy/tiny_gemm', 'tiny', '--samples', '50', '--json'])\n"
        "finally:\n"
        "    print([name for name in sys.argv[1:] if name in sys.modules], file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, *FOREIGN], capture_output=True, text=True, check=True)
    assert done.stderr.splitlines()[-1] == "[]"
