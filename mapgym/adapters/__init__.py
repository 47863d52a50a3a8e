"""What other libraries of reinforcement learning need to take these environments; docs/libraries.md shows each of them.

:class:`MaskInObservation` and :class:`VectorMaskInObservation` need Gymnasium alone. :mod:`mapgym.adapters.sb3` and
:mod:`mapgym.adapters.torchrl` need the libraries that they are named after, and are imported by their full names.
"""

from __future__ import annotations

from mapgym.adapters.mask_in_observation import MaskInObservation, VectorMaskInObservation

__all__ = ["MaskInObservation", "VectorMaskInObservation"]
