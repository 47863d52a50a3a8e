"""The studies behind ``mapgym study``: what they compute, their tables and their pictures."""
