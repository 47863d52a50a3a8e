"""Monte-Carlo tree search over the decisions of a construction."""
