"""What the reference shows, found by reading the source: no module is named here.

Shown are the names that a package exports (its ``__all__``) and the modules that readers are taught: those that the
README, a page of the documentation or a docstring that is shown itself names in full.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

FOLDERS = {"mapgym": "mapgym", "agents": "mapgym.agents"}
"""Folder of the checkout: the package that it is."""

_DOTTED = re.compile(r"\bmapgym(?:\.[A-Za-z]\w*)+")
_IMPORT = re.compile(r"\bfrom (mapgym[\w.]*) import ([\w, ]+)")


@dataclass(frozen=True)
class Member:
    """A public name of a module.

    Attributes:
        kind: "class", "function" or "data".
        node: where it is defined.
        docstring: what is said about it, as it is written.
    """

    kind: str
    node: ast.stmt
    docstring: str


@dataclass(frozen=True)
class Module:
    """One source file."""

    name: str
    path: Path

    @property
    def is_package(self) -> bool:
        """Whether it is the ``__init__.py`` of a folder."""
        return self.path.name == "__init__.py"

    @property
    def package(self) -> str:
        """The package on whose page it is shown."""
        return self.name if self.is_package else self.name.rpartition(".")[0]

    @cached_property
    def tree(self) -> ast.Module:
        """The parsed source."""
        return ast.parse(self.path.read_text(encoding="utf-8"))

    @cached_property
    def exports(self) -> tuple[str, ...]:
        """The entries of ``__all__``."""
        for node in self.tree.body:
            if isinstance(node, ast.Assign) and _target(node) == "__all__":
                return tuple(ast.literal_eval(node.value))
        return ()

    @cached_property
    def imports(self) -> dict[str, tuple[str, str]]:
        """Name here: (module, name there)."""
        return {
            alias.asname or alias.name: (node.module or "", alias.name)
            for node in self.tree.body
            if isinstance(node, ast.ImportFrom)
            for alias in node.names
        }

    @cached_property
    def members(self) -> dict[str, Member]:
        """What the module defines and shows: public classes and functions, and constants with a docstring."""
        found = {}
        for node, after in zip(self.tree.body, [*self.tree.body[1:], ast.Pass()], strict=True):
            if isinstance(node, ast.ClassDef | ast.FunctionDef):
                kind = "class" if isinstance(node, ast.ClassDef) else "function"
                found[node.name] = Member(kind, node, ast.get_docstring(node) or "")
            elif (name := _target(node)) and isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
                found[name] = Member("data", node, str(after.value.value))
        return {name: member for name, member in found.items() if not name.startswith("_")}


def _target(node: ast.stmt) -> str:
    """The name that an assignment of one name sets; empty for any other statement."""
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return targets[0].id if len(targets) == 1 and isinstance(targets[0], ast.Name) else ""


@dataclass(frozen=True)
class Entry:
    """One description in the reference.

    Attributes:
        name: the name under which readers import it, with its package or module.
        member: what it is.
    """

    name: str
    member: Member


class Reference:
    """The modules of the checkout, and what of them is shown where."""

    def __init__(self, texts: Iterable[str]) -> None:
        """Reads all modules.

        Args:
            texts: the pages that teach modules.
        """
        self.modules = {module.name: module for module in _modules()}
        self._exported = self._find_exports()
        self.shown = self._find_shown(texts)

    @classmethod
    def of_the_checkout(cls) -> Reference:
        """The reference that the pages of this checkout ask for."""
        pages = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
        return cls(path.read_text(encoding="utf-8") for path in pages)

    def pages(self) -> dict[str, list[Module]]:
        """Package: the modules that its page shows, the package itself first."""
        pages: dict[str, list[Module]] = {}
        for name in sorted(self.shown):
            module = self.modules[name]
            pages.setdefault(module.package, [self.modules[module.package]])
            if not module.is_package:
                pages[module.package].append(module)
        return pages

    def entries(self, module: Module) -> Iterator[Entry]:
        """What is described under a module: what it exports first, unless a package further out exports it too."""
        for name in module.exports:
            home, origin = self.resolve(module.name, name)
            if self._defines(home, origin) and self.home(home, origin) == f"{module.name}.{name}":
                yield Entry(f"{module.name}.{name}", self.modules[home].members[origin])
        for name, member in module.members.items():
            if self.home(module.name, name) == f"{module.name}.{name}" and name not in module.exports:
                yield Entry(f"{module.name}.{name}", member)

    def elsewhere(self, module: Module) -> list[str]:
        """Members and exports of a module that are described under another name, by that name."""
        homes = {self.home(*self.resolve(module.name, name)) for name in [*module.members, *module.exports]}
        return sorted(name for name in homes if name.rpartition(".")[0] != module.name)

    def resolve(self, module: str, name: str) -> tuple[str, str]:
        """The module that defines what a module calls by a name, and its name there."""
        while module in self.modules and name in self.modules[module].imports:
            module, name = self.modules[module].imports[name]
        return module, name

    def home(self, module: str, name: str) -> str:
        """The full name under which a member is described: that of the outermost package that exports it."""
        return self._exported.get((module, name), f"{module}.{name}")

    def is_shown(self, dotted: str) -> bool:
        """Whether the reference has a module or member of this full name."""
        module, _, name = dotted.rpartition(".")
        return dotted in self.shown or (module in self.shown and name in self._public(module))

    def _find_exports(self) -> dict[tuple[str, str], str]:
        exported: dict[tuple[str, str], str] = {}
        # Outermost packages first.
        for module in sorted(self.modules.values(), key=lambda module: (module.name.count("."), module.name)):
            for name in module.exports:
                origin = self.resolve(module.name, name)
                # A module that is exported keeps its name.
                if ".".join(origin) not in self.modules:
                    exported.setdefault(origin, f"{module.name}.{name}")
        return exported

    def _public(self, module: str) -> set[str]:
        return {*self.modules[module].members, *self.modules[module].exports}

    def _find_shown(self, texts: Iterable[str]) -> set[str]:
        shown: set[str] = set()
        new = {name for name, module in self.modules.items() if module.exports}
        exports = {".".join(self.resolve(name, export)) for name in new for export in self.modules[name].exports}
        new |= exports & self.modules.keys()
        new |= {name for text in texts for name in self._named(text)}
        while new:
            shown |= new
            named = {found for name in new for text in self._docstrings(name) for found in self._named(text)}
            # What docstrings say about compiled code is for those who read it.
            new = {name for name in named - shown if not name.endswith("kernels")}
        # A package may export a function that has the name of its module; then that name means the function.
        return shown - set(self._exported.values())

    def _docstrings(self, name: str) -> Iterator[str]:
        """The docstrings that the reference shows of a module."""
        module = self.modules[name]
        yield ast.get_docstring(module.tree) or ""
        origins = [self.resolve(name, export) for export in module.exports]
        exported = [self.modules[home].members[origin] for home, origin in origins if self._defines(home, origin)]
        for member in [*module.members.values(), *exported]:
            yield member.docstring
            if isinstance(member.node, ast.ClassDef):
                for node in member.node.body:
                    if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
                        yield ast.get_docstring(node) or ""

    def _defines(self, module: str, name: str) -> bool:
        return module in self.modules and name in self.modules[module].members

    def _named(self, text: str) -> Iterator[str]:
        """The modules that a text names in full or imports from."""
        dotted = _DOTTED.findall(text)
        for module, names in _IMPORT.findall(text):
            dotted += [f"{module}.{name.strip()}" for name in names.split(",")]
        for name in dotted:
            while name and name not in self.modules:
                name = name.rpartition(".")[0]
            if name:
                yield name


def _modules() -> Iterator[Module]:
    """All modules but private ones."""
    for folder, package in FOLDERS.items():
        for path in sorted((ROOT / folder).rglob("*.py")):
            parts = [package, *path.relative_to(ROOT / folder).with_suffix("").parts]
            if parts[-1] == "__init__":
                parts.pop()
            if not any(part.startswith("_") for part in parts):
                yield Module(".".join(parts), path)
