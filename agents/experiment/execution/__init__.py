"""Runs experiments, in this process or in others."""
