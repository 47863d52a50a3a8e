"""The arrays of one episode in one piece of memory, so that it is begun, saved and restored in one copy."""

from __future__ import annotations

from typing import Any

import numpy as np


class EpisodeMemory:
    """State, observation and mask of one episode.

    Attributes:
        state: int32[...], of the construction.
        observation: float32[size].
        mask: int8[actions], the legal actions.
        content: all of them as bytes; what is written there is in them.
    """

    __slots__ = ("_sizes", "content", "mask", "observation", "state")

    def __init__(self, sizes: tuple[int, int, int], content: bytes) -> None:
        """Makes the arrays.

        Args:
            sizes: entries of state, observation and mask.
            content: of them, one after the other.
        """
        self._sizes = sizes
        memory = np.frombuffer(content, np.uint8).copy()
        state, observation = np.dtype(np.int32).itemsize * sizes[0], np.dtype(np.float32).itemsize * sizes[1]
        self.state = memory[:state].view(np.int32)
        self.observation = memory[state : state + observation].view(np.float32)
        self.mask = memory[state + observation :].view(np.int8)
        self.content = memory.data

    def __reduce__(self) -> Any:
        # A copy has the same content in a memory of its own.
        return EpisodeMemory, (self._sizes, self.content.tobytes())
