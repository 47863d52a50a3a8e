"""Learned mappers, one file each; torch and Stable-Baselines3 are imported only when one of them searches."""
