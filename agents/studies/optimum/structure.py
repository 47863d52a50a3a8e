"""What an optimal mapping looks like: which tensor stays, which dims are parallel, which tensors bypass a level."""

from __future__ import annotations

from dataclasses import dataclass

from mapgym.mapping import Mapping
from mapgym.spec.accelerator import Accelerator
from mapgym.spec.workload import Workload

ALL, NONE = "all", "none"
"""Stationary at a boundary: every tensor, because no loop is above it; or none."""


@dataclass(frozen=True)
class Structure:
    """The shape of a mapping, without its sizes.

    Attributes:
        stationary: level name -> tensor that stays in the level while the innermost loop above it runs, ``ALL`` or
            ``NONE``; only levels that keep something, and not the outermost.
        parallel: level name -> dim -> spatial factor above 1; only levels with fan-out.
        bypassed: level name -> names of the tensors that the level could hold and does not; not the outermost.
    """

    stationary: dict[str, str]
    parallel: dict[str, dict[str, int]]
    bypassed: dict[str, tuple[str, ...]]

    @classmethod
    def of(cls, mapping: Mapping, workload: Workload, accelerator: Accelerator) -> Structure:
        """Reads a mapping of a task."""
        stationary, parallel, bypassed = {}, {}, {}
        for s, level in enumerate(accelerator.for_workload(workload).levels):
            if accelerator.fanout_x[s] * accelerator.fanout_y[s] > 1:
                on_x, on_y = mapping.spatial_sides(s)
                parallel[level.name] = dict(on_x + on_y)
            if s == len(accelerator.levels) - 1:
                continue
            kept = [tensor for t, tensor in enumerate(workload.tensors) if mapping.keep[s, t]]
            bypassed[level.name] = tuple(
                tensor.name
                for t, tensor in enumerate(workload.tensors)
                if not mapping.keep[s, t] and (level.keep_only is None or tensor.name in level.keep_only)
            )
            if kept:
                above = [dim for u in range(s + 1, len(accelerator.levels)) for dim, _ in mapping.temporal_loops(u)]
                # A dim is missing from one tensor at most, as a rule; a level with no loop above it is filled once.
                staying = [tensor.name for tensor in kept if above and above[0] not in tensor.dims]
                stationary[level.name] = " and ".join(staying) or (NONE if above else ALL)
        return cls(stationary, parallel, bypassed)


def dim_label(dim: str, workload: Workload) -> str:
    """The dim, with a note where its letter means something else than in a convolution."""
    return dim if "P" in workload.dims else f"{dim} (matmul)"
