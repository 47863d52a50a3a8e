"""Certified optima of map spaces; docs/exact.md has the theory and its proofs."""

from mapgym.cost.optimum.solver import Optimum, Progress, find_optimum

__all__ = ["Optimum", "Progress", "find_optimum"]
