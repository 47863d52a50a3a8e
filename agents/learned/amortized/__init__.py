"""One policy for many layers."""

from mapgym.agents.learned.amortized.amortized import Amortized

__all__ = ["Amortized"]
