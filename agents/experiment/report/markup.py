"""Elements of HTML and SVG as text, escaped by construction."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

from mapgym.errors.text import printable_lines


class Markup(str):
    """Text that is markup already; everything else is escaped when it is put into an element."""

    __slots__ = ()


def element(tag: str, *children: object, **attributes: object) -> Markup:
    """One element.

    Args:
        tag: its name.
        *children: markup, or anything else, which becomes escaped text.
        **attributes: an underscore at the end of a name is dropped, others become hyphens ("class_", "data_value");
            those that are None or False are left out, True gives one without a value.
    """
    opening = tag
    for name, value in attributes.items():
        if value is not None and value is not False:
            name = name.rstrip("_").replace("_", "-")
            opening += f" {name}" if value is True else f' {name}="{_plain(value)}"'
    if not children and tag in _VOID:
        return Markup(f"<{opening}>")
    return Markup(f"<{opening}>{joined(children)}</{tag}>")


def joined(children: Iterable[object], separator: str = "") -> Markup:
    """Several children one after the other."""
    return Markup(separator.join(child if isinstance(child, Markup) else _plain(child) for child in children))


def _plain(value: object) -> str:
    # XML has no control characters but line feeds, not even as entities.
    return escape(printable_lines(str(value)), quote=True)


_VOID = frozenset({"meta", "br", "hr", "col"})
