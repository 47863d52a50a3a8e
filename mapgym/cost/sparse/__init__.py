"""The counts of Sparseloop: what zeros save, and what saying where they are costs."""
