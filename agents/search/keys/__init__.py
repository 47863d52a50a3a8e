"""Black-box optimisers over vectors of keys."""
