"""What agents, experiments and studies write: tables and mappings."""
