"""A workload and an accelerator as flat arrays, the form that the compiled kernels read."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mapgym.spec.accelerator import Accelerator
from mapgym.spec.counts import active_ranks, rank_length
from mapgym.spec.levels import StorageLevel
from mapgym.spec.workload import Workload


class Switches(NamedTuple):
    """Which rules hold, and whether bandwidths are limited."""

    peer_links: bool
    has_bandwidth: bool
    first_fills_elided: bool
    reuse_survives: bool


class Features(NamedTuple):
    """What only some hardware has: networks that cost energy, clusters, leakage, restricted reuse and the like.

    Kernels take None for hardware without any of it, and are compiled for that, so that it costs them nothing.
    """

    levels: NDArray[np.int64]  # [L, 3] columns INSTANCES, CLUSTERS, GATE
    energies: NDArray[np.float64]  # [L, 5] columns HOP, ROUTER, INGRESS, ADDRESS, LEAK (pJ)
    flags: NDArray[np.int64]  # [L, T] bits NETWORKED ... CHARGED_APART
    scales: NDArray[np.float64]  # [L, T] how much an access counts towards the bandwidths
    hops_on_grid: bool
    has_networks: bool  # whether any network costs energy
    ways: NDArray[np.int64]  # [any, 16] working memory: descriptions of grids, number of classes, and the classes


class Tables(NamedTuple):
    """Everything about one task that does not depend on the mapping (L levels, D dims, T tensors).

    A *position* of a tensor (the translation of a tile, the offset of an instance) is a vector with one component
    per rank. Kernels hold it as one integer, its *key*: the components weighted by radices so large that two
    different differences of positions never have the same key. Steps, sums and comparisons of positions are then
    additions and comparisons of integers, whatever the number of ranks.

    There are few arrays with several planes or columns, named by the constants below, because every array that a
    compiled function takes makes the call dearer and the compilation longer.
    """

    dims: NDArray[np.int64]  # [5, T, D] planes KEY, SLIDING, PINNING, DIM_GROUP, MARK
    product_dims: NDArray[np.int64]  # [T, 1 + D] count, then the dims whose extent is a factor of the tile size
    affine: NDArray[np.int64]  # [5, T, R, K] the other ranks: planes TERMS, GROUP, RADIX (in [.., 0]), DIM, COEFFICIENT
    tensors: NDArray[np.int64]  # [T, 4] columns PLAIN, IRREGULAR, IS_OUTPUT, HOLES
    levels: NDArray[np.int64]  # [L, 4] columns UNLIMITED, FANOUT_X, FANOUT_Y, BLOCK
    energies: NDArray[np.float64]  # [L, 6] columns READ ... UPDATE (pJ), READABLE ... SHARED (words per cycle)
    mac_energy: float  # pJ
    switches: Switches


# Planes of Tables.dims.
KEY = 0  # key of a step of one iteration of the dim; 0: the tensor does not depend on it
SLIDING = 1  # which affine rank with several terms the dim slides along, SEVERAL for a dim of several ranks, else -1
PINNING = 2  # 1: the dim alone makes up a rank, so that once it has moved nothing moves the tile back
SEVERAL = -2
# A *mark* is the number of a word of a group of ranks, by which words of an output with holes are told apart.
DIM_GROUP = 3  # group of the ranks that the dim is in, else -1
MARK = 4  # how far one iteration of the dim moves the mark
# Planes of Tables.affine.
TERMS, DIM, COEFFICIENT = 0, 1, 2
GROUP = 3  # the first of the ranks that have dims in common with this one, of an output with holes; else -1
RADIX = 4  # how far one word along the rank moves the mark
# Columns of Tables.tensors.
PLAIN = 0  # 1: every rank has one term and no dim is in two ranks
IRREGULAR = 1  # 1: a dim is in two ranks, offsets have to be enumerated
IS_OUTPUT = 2
HOLES = 3  # words of the largest group of ranks, of an output whose tiles can have holes; else 0
# Columns of Tables.levels.
UNLIMITED = 0  # 1: no capacity limit, which is how Timeloop tells a DRAM
FANOUT_X, FANOUT_Y, BLOCK = 1, 2, 3
# Columns of Tables.energies.
READ, FILL, UPDATE = 0, 1, 2  # of a block
READABLE, WRITABLE, SHARED = 3, 4, 5  # bandwidths
# Columns of Features.levels.
INSTANCES = 0
CLUSTERS = 1  # groups of instances that are charged as one
GATE = 2  # the level whose instances switch those of this one
# Columns of Features.energies.
HOP, ROUTER, INGRESS = 0, 1, 2  # of a word in the network below
ADDRESS = 3  # of a word
LEAK = 4  # of an instance in a cycle
# Bits of Features.flags.
NETWORKED = 1  # the network below the level costs energy
UNICAST = 2  # no multicast of the tensor below the level
FORGETS = 4  # the level below does not reuse the tensor's tile from step to step
CHARGED_APART = 8  # the level has clusters, addresses or a bandwidth scale

WAY_KEYS = 3
"""Words that describe a grid."""

_REMEMBERED_WAYS = 2**13  # and one row for grids that cannot be described
_WORDS_OF_A_GRID = 16


def make_tables(workload: Workload, accelerator: Accelerator) -> Tables:
    """Packs a task for the kernels."""
    tensors, dims, levels = workload.tensors, workload.dims, accelerator.levels
    bounds = dict(zip(dims, workload.bounds, strict=True))
    shape = (len(tensors), len(dims))
    of_dims = np.zeros((5, *shape), np.int64)
    of_dims[SLIDING] = of_dims[DIM_GROUP] = -1
    product_dims, of_tensors = np.zeros((len(tensors), len(dims) + 1), np.int64), np.zeros((len(tensors), 4), np.int64)
    active = [active_ranks(tensor, bounds) for tensor in tensors]
    rank_count = max((len(ranks) for ranks in active), default=0) or 1
    term_count = max((len(rank) for ranks in active for rank in ranks), default=0) or 1
    affine = np.zeros((5, len(tensors), rank_count, term_count), np.int64)
    affine[GROUP] = -1
    for t, ranks in enumerate(active):
        used = [dim for rank in ranks for dim, _ in rank]
        irregular = len(set(used)) != len(used)
        plain = not irregular and all(len(rank) == 1 for rank in ranks)
        of_tensors[t] = plain, irregular, tensors[t].is_output, 0
        radix, r = 1, 0
        for rank in ranks:
            for dim, coefficient in rank:
                d = dims.index(dim)
                of_dims[KEY, t, d] += coefficient * radix
                of_dims[PINNING, t, d] = len(rank) == 1 and used.count(dim) == 1
                if used.count(dim) > 1:
                    of_dims[SLIDING, t, d] = SEVERAL
                elif len(rank) > 1:
                    of_dims[SLIDING, t, d] = r
            # All of them multiply to the address space, which was checked when the workload was made.
            radix *= 4 * rank_length(rank, bounds) + 3
            if len(rank) == 1 and rank[0][1] == 1 and used.count(rank[0][0]) == 1:
                product_dims[t, 0] += 1
                product_dims[t, product_dims[t, 0]] = dims.index(rank[0][0])
            else:
                affine[TERMS, t, r, 0] = len(rank)
                for k, (dim, coefficient) in enumerate(rank):
                    affine[DIM, t, r, k] = dims.index(dim)
                    affine[COEFFICIENT, t, r, k] = coefficient
                r += 1
        if tensors[t].is_output and (irregular or any(c > 1 for rank in ranks for _, c in rank)):
            of_tensors[t, HOLES] = _number_words(affine[:, t], of_dims[:, t], workload.bounds)
    energies = np.array(list(map(_level_energies, levels, accelerator.action_energies)))
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
        mac_energy=accelerator.mac_energies["compute"],
        switches=Switches(
            peer_links=accelerator.peer_links,
            has_bandwidth=bool(np.isfinite(energies[:, READABLE:]).any()),
            first_fills_elided=accelerator.counting.first_fills_elided,
            reuse_survives=accelerator.counting.reuse_survives_stationary_steps,
        ),
    )


def _level_energies(level: StorageLevel, actions: dict[str, float]) -> list[float]:
    """A row of ``Tables.energies``."""
    return [
        *(actions["read"], actions["fill"], actions["update"]),
        level.read_bandwidth_words_per_cycle or math.inf,
        level.write_bandwidth_words_per_cycle or math.inf,
        level.shared_bandwidth_words_per_cycle or math.inf,
    ]


def make_features(workload: Workload, accelerator: Accelerator) -> Features:
    """Packs what only some hardware has; :func:`has_features` says whether this does."""
    rules, levels = accelerator.counting, accelerator.levels
    energies = [
        [
            *(level.hop_energy_pj, level.router_energy_pj, level.energy_per_ingress_pj if rules.hops_on_grid else 0.0),
            *(level.address_energy_pj, actions["leak"]),
        ]
        for level, actions in zip(levels, accelerator.action_energies, strict=True)
    ]
    counts = [
        [level.instances, level.clusters, accelerator.level_index(level.power_gated_at or level.name)]
        for level in levels
    ]
    names = [tensor.name for tensor in workload.tensors]
    scales = np.array([[scale.get(name, 1.0) for name in names] for scale in accelerator.bandwidth_scales])
    flags = np.zeros((len(levels), len(names)), np.int64)
    for s, level in enumerate(levels):
        has_network = any(energies[s][: INGRESS + 1])
        is_apart = level.instances != level.clusters or level.address_energy_pj > 0
        for t, name in enumerate(names):
            flags[s, t] |= NETWORKED * has_network | UNICAST * (name in level.no_multicast)
            flags[s, t] |= CHARGED_APART * (is_apart or scales[s, t] != 1)
            if name in level.no_temporal_reuse and s + 1 < len(levels):
                flags[s + 1, t] |= FORGETS
    remembered = _REMEMBERED_WAYS if any(hop or router for hop, router, *_ in energies) else 4
    return Features(
        np.array(counts, np.int64),
        np.array(energies),
        flags,
        scales,
        rules.hops_on_grid,
        bool((flags & NETWORKED).any()),
        np.zeros((remembered + 1, _WORDS_OF_A_GRID), np.int64),
    )


def has_features(features: Features) -> bool:
    """Whether any feature changes a cost."""
    return bool(features.flags.any() or features.energies[:, LEAK].any())


def _number_words(affine: NDArray[np.int64], of_dims: NDArray[np.int64], bounds: Sequence[int]) -> int:
    """Sorts the affine ranks of one output into groups without a dim in common, and numbers the words of each group.

    Args:
        affine: int64[5, R, K], receives the planes GROUP and RADIX.
        of_dims: int64[5, D], receives the planes DIM_GROUP and MARK.

    Returns:
        Words of the largest group.
    """
    groups: list[tuple[list[int], set[int]]] = []  # ranks and their dims
    for r, terms in enumerate(affine[TERMS, :, 0].tolist()):
        if terms:
            ranks, dims = [r], set(affine[DIM, r, :terms].tolist())
            for group in [group for group in groups if group[1] & dims]:
                groups.remove(group)
                ranks, dims = group[0] + ranks, group[1] | dims
            groups.append((ranks, dims))
    largest = 1
    for ranks, dims in groups:
        of_dims[DIM_GROUP, list(dims)] = min(ranks)
        radix = 1
        for r in ranks:
            affine[GROUP, r, 0], affine[RADIX, r, 0] = min(ranks), radix
            length = 1
            for d, coefficient in affine[[DIM, COEFFICIENT], r, : affine[TERMS, r, 0]].T.tolist():
                of_dims[MARK, d] += coefficient * radix
                length += coefficient * (bounds[d] - 1)
            radix *= length
        largest = max(largest, radix)
    return largest
