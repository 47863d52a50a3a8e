"""The cost model: kernels with Timeloop's counts, and lower bounds."""

from mapgym.cost.bound import LowerBound, lower_bound
from mapgym.cost.model import OBJECTIVES, Cost, CostBatch, CostDetail, CostModel, check_objective

__all__ = [
    "OBJECTIVES",
    "Cost",
    "CostBatch",
    "CostDetail",
    "CostModel",
    "LowerBound",
    "check_objective",
    "lower_bound",
]
