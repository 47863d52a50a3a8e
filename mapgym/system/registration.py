"""The names under which Gymnasium finds the environments; their modules are imported when one is made."""

from __future__ import annotations

import gymnasium as gym

_CLASSES = {
    "MapSpace-v0": "MapSpace",
    "MapSpaceOneShot-v0": "MapSpaceOneShot",
    "MapSpaceRefine-v0": "MapSpaceRefine",
    "MapSpaceSparse-v0": "MapSpaceSparse",
    "MapSpaceWarmStart-v0": "MapSpaceWarmStart",
}
"""Id -> how the names of the scalar and the vector environment in ``mapgym.envs`` begin."""

ENVIRONMENT_IDS = tuple(_CLASSES)
"""Every id that mapgym registers."""


def register_environments() -> None:
    """Registers the environments; a second call changes nothing."""
    for name, stem in _CLASSES.items():
        if name not in gym.registry:
            gym.register(name, entry_point=f"mapgym.envs:{stem}Env", vector_entry_point=f"mapgym.envs:{stem}VectorEnv")
