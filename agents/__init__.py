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
from mapgym.agents.learned import ppo as _ppo
from mapgym.agents.search import gamma as _gamma, random as _random

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
