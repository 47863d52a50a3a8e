"""Timeloop's formats: records of its runs, and how this cost model compares with them."""

from mapgym.timeloop.architectures import timeloop_accelerator
from mapgym.timeloop.records import (
    ValidationReport,
    timeloop_mapping,
    timeloop_workload,
    validate_file,
)

__all__ = [
    "ValidationReport",
    "timeloop_accelerator",
    "timeloop_mapping",
    "timeloop_workload",
    "validate_file",
]
