"""An extension of Sphinx that leads every name in docstrings and annotations to the place that describes it.

A name may be that of a module, or one under which another module exports it; it may be inherited, or be known only
where it stands. What exists but is not shown (internals, other libraries) stays text: the site is built without a
network. What does not exist is left to Sphinx, which complains.
"""

from __future__ import annotations

import ast
import importlib
import inspect
from collections.abc import Iterator
from functools import cache
from types import ModuleType
from typing import Any

from modules import Module, Reference
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util.nodes import find_pending_xref_condition


class NameResolver(SphinxPostTransform):
    """Gives references the full names of what they mean, before Sphinx looks these up."""

    # Before Sphinx's own (10).
    default_priority = 5

    def run(self, **kwargs: Any) -> None:
        """Goes through the references of a page."""
        described = self.env.domains.python_domain.objects
        for node in list(self.document.findall(addnodes.pending_xref)):
            if node["refdomain"] != "py":
                continue
            names = list(_full_names(node["reftarget"], list(_places(node))))
            shown = next((name for name in names if name in described), None)
            if shown is not None:
                node["reftarget"] = shown
                node["reftype"], node["refspecific"] = "obj", False
            elif names or _is_prose(node) or node["reftarget"].partition(".")[0] in self.config.autodoc_mock_imports:
                short = find_pending_xref_condition(node, "resolved")
                node.replace_self((short or node).children)


def _is_prose(node: addnodes.pending_xref) -> bool:
    """Whether Sphinx takes for a type what a docstring says about an array, such as levels in float64[levels]."""
    return bool(node.get("refspecific")) and node["reftype"] == "class"


def _places(node: addnodes.pending_xref) -> Iterator[str]:
    """Full names of what may know a name that stands somewhere: the things described there, and their modules."""
    described: Any = node
    while (described := described.parent) is not None:
        if isinstance(described, addnodes.desc):
            signature = described[0]
            dotted = f"{signature['module']}.{signature['fullname']}"
            yield dotted
            yield from _modules_of(_found(dotted))
    if node.get("py:module"):
        yield node["py:module"]


def _modules_of(found: tuple[str, tuple[str, ...], Any] | None) -> Iterator[str]:
    """The modules in which a thing, and what it inherits, is written."""
    if found is None:
        return
    thing = found[2].fget if isinstance(found[2], property) else found[2]
    for part in inspect.getmro(thing) if inspect.isclass(thing) else [thing]:
        module = getattr(part, "__module__", None)
        if isinstance(module, str) and module.split(".")[0] == "mapgym":
            yield module


def _full_names(target: str, places: list[str]) -> Iterator[str]:
    """The full names of what a name means at one of some places; none if it means nothing."""
    for dotted in [*(f"{place}.{target}" for place in places), target, f"builtins.{target}"]:
        thing = _found(dotted)
        if thing is not None:
            yield from _homes(*thing)
            return


def _homes(module: str, path: tuple[str, ...], _: Any) -> Iterator[str]:
    """Full names under which something may be described, the likeliest first."""
    if not path:
        yield module
        return
    reference = _reference()
    yield ".".join([reference.home(*reference.resolve(module, path[0])), *path[1:]])
    owner = _found(".".join([module, *path[:-1]]))
    if owner and inspect.isclass(owner[2]):
        for base in owner[2].__mro__:
            yield f"{reference.home(base.__module__, base.__qualname__)}.{path[-1]}"


@cache
def _found(dotted: str) -> tuple[str, tuple[str, ...], Any] | None:
    """The module, the path in it, and the thing itself that a full name means."""
    parts = dotted.split(".")
    for length in range(len(parts), 0, -1):
        module = _module(".".join(parts[:length]))
        if module is not None:
            break
    else:
        return None
    thing: Any = module
    for name in parts[length:]:
        if not hasattr(thing, name):
            if name in getattr(thing, "__annotations__", {}):
                thing = None
                continue
            return None
        thing = getattr(thing, name)
    return module.__name__, tuple(parts[length:]), thing


@cache
def _module(name: str) -> ModuleType | None:
    try:
        module = importlib.import_module(name)
    except ImportError:
        return None
    ours = _reference().modules.get(name)
    if ours is not None:
        _import_names_of_annotations(ours, module)
    return module


def _import_names_of_annotations(source: Module, module: ModuleType) -> None:
    """Runs the imports that a module has for type checkers only, so that its annotations mean something."""
    for node in source.tree.body:
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            for statement in node.body:
                try:
                    exec(compile(ast.Module([statement], []), str(source.path), "exec"), vars(module))
                except ImportError:  # an extra that is not installed
                    continue


@cache
def _reference() -> Reference:
    return Reference.of_the_checkout()


def setup(app: Sphinx) -> dict[str, bool]:
    """Registers the extension."""
    app.add_post_transform(NameResolver)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
