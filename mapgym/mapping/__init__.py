"""Mappings, and which of them hardware can run."""

from mapgym.mapping.mapping import Mapping, MappingBatch

__all__ = ["Mapping", "MappingBatch"]
