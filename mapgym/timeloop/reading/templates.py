"""Jinja2 templates, in which files for Timeloop v0.4 are written: rendered in a sandbox, within limits.

A template sees what its caller gives it and nothing else of the program. Whatever it does in loops is counted, so that
no template runs for long.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from mapgym.errors import SpecificationError
from mapgym.errors.text import shortened
from mapgym.system.input_file import MOST_BYTES

MOST_STEPS = 200_000
"""Rounds of all loops and calls of all macros of a template."""

MOST_VALUES = 100_000
"""Entries of a list, and characters of a text, that an operation makes."""

_STEP = "__step__"


def is_template(text: str) -> bool:
    """Whether text has anything that a template engine would fill in."""
    return "{{" in text or "{%" in text


def render(text: str, functions: Mapping[str, Callable[..., object]], values: Mapping[str, object], where: str) -> str:
    """The text that a template stands for.

    Args:
        text: the template.
        functions: what it may call.
        values: what its names stand for.
        where: its file, for messages.

    Raises:
        SpecificationError: it is no template, needs a value that is not given, does what the sandbox forbids, or never
            seems to end. What the functions raise goes through.
    """
    # Few files are templates, and the engine takes a while to import.
    import jinja2
    from jinja2 import nodes
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Sandbox(ImmutableSandboxedEnvironment):
        """The sandbox, without operations whose result could fill the memory."""

        intercepted_binops = frozenset({"*", "**", "+"})

        def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
            if operator == "**" and not (isinstance(right, int | float) and abs(right) <= 64):
                raise _LimitError("a power above 64")
            if operator == "*" and max(_length(left) * _size(right), _length(right) * _size(left)) > MOST_VALUES:
                raise _LimitError(f"more than {MOST_VALUES:,} values")
            if operator == "+" and _length(left) + _length(right) > MOST_VALUES:
                raise _LimitError(f"more than {MOST_VALUES:,} values")
            return super().call_binop(context, operator, left, right)

    steps = 0

    def step() -> str:
        nonlocal steps
        steps += 1
        if steps > MOST_STEPS:
            raise _LimitError(f"more than {MOST_STEPS:,} rounds of its loops")
        return ""

    environment = Sandbox(undefined=jinja2.StrictUndefined)
    environment.globals.update(functions)
    environment.globals[_STEP] = step
    for name in ("lipsum", "cycler", "joiner"):
        environment.globals.pop(name, None)
    try:
        tree = environment.parse(text)
        for node in tree.find_all((nodes.For, nodes.Macro)):
            node.body.insert(0, nodes.Output([nodes.Call(nodes.Name(_STEP, "load"), [], [], None, None)]))
        code = environment.compile(tree)
        template = jinja2.Template.from_code(environment, code, dict(environment.globals))
        pieces, size = [], 0
        for piece in template.generate(dict(values)):
            pieces.append(piece)
            size += len(piece)
            if size > MOST_BYTES:
                raise _LimitError(f"more than {MOST_BYTES >> 20} MiB of text")
        return "".join(pieces)
    except _LimitError as error:
        raise SpecificationError(f"{where}: the template makes {error}; write the file without it") from None
    except jinja2.UndefinedError as error:
        raise SpecificationError(
            f"{where}: the template needs a value ({shortened(str(error), 200)}); define it, such as with "
            "--define NAME=VALUE, or write the file without it"
        ) from None
    except jinja2.TemplateSyntaxError as error:
        raise SpecificationError(
            f"{where}, line {error.lineno}: not a valid template ({shortened(str(error.message), 200)}); mend that line"
        ) from None
    except SpecificationError:
        raise
    except Exception as error:
        # A template can call any function with anything.
        problem = f"{type(error).__name__}: {shortened(str(error), 200)}"
        raise SpecificationError(
            f"{where}: the template cannot be filled in ({problem}); mend it or write the file without it"
        ) from None


class _LimitError(Exception):
    """A template that is larger than what anybody writes."""


def _length(value: Any) -> int:
    return len(value) if isinstance(value, str | list | tuple) else 0


def _size(value: Any) -> int:
    return abs(value) if isinstance(value, int) else 0
