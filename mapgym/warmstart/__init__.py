"""Warm start: begin the search of a layer from the solved mapping of a similar one."""

from __future__ import annotations

from mapgym.warmstart.buffer import Damage, Entry, Neighbor, ReplayBuffer
from mapgym.warmstart.similarity import SIMILARITIES, Similarity, editing_distance, log_ratio_distance, similarity
from mapgym.warmstart.start import Start, find_start
from mapgym.warmstart.transfer import transfer, transfer_batch

__all__ = [
    "SIMILARITIES",
    "Damage",
    "Entry",
    "Neighbor",
    "ReplayBuffer",
    "Similarity",
    "Start",
    "editing_distance",
    "find_start",
    "log_ratio_distance",
    "similarity",
    "transfer",
    "transfer_batch",
]
