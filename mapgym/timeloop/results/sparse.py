"""Sparse features behind results, where they say more than what Timeloop was given."""

from __future__ import annotations

from dataclasses import replace

from mapgym.spec.accelerator import Accelerator
from mapgym.spec.sparsity import is_compressed


def with_conversions(accelerator: Accelerator) -> Accelerator:
    """The accelerator with levels that unpack what they get packed and store plain: results show that it was done."""
    levels = []
    for s, level in enumerate(accelerator.levels):
        own = dict(level.formats)
        packed = {
            tensor
            for outer in accelerator.levels[s + 1 :]
            for tensor, ranks in outer.formats
            if is_compressed(ranks) and not is_compressed(own.get(tensor, ()))
        }
        converts = bool(packed)
        levels.append(replace(level, decompression_supported=converts, compression_supported=converts))
    return replace(accelerator, levels=tuple(levels))
