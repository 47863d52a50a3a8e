"""``mapgym import``: files of other tools as files of ours.

A module of this folder is a format: its function ``run`` becomes the command of its name.
"""

from __future__ import annotations

import pkgutil

import typer

from mapgym.agents.commands.lazy import lazy_group

_FORMATS = {module.name.replace("_", "-"): f"{__name__}.{module.name}:run" for module in pkgutil.iter_modules(__path__)}

import_ = typer.Typer(
    name="import",
    cls=lazy_group(_FORMATS),
    help="Brings in accelerators and networks that were written for other tools.",
    no_args_is_help=True,
)


@import_.callback()
def _options() -> None:
    """Brings in accelerators and networks that were written for other tools."""
