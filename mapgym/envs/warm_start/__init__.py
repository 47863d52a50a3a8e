"""``MapSpaceWarmStart-v0``: refines the mapping of a similar layer."""
