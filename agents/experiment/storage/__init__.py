"""Results of experiments on disk."""
