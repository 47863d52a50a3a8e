"""Mind Mappings: gradients through a learned cost model."""

from mapgym.agents.learned.mind_mappings.mind_mappings import MindMappings

__all__ = ["MindMappings"]
