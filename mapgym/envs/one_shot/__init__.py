"""``MapSpaceOneShot-v0``: a whole mapping in one action."""
