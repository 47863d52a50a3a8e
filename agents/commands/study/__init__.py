"""``mapgym study``: what is true of whole sets of tasks.

A module of this folder is a study: its function ``run`` becomes the command of its name.
"""

from __future__ import annotations

import importlib
import pkgutil

import typer

study = typer.Typer(
    name="study", help="Studies of whole sets of tasks, with tables and pictures.", no_args_is_help=True
)


@study.callback()
def _options() -> None:
    """Studies of whole sets of tasks, with tables and pictures."""


for _module in pkgutil.iter_modules(__path__):
    _name = _module.name
    study.command(_name.replace("_", "-"))(importlib.import_module(f"{__name__}.{_name}").run)
