"""Records of Timeloop's runs in JSON, and how this cost model compares with them."""

from mapgym.timeloop.records.architectures import timeloop_accelerator
from mapgym.timeloop.records.records import (
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
