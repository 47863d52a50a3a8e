"""Study: fronts of energy against latency."""
