"""The map space: all legal mappings of a workload onto an accelerator."""

from mapgym.mapspace.space import MapSpace

__all__ = ["MapSpace"]
