"""Settings that every test shares."""

from __future__ import annotations

import os

from hypothesis import settings

# Workers run side by side: more threads than one in each would only wait for each other. Must be set before NumPy or
# PyTorch is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MPLBACKEND", "Agg")

# No deadline: the first example of a test may wait for a compilation. Continuous integration draws the same examples
# in every run.
settings.register_profile("mapgym", deadline=None, derandomize="CI" in os.environ, print_blob=True)
settings.load_profile("mapgym")
