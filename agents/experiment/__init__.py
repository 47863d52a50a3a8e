"""Comparisons: a matrix of tasks, agents and seeds, its statistics, plots and reports."""
