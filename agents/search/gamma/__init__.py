"""GAMMA: a genetic search with operators for each mapping axis."""

from mapgym.agents.search.gamma.gamma import Gamma

__all__ = ["Gamma"]
