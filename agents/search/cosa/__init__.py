"""CoSA: one mixed-integer program."""

from mapgym.agents.search.cosa.cosa import Cosa

__all__ = ["Cosa"]
