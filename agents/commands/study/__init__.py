"""``mapgym study``: what is true of whole sets of tasks.

A module of this folder is a study: its function ``run`` becomes the command of its name.
"""

from __future__ import annotations

import pkgutil

import typer

from mapgym.agents.commands.lazy import lazy_group

_STUDIES = {module.name.replace("_", "-"): f"{__name__}.{module.name}:run" for module in pkgutil.iter_modules(__path__)}

study = typer.Typer(
    name="study",
    cls=lazy_group(_STUDIES),
    help="Studies of whole sets of tasks, with tables and pictures.",
    no_args_is_help=True,
)


@study.callback()
def _options() -> None:
    """Studies of whole sets of tasks, with tables and pictures."""
