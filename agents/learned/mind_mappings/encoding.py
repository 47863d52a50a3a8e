"""Mappings as vectors of real numbers for the surrogate of Mind Mappings, and back.

One vector serves convolutions and matrix products: dims and tensors stand in it by their roles
(:func:`mapgym.agents.search.dataflow.templates.dim_roles`), and a role that a workload does not have is a dim of
bound 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mapgym.agents.search.dataflow.templates import dim_roles, tensor_roles
from mapgym.errors import SpecificationError
from mapgym.errors.text import quoted
from mapgym.mapping import MappingBatch
from mapgym.mapspace.projection import Target, mesh_sides
from mapgym.spec.workload import Workload

ROLES = "GNCMPQRS"
TENSORS = "WIO"
_SLIDING = "PQRS"
PROBLEM_WIDTH = len(ROLES) + len(_SLIDING)
"""Length of the part of a vector that describes the problem and not the mapping."""


@dataclass(frozen=True)
class Encoding:
    """The vectors of the mappings of one workload onto accelerators with a number of levels.

    A vector holds, in this order: log2 of the bound of each role [8]; log2 of the steps of the window, of P, Q, R and S
    [4]; then for each level and role log2 of the temporal factor, log2 of the spatial factor, the place of its temporal
    loop (0 is innermost), the place of its spatial loop, and 1 if that lies on the mesh side Y; then for each level and
    tensor (weights, inputs, outputs) 1 if it is kept. A loop of bound 1 has no place; 8 stands for that.

    Attributes:
        workload: the layer.
        levels: number of storage levels.
    """

    workload: Workload
    levels: int

    @property
    def width(self) -> int:
        """Length of a vector."""
        return vector_width(self.levels)

    @cached_property
    def role_of(self) -> NDArray[np.intp]:
        """intp[dim]: index of the role of each dim.

        Raises:
            SpecificationError: the workload has not three tensors, or two dims of one role.
        """
        workload = self.workload
        operands = tensor_roles(workload)
        roles = dim_roles(workload) if sorted(operands.values()) == sorted(TENSORS) else ()
        if not roles or len(set(roles)) < len(roles):
            raise SpecificationError(
                f"agent 'mind-mappings' cannot describe the workload {quoted(workload.name)} to its surrogate, which "
                "knows convolutions and matrix products of two operands; use another agent, such as 'gamma'"
            )
        return np.array([ROLES.index(role) for role in roles])

    @cached_property
    def tensor_of(self) -> NDArray[np.intp]:
        """intp[3]: index of the weights, the inputs and the outputs among the tensors of the workload."""
        names = {role: name for name, role in tensor_roles(self.workload).items()}
        order = [tensor.name for tensor in self.workload.tensors]
        return np.array([order.index(names[role]) for role in TENSORS])

    @cached_property
    def problem(self) -> NDArray[np.float32]:
        """float32[12]: the part of the vector that all mappings share."""
        bounds = np.ones(len(ROLES))
        bounds[self.role_of] = self.workload.bounds
        steps = np.ones(len(_SLIDING))
        inputs = self.workload.tensors[self.tensor_of[TENSORS.index("I")]]
        for rank in inputs.ranks:
            for dim, coefficient in rank:
                role = ROLES[self.role_of[self.workload.dims.index(dim)]]
                if role in _SLIDING:
                    steps[_SLIDING.index(role)] = coefficient
        return np.log2(np.concatenate([bounds, steps])).astype(np.float32)

    def encode(self, batch: MappingBatch) -> NDArray[np.float32]:
        """float32[n, width]: the vectors of mappings of the workload."""
        n = len(batch)
        vectors = np.empty((n, self.width), np.float32)
        vectors[:, :PROBLEM_WIDTH] = self.problem
        blocks, keep = self._split(vectors)
        blocks[:, 0:2] = 0.0
        blocks[:, 2:4] = len(ROLES)
        blocks[:, 4] = 0.0
        blocks[:, 0, :, self.role_of] = np.log2(batch.temporal).transpose(2, 0, 1)
        blocks[:, 1, :, self.role_of] = np.log2(batch.spatial).transpose(2, 0, 1)
        for block, order, factors in ((2, batch.order, batch.temporal), (3, batch.spatial_order, batch.spatial)):
            blocks[:, block, :, self.role_of] = _places(order, factors).transpose(2, 0, 1)
        blocks[:, 4, :, self.role_of] = (mesh_sides(batch) & (batch.spatial > 1)).transpose(2, 0, 1)
        keep[:] = batch.keep[:, :, self.tensor_of]
        return vectors

    def decode(self, vectors: NDArray[np.float32]) -> Target:
        """What vectors wish for; ``space.fit`` finds the nearest mapping."""
        blocks, keep = self._split(vectors)
        temporal, spatial, places, spatial_places, on_y = (
            blocks[:, block][:, :, self.role_of] for block in range(blocks.shape[1])
        )
        kept = np.empty(keep.shape, np.bool_)
        kept[:, :, self.tensor_of] = keep > 0.5
        return Target(
            temporal=np.exp2(np.clip(temporal, 0, 31), dtype=np.float64),
            spatial=np.exp2(np.clip(spatial, 0, 31), dtype=np.float64),
            order=np.argsort(places, axis=2, kind="stable").astype(np.int8),
            spatial_order=np.argsort(spatial_places, axis=2, kind="stable").astype(np.int8),
            on_y=on_y > 0.5,
            keep=kept,
        )

    def hold_products(self, steps: NDArray[np.float32], visible: NDArray[np.bool_]) -> None:
        """Takes out of steps, in place, what would change the products of factors: they only move between places.

        Args:
            steps: float32[n, width].
            visible: bool[width] entries that may move.
        """
        factors = self._split(steps)[0][:, :2]
        free = self._split(visible[None])[0][:, :2]
        factors -= free * factors.sum(axis=(1, 2), keepdims=True) / np.maximum(free.sum(axis=(1, 2), keepdims=True), 1)

    def _split(self, vectors: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
        """Views of the blocks [n, 5, level, role] and of the keep bits [n, level, tensor]."""
        n, last = len(vectors), self.width - self.levels * len(TENSORS)
        blocks = vectors[:, PROBLEM_WIDTH:last].reshape(n, 5, self.levels, len(ROLES))
        return blocks, vectors[:, last:].reshape(n, self.levels, len(TENSORS))


def vector_width(levels: int) -> int:
    """Length of the vectors for a number of levels."""
    return PROBLEM_WIDTH + levels * (5 * len(ROLES) + len(TENSORS))


def _places(order: NDArray[np.int8], factors: NDArray[np.int32]) -> NDArray[np.float32]:
    """float32[n, level, dim]: place of each dim among the loops above 1, innermost 0; 8 for a loop of bound 1."""
    is_loop = np.take_along_axis(factors, order.astype(np.intp), axis=2) > 1
    places = np.where(is_loop, np.cumsum(is_loop, axis=2) - 1, len(ROLES)).astype(np.float32)
    result = np.empty_like(places)
    np.put_along_axis(result, order.astype(np.intp), places, axis=2)
    return result
