"""GOMA: matrix products on three levels as one mixed-integer program."""

from mapgym.agents.search.goma.goma import Goma

__all__ = ["Goma"]
