"""``mapgym import``: specifications and networks of other tools, written as ours.

A module of this folder is a format: its function ``run`` becomes the command of its name.
"""

from __future__ import annotations

import pkgutil

import typer

from mapgym.agents.commands.lazy import lazy_group

_FORMATS = {module.name.replace("_", "-"): f"{__name__}.{module.name}:run" for module in pkgutil.iter_modules(__path__)}

import_group = typer.Typer(
    name="import",
    cls=lazy_group(_FORMATS),
    help="Writes specifications and networks of other tools as ours.",
    no_args_is_help=True,
)


@import_group.callback()
def _options() -> None:
    """Writes specifications and networks of other tools as ours."""
