"""Certified optima of map spaces; docs/exact.md has the theory and its proofs."""

from mapgym.cost.optimum.solver import Optimum, find_optimum

__all__ = ["Optimum", "find_optimum"]
