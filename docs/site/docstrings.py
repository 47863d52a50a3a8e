"""An extension of Sphinx that shows docstrings and signatures in the forms that the project writes them in."""

from __future__ import annotations

import re
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.transforms.post_transforms import SphinxPostTransform

# Stands for the space between names that are described together, which would make the first one a type to Sphinx.
_SPACE = "\u2063"

_TOGETHER = re.compile(r":(?:param|ivar) \S+(?:, \S+)+:")
_ARRAY = re.compile(r"~?numpy\.ndarray\[tuple\[~?(?:typing\.)?Any, \.\.\.\], ~?numpy\.dtype\[([^\]]+)\]\]")


class Spaces(SphinxPostTransform):
    """Puts the spaces back between names that are described together ("P, Q: output rows and columns")."""

    default_priority = 5

    def run(self, **kwargs: Any) -> None:
        """Goes through the text of a page."""
        for text in list(self.document.findall(nodes.Text)):
            if _SPACE in text:
                text.parent.replace(text, nodes.Text(text.replace(_SPACE, " ")))


def _read_docstring(app: Sphinx, what: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    # One in Markdown has a page of its own.
    if any(line.startswith("## ") for line in lines):
        del lines[lines.index("") :]
    for number, line in enumerate(lines):
        if match := _TOGETHER.match(line):
            kind, _, names = match[0].partition(" ")
            lines[number] = f"{kind} {names.replace(', ', ',' + _SPACE)}{line[match.end() :]}"


def _read_signature(
    app: Sphinx, what: str, name: str, thing: Any, options: Any, signature: str | None, returns: str | None
) -> tuple[str | None, str | None]:
    def written(text: str) -> str:
        # A default that is made anew each time, in valid Python; and arrays as annotations name them.
        return _ARRAY.sub(r"~numpy.typing.NDArray[\1]", text.replace("<factory>", "..."))

    return signature and written(signature), returns and written(returns)


def setup(app: Sphinx) -> dict[str, bool]:
    """Registers the extension."""
    app.add_post_transform(Spaces)
    # After napoleon, which turns sections into fields.
    app.connect("autodoc-process-docstring", _read_docstring, priority=600)
    app.connect("autodoc-process-signature", _read_signature)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
