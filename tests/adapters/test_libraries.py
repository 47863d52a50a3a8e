"""The blocks of docs/libraries.md run, each where the libraries are installed that it imports."""

from __future__ import annotations

import re

import pytest

from places import DOCS

EXTRAS = {"sb3_contrib": "the extra 'rl'", "torchrl": "the extra 'libraries'", "tianshou": "the extra 'libraries'"}
EXTRAS["minari"] = "minari[create], which brings JAX"
BLOCKS = [
    (title, code)
    for title, text in re.findall(r"^## (.*?)\n(.*?)(?=^## |\Z)", (DOCS / "libraries.md").read_text(), re.M | re.S)
    for code in re.findall(r"```python\n(.*?)```", text, re.S)
]


@pytest.mark.filterwarnings("default")  # libraries warn about each other
@pytest.mark.parametrize(("title", "code"), BLOCKS, ids=[title for title, _ in BLOCKS])
def test_block__runs(title: str, code: str, tmp_path, monkeypatch) -> None:
    for library in re.findall(r"^(?:import|from) (\w+)", code, re.M):
        if library in EXTRAS:
            pytest.importorskip(library, reason=f"needs {EXTRAS[library]}")
    if "minari" in code:
        pytest.importorskip("jax", reason=f"needs {EXTRAS['minari']}")
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    names = {"__name__": "__main__"}
    exec(compile(code, title, "exec"), names)
    if "make" in names and title == "RLlib":
        assert set(names["make"]({}).observation_space.spaces) == {"observations", "action_mask"}
