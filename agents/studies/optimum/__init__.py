"""Study: how far mappers are from certified optima."""
