"""Study: how mappers compare."""
