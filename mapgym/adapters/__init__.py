"""What other libraries of reinforcement learning need to take these environments; docs/libraries.md shows each of them.

:class:`MaskInObservation` and :class:`VectorMaskInObservation` need Gymnasium alone. :mod:`mapgym.adapters.sb3` needs
the library that it is named after, and is imported by its full name.
"""

from __future__ import annotations

from mapgym.adapters.mask_in_observation import MaskInObservation, VectorMaskInObservation

__all__ = ["MaskInObservation", "VectorMaskInObservation"]
