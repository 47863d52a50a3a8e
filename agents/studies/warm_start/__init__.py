"""Study: what warm start is worth."""
