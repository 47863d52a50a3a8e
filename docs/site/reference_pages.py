"""The pages of the reference: one for each package, with directives of autodoc."""

from __future__ import annotations

import ast
import inspect
import re

from environment_pages import environment_classes
from modules import Entry, Module, Reference

LONGEST_VALUE = 60
"""Characters; a constant whose value is longer is shown without it."""

_PRIVATE = re.compile(r"\b_\w")


def reference_pages(reference: Reference) -> dict[str, str]:
    """Page: its text, in reStructuredText."""
    elsewhere = {name for names in environment_classes(reference).values() for name in names}
    return {
        f"reference/{package}.rst": "\n".join(_page(reference, package, modules, elsewhere))
        for package, modules in reference.pages().items()
    }


def _page(reference: Reference, package: str, modules: list[Module], elsewhere: set[str]) -> list[str]:
    lines: list[str] = []
    for module in modules:
        underline = "=" if module.name == package else "-"
        lines += [module.name, underline * len(module.name), "", f".. automodule:: {module.name}", ""]
        entries = list(reference.entries(module))
        for entry in entries:
            if entry.name not in elsewhere:
                lines += _directive(entry)
        others = sorted({*reference.elsewhere(module), *(entry.name for entry in entries if entry.name in elsewhere)})
        if others:
            names = ", ".join(f":py:obj:`{name}`" for name in others)
            lines += [f"Described elsewhere: {names}.", ""]
    return lines


def _directive(entry: Entry) -> list[str]:
    member = entry.member
    if isinstance(member.node, ast.ClassDef):
        bases = ["   :show-inheritance:"] if member.node.bases else []
        return [f".. autoclass:: {entry.name}", "   :members:", *bases, ""]
    if member.kind == "function":
        return [f".. autofunction:: {entry.name}", ""]
    # Written out, because at run time a constant has no docstring, least of all one that is exported.
    lines = [f".. py:data:: {entry.name}"]
    expression = member.node.value if isinstance(member.node, ast.Assign | ast.AnnAssign) else None
    value = ast.unparse(expression) if expression else ""
    if value and len(value) <= LONGEST_VALUE and not _PRIVATE.search(value):
        lines.append(f"   :value: {value}")
    docstring = inspect.cleandoc(member.docstring)
    return [*lines, "", *(f"   {line}".rstrip() for line in docstring.splitlines()), ""]
