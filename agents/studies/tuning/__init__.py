"""Study: how the parameters of the agents were chosen."""
