"""Imports go one way, and heavy libraries stay in the rooms that are theirs (docs/architecture.md)."""

from __future__ import annotations

import ast
from collections.abc import Iterator

import pytest

from places import REPOSITORY

MODULES = {
    ".".join(path.relative_to(REPOSITORY).with_suffix("").parts).removesuffix(".__init__"): path
    for folder in ("mapgym", "agents")
    for path in sorted((REPOSITORY / folder).rglob("*.py"))
}

# A room imports only from rooms before it. Modules that are not named here are helpers of no fixed place.
LADDER = (
    ("mapgym.errors",),
    ("mapgym.spec.workload", "mapgym.spec.accelerator"),
    ("mapgym.mapping",),
    ("mapgym.mapspace",),
    ("mapgym.cost",),
    ("mapgym.evaluation.evaluator",),
    ("mapgym.envs",),
    ("mapgym.agents",),
)

# Library: the only room that may import it.
HEAVY = {
    "torch": "agents.learned",
    "stable_baselines3": "agents.learned",
    "sb3_contrib": "agents.learned",
    "matplotlib": "agents.experiment",
}


def is_in(module: str, room: str) -> bool:
    return module == room or module.startswith(f"{room}.")


def rung(module: str) -> int | None:
    module = f"mapgym.{module}" if is_in(module, "agents") else module
    return next((i for i, rooms in enumerate(LADDER) if any(is_in(module, room) for room in rooms)), None)


def imported(nodes: Iterator[ast.AST] | list[ast.stmt]) -> Iterator[str]:
    """Names of the modules, and of what is taken from them, in the import statements among some nodes."""
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: write imports absolutely"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("module", MODULES)
def test_imports_go_one_way(module):
    tree = ast.parse(MODULES[module].read_text())
    if is_in(module, "mapgym"):
        wrong = [name for name in imported(ast.walk(tree)) if is_in(name, "mapgym.agents") or is_in(name, "agents")]
        assert not wrong, f"{module} imports {wrong}: the library must work without its agents"
    own = rung(module)
    if own is not None:
        # Imports inside a function or for type checking only may point upwards: they order nothing.
        wrong = [name for name in imported(tree.body) if (rung(name) or 0) > own]
        assert not wrong, f"{module} imports {wrong}, which come after it in the ladder"


@pytest.mark.parametrize("module", MODULES)
def test_heavy_libraries_stay_in_their_rooms(module):
    tree = ast.parse(MODULES[module].read_text())
    wrong = [
        name
        for name in imported(ast.walk(tree))
        if (room := HEAVY.get(name.partition(".")[0])) is not None and not is_in(module, room)
    ]
    assert not wrong, f"{module} imports {wrong}"
