"""Certified optima of map spaces; docs/exact.md has the theory and its proofs."""

from mapgym.cost.optimum.front import FrontProgress, ProvenFront, ProvenPoint, find_front
from mapgym.cost.optimum.solver import Optimum, Progress, find_optimum

__all__ = [
    "FrontProgress",
    "Optimum",
    "Progress",
    "ProvenFront",
    "ProvenPoint",
    "find_front",
    "find_optimum",
]
