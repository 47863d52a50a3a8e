"""Our tasks and mappings in Timeloop's words."""

from mapgym.timeloop.writing.files import export_timeloop

__all__ = ["export_timeloop"]
