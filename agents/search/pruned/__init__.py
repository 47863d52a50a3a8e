"""Searchers of the space without redundant factors and orders."""
