"""The commands of ``mapgym``, one module each; they import the heavy parts only when they run."""
