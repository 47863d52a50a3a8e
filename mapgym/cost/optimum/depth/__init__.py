"""The certified optimum at any number of storage levels, with networks that cost energy; docs/exact.md, "Depth"."""
