"""The rules of the house (docs/architecture.md): where things stand, which way imports go, how large functions are."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

import pytest

from places import REPOSITORY

# Library: the rooms that may import it.
HEAVY = {
    "torch": ("mapgym.adapters.torchrl", "mapgym.agents.learned", "mapgym.interop.torch"),
    "torchrl": ("mapgym.adapters.torchrl",),
    "tensordict": ("mapgym.adapters.torchrl",),
    "stable_baselines3": ("mapgym.adapters.sb3", "mapgym.agents.learned"),
    "sb3_contrib": ("mapgym.agents.learned",),
    "matplotlib": ("mapgym.agents.experiment", "mapgym.agents.studies"),
}
# The entries of the root: twelve rooms on the way from errors to environments, the adapters, and two files.
MOST_ENTRIES, MOST_LINES, MOST_PARAMETERS = 16, 80, 10


def module_of(path: Path) -> str:
    name = ".".join(path.relative_to(REPOSITORY).with_suffix("").parts).removesuffix(".__init__")
    return f"mapgym.{name}" if name.split(".")[0] == "agents" else name


MODULES = {module_of(path): path for folder in ("mapgym", "agents") for path in (REPOSITORY / folder).rglob("*.py")}
FACES = {module for module, path in MODULES.items() if path.name == "__init__.py"}


@cache
def tree_of(module: str) -> ast.Module:
    return ast.parse(MODULES[module].read_text(encoding="utf-8"))


def is_in(module: str, room: str) -> bool:
    return module == room or module.startswith(f"{room}.")


@cache
def imported(module: str) -> frozenset[str]:
    """What a module imports, anywhere in it: inside of functions and for types as well."""
    names = set()
    for node in ast.walk(tree_of(module)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}, line {node.lineno}: write imports absolutely"
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                names.add(full if full in MODULES else str(node.module))
    return frozenset(names - {module})


def circles(arrows: dict[str, set[str]]) -> list[list[str]]:
    """The sets of names that can be reached from each other (Tarjan 1972)."""
    numbers: dict[str, int] = {}
    lowest: dict[str, int] = {}
    path: list[str] = []
    found = []

    def visit(name: str) -> None:
        numbers[name] = lowest[name] = len(numbers)
        path.append(name)
        for other in sorted(arrows.get(name, ())):
            if other not in numbers:
                visit(other)
                lowest[name] = min(lowest[name], lowest[other])
            elif other in path:
                lowest[name] = min(lowest[name], numbers[other])
        if lowest[name] == numbers[name]:
            first = path.index(name)
            if len(path) - first > 1:
                found.append(sorted(path[first:]))
            del path[first:]

    for name in sorted(arrows):
        if name not in numbers:
            visit(name)
    return found


def functions(module: str) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(tree_of(module)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def test_circles_are_found():
    arrows = {"a": {"b"}, "b": {"c"}, "c": {"b", "d"}, "d": {"e"}, "e": {"d"}}
    assert sorted(circles(arrows)) == [["b", "c"], ["d", "e"]]


def test_the_root_of_the_library_has_few_entries():
    entries = sorted(entry.name for entry in (REPOSITORY / "mapgym").iterdir() if entry.name != "__pycache__")
    assert len(entries) <= MOST_ENTRIES, entries


def test_no_files_import_each_other_in_a_circle():
    assert circles({module: set(imported(module)) for module in MODULES}) == []


def test_no_folders_import_each_other_in_a_circle():
    """Among the entries of every folder, files and subfolders, imports go one way."""
    arrows: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for module in MODULES.keys() - FACES:
        own = module.split(".")
        for name in imported(module):
            other = name.split(".")
            shared = 0
            while shared < min(len(own), len(other)) and own[shared] == other[shared]:
                shared += 1
            if 0 < shared < min(len(own), len(other)):
                arrows[".".join(own[:shared])][own[shared]].add(other[shared])
    found = {folder: circles(among) for folder, among in arrows.items()}
    assert {folder: around for folder, around in found.items() if around} == {}


@pytest.mark.parametrize("module", sorted(MODULES))
def test_what_a_module_imports_is_allowed(module):
    names = imported(module)
    if not is_in(module, "mapgym.agents"):
        wrong = [name for name in names if is_in(name, "mapgym.agents") or is_in(name, "agents")]
        assert not wrong, f"{module} imports {wrong}: the library must work without its agents"
    wrong = [
        name
        for name in names
        if (rooms := HEAVY.get(name.partition(".")[0])) and not any(is_in(module, room) for room in rooms)
    ]
    assert not wrong, f"{module} imports {wrong}"


@pytest.mark.parametrize("module", sorted(MODULES))
def test_functions_are_short_and_take_few_parameters(module):
    constructors, commands = ("__init__", "__new__", "__post_init__"), is_in(module, "mapgym.agents.commands")
    for function in functions(module):
        where = f"{module}.{function.name}, line {function.lineno}"
        has_docstring = ast.get_docstring(function, clean=False) is not None
        docstring = function.body[0].end_lineno - function.body[0].lineno + 1 if has_docstring else 0
        lines = function.end_lineno - function.lineno + 1 - docstring
        assert lines <= MOST_LINES, f"{where} has {lines} lines without its docstring; split it"
        given = function.args
        count = len(given.posonlyargs) + len(given.args) + len(given.kwonlyargs)
        if function.name not in constructors and not commands:
            assert count <= MOST_PARAMETERS, f"{where} takes {count} parameters; join what belongs together"


@pytest.mark.parametrize("module", sorted(MODULES))
def test_functions_are_typed(module):
    """Kernels too: Numba does not look at annotations, but people do."""
    for function in functions(module):
        given = function.args
        names = [*given.posonlyargs, *given.args, *given.kwonlyargs]
        untyped = [one.arg for one in names if one.annotation is None and one.arg not in ("self", "cls")]
        is_typed = not untyped and (function.returns is not None or function.name == "__init__")
        assert is_typed, f"{module}.{function.name}, line {function.lineno}: {untyped or 'what it returns'} has no type"


def kernels(module: str) -> Iterator[str]:
    for function in functions(module):
        names = {
            node.id
            for decorator in function.decorator_list
            for node in ast.walk(decorator)
            if isinstance(node, ast.Name)
        }
        if names & {"kernel", "inlined_kernel", "allocating_kernel"}:
            yield function.name


@pytest.mark.parametrize("module", sorted(MODULES))
def test_kernels_stand_in_modules_that_say_so(module):
    if not module.endswith("_kernels"):
        assert list(kernels(module)) == [], f"{module}: kernels stand in a module x_kernels beside x"


SHARED_KERNELS = ("mapgym.compilation", "mapgym.mapping", "mapgym.mapspace.construction")
"""Rooms whose kernels others call: random numbers, mappings, and the process that builds them."""


@pytest.mark.parametrize("module", sorted(module for module in MODULES if not module.endswith("_kernels")))
def test_kernels_are_called_from_their_own_room(module):
    """Python calls kernels of its own folder, or of one inside; data and constants of kernels are for all."""
    for node in ast.walk(tree_of(module)):
        if isinstance(node, ast.ImportFrom) and node.module in MODULES and str(node.module).endswith("_kernels"):
            room = str(node.module).rpartition(".")[0]
            called = {alias.name for alias in node.names} & set(kernels(str(node.module)))
            is_near = is_in(room, module.rpartition(".")[0]) or any(is_in(room, shared) for shared in SHARED_KERNELS)
            assert is_near or not called, f"{module} calls {called} of {node.module}; let a module of that room do so"


def test_tests_mirror_the_tree():
    """A folder of tests is named after the room that it tests; three hold what all of them use."""
    folders = {path.parent.relative_to(REPOSITORY / "tests") for path in (REPOSITORY / "tests").rglob("test_*.py")}
    rooms = {Path(*module.split(".")[1:]) for module in FACES}
    special = {Path("fuzz"), Path("crash"), Path(".")}
    assert sorted(folders - rooms - special) == []


def unnamed(nodes: Iterable[ast.AST]) -> Iterator[ast.Subscript]:
    """Numbers used as an index into the arrays of mappings, which have names."""
    for node in nodes:
        is_maps = isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name) and node.value.id == "maps"
        if is_maps and isinstance(node.slice, ast.Constant) and isinstance(node.slice.value, int):
            yield node


@pytest.mark.parametrize("module", sorted(MODULES))
def test_arrays_of_mappings_go_by_their_names(module):
    assert [node.lineno for node in unnamed(ast.walk(tree_of(module)))] == []
