"""The decision process that builds a mapping, one legal choice at a time."""
