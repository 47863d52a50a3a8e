"""A workload and an accelerator as flat arrays, the form that the compiled kernels read."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mapgym.accelerator import Accelerator
from mapgym.errors import SpecificationError
from mapgym.workload import Tensor, Workload


class Tables(NamedTuple):
    """Everything about one task that does not depend on the mapping (L levels, D dims, T tensors).

    A *position* of a tensor (the translation of a tile, the offset of an instance) is a vector with one component
    per rank. Kernels hold it as one integer, its *key*: the components weighted by radices so large that two
    different differences of positions never have the same key. Steps, sums and comparisons of positions are then
    additions and comparisons of integers, whatever the number of ranks.
    """

    bounds: NDArray[np.int64]  # [D]
    key: NDArray[np.int64]  # [T, D] key of a step of one iteration of the dim; 0: the tensor does not depend on it
    product_dims: NDArray[np.int64]  # [T, 1 + D] count, then the dims whose extent is a factor of the tile size
    affine_terms: NDArray[np.int64]  # [T, R] number of terms of each other rank, 0 where there is none
    affine_dims: NDArray[np.int64]  # [T, R, K] dims of these terms
    affine_coefficients: NDArray[np.int64]  # [T, R, K]
    sliding_rank: NDArray[np.int64]  # [T, D] which affine rank (with several terms) the dim slides along, else -1
    pinning: NDArray[np.bool_]  # [T, D] the dim alone makes up a rank: once it has moved, nothing moves back
    plain: NDArray[np.bool_]  # [T] every rank has one term and no dim is in two ranks
    irregular: NDArray[np.bool_]  # [T] a dim is in two ranks: offsets have to be enumerated
    output: int  # index of the output tensor
    capacity: NDArray[np.int64]  # [L] words, -1: unlimited
    fanout: NDArray[np.int64]  # [L, 2] below one instance, along X and Y
    mesh: NDArray[np.int64]  # [L + 1, 2] instances along X and Y; the last row is the MAC array
    block: NDArray[np.int64]  # [L] words per access
    access_energy: NDArray[np.float64]  # [L] pJ per access
    hop_energy: NDArray[np.float64]  # [L] pJ
    router_energy: NDArray[np.float64]  # [L] pJ
    bandwidth: NDArray[np.float64]  # [L, 3] read, write, shared; words per cycle and instance, inf: unlimited
    mac_energy: float  # pJ
    peer_links: bool
    cumulative_fanout: bool
    has_network_energy: bool
    has_bandwidth: bool


def make_tables(workload: Workload, accelerator: Accelerator) -> Tables:
    """Packs a task for the kernels.

    Raises:
        SpecificationError: positions of a tensor cannot be told apart in 62 bits.
    """
    tensors, dims, levels = workload.tensors, workload.dims, accelerator.levels
    bounds = dict(zip(dims, workload.bounds, strict=True))
    shape = (len(tensors), len(dims))
    key, sliding = np.zeros(shape, np.int64), np.full(shape, -1, np.int64)
    pinning, product_dims = np.zeros(shape, np.bool_), np.zeros((len(tensors), len(dims) + 1), np.int64)
    plain, irregular = np.ones(len(tensors), np.bool_), np.zeros(len(tensors), np.bool_)
    active = [_active_ranks(tensor, bounds) for tensor in tensors]
    rank_count = max((len(ranks) for ranks in active), default=0) or 1
    term_count = max((len(rank) for ranks in active for rank in ranks), default=0) or 1
    affine_terms = np.zeros((len(tensors), rank_count), np.int64)
    affine_dims = np.zeros((len(tensors), rank_count, term_count), np.int64)
    affine_coefficients = np.zeros_like(affine_dims)
    for t, ranks in enumerate(active):
        used = [dim for rank in ranks for dim, _ in rank]
        irregular[t] = len(set(used)) != len(used)
        plain[t] = not irregular[t] and all(len(rank) == 1 for rank in ranks)
        radix, affine = 1, 0
        for rank in ranks:
            length = 1 + sum(c * (bounds[dim] - 1) for dim, c in rank)
            for dim, coefficient in rank:
                d = dims.index(dim)
                key[t, d] += coefficient * radix
                pinning[t, d] = len(rank) == 1 and used.count(dim) == 1
                if len(rank) > 1 and used.count(dim) == 1:
                    sliding[t, d] = affine
            # Steps of nested loops can reach beyond the tensor by its own length in either direction.
            radix *= 4 * length + 3
            if len(rank) == 1 and rank[0][1] == 1:
                product_dims[t, 0] += 1
                product_dims[t, product_dims[t, 0]] = dims.index(rank[0][0])
            else:
                affine_terms[t, affine] = len(rank)
                for k, (dim, coefficient) in enumerate(rank):
                    affine_dims[t, affine, k] = dims.index(dim)
                    affine_coefficients[t, affine, k] = coefficient
                affine += 1
        if radix >= 2**62:
            raise SpecificationError(
                f"workload {workload.name!r}: tensor {tensors[t].name!r} is too large to address; split the layer"
            )
    unlimited = math.inf
    has_network = any(level.energy_per_hop_pj or level.router_energy_pj for level in levels)
    bandwidth = np.array(
        [
            [
                level.read_bandwidth_words_per_cycle or unlimited,
                level.write_bandwidth_words_per_cycle or unlimited,
                level.shared_bandwidth_words_per_cycle or unlimited,
            ]
            for level in levels
        ]
    )
    return Tables(
        bounds=np.array(workload.bounds, np.int64),
        key=key,
        product_dims=product_dims,
        affine_terms=affine_terms,
        affine_dims=affine_dims,
        affine_coefficients=affine_coefficients,
        sliding_rank=sliding,
        pinning=pinning,
        plain=plain,
        irregular=irregular,
        output=tensors.index(workload.output),
        capacity=np.array([-1 if level.capacity_words is None else level.capacity_words for level in levels], np.int64),
        fanout=np.array([accelerator.fanout_x, accelerator.fanout_y], np.int64).T.copy(),
        mesh=np.array([[part.mesh_x, part.mesh_y] for part in (*levels, accelerator.mac)], np.int64),
        block=np.array([level.block_size_words for level in levels], np.int64),
        access_energy=np.array([level.access_energy_pj for level in levels], np.float64),
        hop_energy=np.array([level.energy_per_hop_pj for level in levels], np.float64),
        router_energy=np.array([level.router_energy_pj for level in levels], np.float64),
        bandwidth=bandwidth,
        mac_energy=float(accelerator.mac.energy_pj),
        peer_links=accelerator.peer_links,
        cumulative_fanout=accelerator.fanout_check == "cumulative",
        has_network_energy=has_network,
        has_bandwidth=bool(np.isfinite(bandwidth).any()),
    )


def _active_ranks(tensor: Tensor, bounds: dict[str, int]) -> list[list[tuple[str, int]]]:
    """The ranks without dims of bound 1, which never move and add nothing to a length."""
    ranks = [[(dim, c) for dim, c in rank if bounds[dim] > 1] for rank in tensor.ranks]
    return [rank for rank in ranks if rank]
