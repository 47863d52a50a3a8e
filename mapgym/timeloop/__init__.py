"""Timeloop's formats: specifications that people have, and records of its runs and how this cost model compares."""

from mapgym.timeloop.records import (
    ValidationReport,
    timeloop_accelerator,
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
