"""Study: what sparsity-aware search is worth."""
