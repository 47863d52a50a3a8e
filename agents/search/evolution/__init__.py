"""The default searcher."""

from mapgym.agents.search.evolution.evolution import Evolution

__all__ = ["Evolution"]
