"""The command ``mapgym search``."""
