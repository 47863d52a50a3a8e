"""A workload and an accelerator as flat arrays, the form that the compiled kernels read."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mapgym.accelerator import Accelerator
from mapgym.errors import SpecificationError
from mapgym.text import quoted
from mapgym.workload import Tensor, Workload


class Tables(NamedTuple):
    """Everything about one task that does not depend on the mapping (L levels, D dims, T tensors).

    A *position* of a tensor (the translation of a tile, the offset of an instance) is a vector with one component
    per rank. Kernels hold it as one integer, its *key*: the components weighted by radices so large that two
    different differences of positions never have the same key. Steps, sums and comparisons of positions are then
    additions and comparisons of integers, whatever the number of ranks.

    There are few arrays with several planes or columns, named by the constants below, because every array that a
    compiled function takes makes the call dearer and the compilation longer.
    """

    dims: NDArray[np.int64]  # [3, T, D] planes KEY, SLIDING, PINNING
    product_dims: NDArray[np.int64]  # [T, 1 + D] count, then the dims whose extent is a factor of the tile size
    affine: NDArray[np.int64]  # [3, T, R, K] the other ranks: planes TERMS (in [.., 0]), DIM, COEFFICIENT
    tensors: NDArray[np.int64]  # [T, 3] columns PLAIN, IRREGULAR, IS_OUTPUT
    levels: NDArray[np.int64]  # [L, 4] columns UNLIMITED, FANOUT_X, FANOUT_Y, BLOCK
    energies: NDArray[np.float64]  # [L, 6] columns ACCESS, HOP, ROUTER (pJ), READ, WRITE, SHARED (words per cycle)
    mac_energy: float  # pJ
    peer_links: bool
    has_bandwidth: bool


# Planes of Tables.dims.
KEY = 0  # key of a step of one iteration of the dim; 0: the tensor does not depend on it
SLIDING = 1  # which affine rank with several terms the dim slides along, else -1
PINNING = 2  # 1: the dim alone makes up a rank, so that once it has moved nothing moves the tile back
# Planes of Tables.affine.
TERMS, DIM, COEFFICIENT = 0, 1, 2
# Columns of Tables.tensors.
PLAIN = 0  # 1: every rank has one term and no dim is in two ranks
IRREGULAR = 1  # 1: a dim is in two ranks, offsets have to be enumerated
IS_OUTPUT = 2
# Columns of Tables.levels.
UNLIMITED = 0  # 1: no capacity limit, which is how Timeloop tells a DRAM
FANOUT_X, FANOUT_Y, BLOCK = 1, 2, 3
# Columns of Tables.energies.
ACCESS, HOP, ROUTER, READ, WRITE, SHARED = 0, 1, 2, 3, 4, 5


def make_tables(workload: Workload, accelerator: Accelerator) -> Tables:
    """Packs a task for the kernels.

    Raises:
        SpecificationError: positions of a tensor cannot be told apart in 62 bits.
    """
    tensors, dims, levels = workload.tensors, workload.dims, accelerator.levels
    bounds = dict(zip(dims, workload.bounds, strict=True))
    shape = (len(tensors), len(dims))
    of_dims = np.zeros((3, *shape), np.int64)
    of_dims[SLIDING] = -1
    product_dims, of_tensors = np.zeros((len(tensors), len(dims) + 1), np.int64), np.zeros((len(tensors), 3), np.int64)
    active = [_active_ranks(tensor, bounds) for tensor in tensors]
    rank_count = max((len(ranks) for ranks in active), default=0) or 1
    term_count = max((len(rank) for ranks in active for rank in ranks), default=0) or 1
    affine = np.zeros((3, len(tensors), rank_count, term_count), np.int64)
    for t, ranks in enumerate(active):
        used = [dim for rank in ranks for dim, _ in rank]
        irregular = len(set(used)) != len(used)
        plain = not irregular and all(len(rank) == 1 for rank in ranks)
        of_tensors[t] = plain, irregular, tensors[t].is_output
        radix, r = 1, 0
        for rank in ranks:
            length = 1 + sum(c * (bounds[dim] - 1) for dim, c in rank)
            for dim, coefficient in rank:
                d = dims.index(dim)
                of_dims[KEY, t, d] += coefficient * radix
                of_dims[PINNING, t, d] = len(rank) == 1 and used.count(dim) == 1
                if len(rank) > 1 and used.count(dim) == 1:
                    of_dims[SLIDING, t, d] = r
            # Steps of nested loops can reach beyond the tensor by its own length in either direction.
            radix *= 4 * length + 3
            if len(rank) == 1 and rank[0][1] == 1 and used.count(rank[0][0]) == 1:
                product_dims[t, 0] += 1
                product_dims[t, product_dims[t, 0]] = dims.index(rank[0][0])
            else:
                affine[TERMS, t, r, 0] = len(rank)
                for k, (dim, coefficient) in enumerate(rank):
                    affine[DIM, t, r, k] = dims.index(dim)
                    affine[COEFFICIENT, t, r, k] = coefficient
                r += 1
        if radix >= 2**62:
            raise SpecificationError(
                f"workload {quoted(workload.name)}: tensor {quoted(tensors[t].name)} is too large to address; split "
                "the layer"
            )
    unlimited = math.inf
    energies = np.array(
        [
            [
                level.access_energy_pj,
                level.energy_per_hop_pj,
                level.router_energy_pj,
                level.read_bandwidth_words_per_cycle or unlimited,
                level.write_bandwidth_words_per_cycle or unlimited,
                level.shared_bandwidth_words_per_cycle or unlimited,
            ]
            for level in levels
        ]
    )
    of_levels = [
        [level.capacity_words is None, accelerator.fanout_x[s], accelerator.fanout_y[s], level.block_size_words]
        for s, level in enumerate(levels)
    ]
    return Tables(
        dims=of_dims,
        product_dims=product_dims,
        affine=affine,
        tensors=of_tensors,
        levels=np.array(of_levels, np.int64),
        energies=energies,
        mac_energy=float(accelerator.mac.energy_pj),
        peer_links=accelerator.peer_links,
        has_bandwidth=bool(np.isfinite(energies[:, READ:]).any()),
    )


def _active_ranks(tensor: Tensor, bounds: dict[str, int]) -> list[list[tuple[str, int]]]:
    """The ranks without dims of bound 1, which never move and add nothing to a length."""
    ranks = [[(dim, c) for dim, c in rank if bounds[dim] > 1] for rank in tensor.ranks]
    return [rank for rank in ranks if rank]
