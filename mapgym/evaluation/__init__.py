"""How searches are judged: budgets and books, fronts, objectives over several densities, the best that is known."""
