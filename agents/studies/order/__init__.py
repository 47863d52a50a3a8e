"""Study: what the order of loops is worth."""
