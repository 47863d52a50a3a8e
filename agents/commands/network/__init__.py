"""The commands about whole networks."""
