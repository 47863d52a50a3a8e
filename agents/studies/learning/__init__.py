"""Study: what learned mappers need."""
