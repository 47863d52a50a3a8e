"""Agents that search map spaces: classical searchers and learned policies behind one interface."""

from __future__ import annotations

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

# Importing the modules registers their agents.
from mapgym.agents.learned import ppo as _ppo  # noqa: F401
from mapgym.agents.search import exact as _exact, gamma as _gamma, random as _random  # noqa: F401

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
