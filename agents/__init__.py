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
