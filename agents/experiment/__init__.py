"""Experiments: a matrix of (task, agent, seed), its results on disk, statistics, reports, plots and benchmarks."""
