"""``MapSpaceRefine-v0``: edits a complete mapping."""
