"""Learned mappers, one file each; they need the extra ``rl``."""
