"""Agents of Stable-Baselines3, and the training of their policies."""
