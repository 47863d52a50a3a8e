"""Agents that search map spaces: classical searchers and learned policies behind one interface."""

from __future__ import annotations

import importlib
import pkgutil

from mapgym.agents import learned, search
from mapgym.agents.base import (
    DEFAULT_AGENT,
    Agent,
    AskTellAgent,
    agent_class,
    agent_names,
    make_agent,
    parameter,
    register,
)

# An agent registers itself when its module is imported; a new module in these folders needs no entry anywhere. Modules
# that import an optional package when they are imported are for agents' own use: their names begin with an underscore.
for _package in (search, learned):
    for _module in pkgutil.walk_packages(_package.__path__, f"{_package.__name__}."):
        if not _module.name.rpartition(".")[2].startswith("_"):
            importlib.import_module(_module.name)

__all__ = [
    "DEFAULT_AGENT",
    "Agent",
    "AskTellAgent",
    "agent_class",
    "agent_names",
    "make_agent",
    "parameter",
    "register",
]
