"""``MapSpaceSparse-v0``: one mapping for several densities."""
