"""Classical searchers, one file each."""
