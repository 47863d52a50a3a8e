"""A map space as flat arrays for the search of its optimum, and the test whether the theory covers it.

The theory, with proofs, is docs/exact.md. A mapping is, for each dim, a chain of divisors

    lanes | register extent | block | buffer extent | bound

where the block is the register extent times the spatial factor between the register level and the buffer, and each
member divides the next; and the orders of the temporal loops of the buffer and of the memory.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from mapgym.cost.dense.tables import KEY, make_tables
from mapgym.errors import SpecificationError
from mapgym.errors.text import quoted
from mapgym.mapping.mapping import divisors

if TYPE_CHECKING:
    from mapgym.mapspace import MapSpace
    from mapgym.spec.accelerator import Accelerator
    from mapgym.spec.workload import Workload

MAX_LATTICE = 20_000_000
"""Buffer tiles (products of divisor counts) up to which their tables are held in memory."""

# Values of Problem.role; a rank number otherwise.
IRRELEVANT = -2  # the tensor does not depend on the dim
PINNED = -1  # the dim makes up a rank alone

REGISTERS, BUFFER, MEMORY = range(3)
"""Places in arrays with an entry for each level."""

TILE, BLOCK, BUFFER_TILE = range(3)
"""Rows of extents: of the registers, of all of them together, and of the buffer."""

INNER, OUTER = range(2)
"""The boundaries that temporal loops are outside of: that below the buffer, and that below the memory."""


class Projections(Protocol):
    """How tensors depend on dims; see :class:`Problem`."""

    @property
    def bounds(self) -> NDArray[np.int64]:
        """int64[D]."""

    @property
    def role(self) -> NDArray[np.int64]:
        """int64[T, D]."""

    @property
    def coefficient(self) -> NDArray[np.int64]:
        """int64[T, D]."""

    @property
    def partner(self) -> NDArray[np.int64]:
        """int64[T, D]."""


class Problem(NamedTuple):
    """What the kernels need (D dims with bounds above 1, T tensors, V the largest number of divisors of a bound)."""

    bounds: NDArray[np.int64]  # [D]
    counts: NDArray[np.int64]  # [D] number of divisors
    divisors: NDArray[np.int64]  # [D, V] ascending
    position: NDArray[np.int32]  # [D, largest bound + 1] index of a divisor
    stride: NDArray[np.int64]  # [D] of the lattice of buffer tiles; the last entry counts the tiles
    group: NDArray[np.int64]  # [D] the tensor that the dim is irrelevant to; T if it is relevant to all
    role: NDArray[np.int64]  # [T, D] IRRELEVANT, PINNED, or the number of a rank with two terms
    coefficient: NDArray[np.int64]  # [T, D]
    partner: NDArray[np.int64]  # [T, D] the other dim of its rank, -1 without
    key: NDArray[np.int64]  # [T, D] step of one iteration, as one number for all ranks
    words: NDArray[np.float64]  # [T] of the whole tensors
    read: NDArray[np.float64]  # [3, T] pJ for each word that a level reads
    fill: NDArray[np.float64]  # [3, T] pJ for each word that it receives from outside
    update: NDArray[np.float64]  # [3, T] pJ for each partial sum that it receives from inside; 0 for operands
    first_read: NDArray[np.float64]  # [3, T] pJ that the first visit of a word saves of reads; 0 for operands
    first_fill: NDArray[np.float64]  # [3, T] pJ that it saves of fills
    mac_energy: float  # pJ of all MACs
    leak: NDArray[np.float64]  # [2] pJ per cycle: at all times; for each register level in use
    clusters: float  # most register levels that are charged for an access
    capacity: NDArray[np.float64]  # [2] words of each level
    allowed: NDArray[np.bool_]  # [2, D, V] whether fixed factors leave an extent of the registers, of the buffer
    temporal: NDArray[np.int64]  # [2, D] fixed temporal factor of each level, 0 if free
    place: NDArray[np.int64]  # [2, D] by boundary: place in the fixed order of its loops; -1 if the order is free
    macs: float
    peer_links: bool
    reuse_survives_stationary_steps: bool
    lanes_x: int  # most lanes of a register level along X
    lanes_y: int
    blocks_y: int  # most register levels along Y


@dataclass(frozen=True, eq=False)
class Task:
    """A problem, and how its solutions are mappings of a space.

    Attributes:
        space: where the optimum is looked for.
        problem: its arrays.
        dims: index of each dim of the problem among those of the workload.
        keeps: bool[choice, 2, tensor] what register level and buffer keep.
        lanes, blocks: int64[n, D] spatial factors of the two levels that have them, all combinations that fit.
    """

    space: MapSpace
    problem: Problem
    dims: tuple[int, ...]
    keeps: NDArray[np.bool_]
    lanes: NDArray[np.int64]
    blocks: NDArray[np.int64]


def check_supported(space: MapSpace) -> None:
    """Raises SpecificationError, in one sentence, if the theory does not cover the hardware or the workload."""
    workload, accelerator = space.workload, space.accelerator
    where = f"no certified optimum for {quoted(workload.name)} on {quoted(accelerator.name)}: "
    if len(accelerator.levels) == 1:
        raise SpecificationError(
            f"{where}it has one storage level, so that no tile is chosen; use a search such as gamma"
        )
    if accelerator.fanout_check != "per_level":
        raise SpecificationError(f"{where}fanout_check is {quoted(accelerator.fanout_check)}; set it to 'per_level'")
    if accelerator.peer_links and not is_flat(accelerator):
        raise SpecificationError(
            f"{where}neighbours pass words to each other, which is covered on two or three levels without network "
            "energy, one instance of each but the innermost; add --no-peer-links, or peer_links: false"
        )
    for key in ("no_temporal_reuse", "no_multicast", "minimum_utilization"):
        if any(getattr(level, key) for level in accelerator.levels):
            raise SpecificationError(f"{where}{key} is not covered; leave it out, or use a search such as gamma")
    if space.entries.is_limited:
        raise SpecificationError(
            f"{where}ranges of factors, single mesh sides and orders that are free in part are not covered; leave them "
            "out, or use a search such as gamma"
        )
    if any(level.formats for level in accelerator.levels):
        raise SpecificationError(f"{where}metadata of tiles are not covered; take an accelerator without formats")
    _check_workload(workload, where)


def is_flat(accelerator: Accelerator) -> bool:
    """Whether it has two or three levels, one instance of each but the innermost, and networks that cost nothing."""
    levels = accelerator.levels
    return (
        len(levels) in (2, 3)
        and all(level.instances == 1 for level in levels[1:])
        and not any(level.hop_energy_pj or level.router_energy_pj or level.energy_per_ingress_pj for level in levels)
    )


def _check_workload(workload: Workload, where: str) -> None:
    bounds = dict(zip(workload.dims, workload.bounds, strict=True))
    if len(workload.tensors) > 3:
        raise SpecificationError(f"{where}more than three tensors are not covered; use a search such as gamma")
    if any(tensor.density < 1 for tensor in workload.tensors):
        raise SpecificationError(f"{where}sparse tensors are not covered; set all densities to 1")
    for tensor in workload.tensors:
        ranks = [[term for term in rank if bounds[term[0]] > 1] for rank in tensor.ranks]
        used = [dim for rank in ranks for dim, _ in rank]
        if len(set(used)) != len(used):
            raise SpecificationError(
                f"{where}tensor {quoted(tensor.name)} has a dim in two ranks; use a search such as gamma"
            )
        if any(len(rank) > 2 for rank in ranks):
            raise SpecificationError(
                f"{where}tensor {quoted(tensor.name)} has a rank of more than two dims; use a search such as gamma"
            )
        if tensor.is_output and any(len(rank) > 1 or rank[0][1] != 1 for rank in ranks if rank):
            raise SpecificationError(
                f"{where}the output {quoted(tensor.name)} has a strided or sliding rank; use a search such as gamma"
            )
    for dim, bound in bounds.items():
        if bound > 1 and sum(dim not in tensor.dims for tensor in workload.tensors) > 1:
            raise SpecificationError(f"{where}dim {quoted(dim)} is in fewer than two tensors; sum over it beforehand")
    if math.prod(len(divisors(bound)) for bound in workload.bounds) > MAX_LATTICE:
        raise SpecificationError(f"{where}its bounds have too many divisors; use bounds with fewer factors")


def make_task(space: MapSpace) -> Task:
    """Packs a space that :func:`check_supported` has passed; SpecificationError if fixed factors leave nothing."""
    dims = active_dims(space.workload)
    problem = _make_problem(space, dims)
    lanes = spatial_factors(space, dims, REGISTERS)
    blocks = spatial_factors(space, dims, BUFFER)
    return Task(space, problem, dims, _keeps(space), lanes, blocks)


def active_dims(workload: Workload) -> tuple[int, ...]:
    """Indices of the dims that have loops; at least one."""
    return tuple(d for d, bound in enumerate(workload.bounds) if bound > 1) or (0,)


def _make_problem(space: MapSpace, dims: tuple[int, ...]) -> Problem:
    workload, accelerator = space.workload, space.accelerator
    shared = describe_workload(workload, accelerator, dims)
    # Two levels are three of which the middle one keeps nothing, holds the whole problem and costs nothing.
    middle = accelerator.levels[BUFFER].usable_words if len(accelerator.levels) == 3 else None
    inner = accelerator.levels[REGISTERS].usable_words
    outputs = np.array([tensor.is_output for tensor in workload.tensors], np.int64)
    read, fill, update = _energies(accelerator, outputs)
    elided = outputs if accelerator.counting.first_fills_elided else 0
    allowed, temporal = _fixed_factors(space, dims, shared["divisors"], shared["bounds"])
    return Problem(
        **shared,
        read=read,
        fill=fill,
        update=update,
        first_read=read * outputs,
        first_fill=fill * elided,
        mac_energy=workload.macs * accelerator.mac_energies["compute"],
        leak=_leakage(accelerator),
        clusters=float(accelerator.levels[REGISTERS].clusters),
        capacity=np.array([float(inner or math.inf), float(middle or math.inf)]),
        allowed=allowed,
        temporal=temporal,
        place=_fixed_places_of_three(space, dims),
        macs=float(workload.macs),
        peer_links=accelerator.peer_links,
        reuse_survives_stationary_steps=accelerator.counting.reuse_survives_stationary_steps,
        lanes_x=accelerator.fanout_x[REGISTERS],
        lanes_y=accelerator.fanout_y[REGISTERS],
        blocks_y=accelerator.fanout_y[BUFFER],
    )


def describe_workload(workload: Workload, accelerator: Accelerator, dims: tuple[int, ...]) -> dict[str, Any]:
    """The fields of a problem that only the workload decides."""
    tensors = workload.tensors
    bounds = np.array([workload.bounds[d] for d in dims], np.int64)
    options = [divisors(int(bound)) for bound in bounds]
    most = max(map(len, options))
    shape = (len(tensors), len(dims))
    values = np.zeros((len(dims), most), np.int64)
    position = np.full((len(dims), int(bounds.max()) + 1), -1, np.int32)
    for k, numbers in enumerate(options):
        values[k, : len(numbers)] = numbers
        position[k, numbers] = np.arange(len(numbers))
    stride = np.ones(len(dims) + 1, np.int64)
    stride[1:] = np.cumprod([len(numbers) for numbers in options])
    role, partner = np.full(shape, IRRELEVANT, np.int64), np.full(shape, -1, np.int64)
    coefficient = np.zeros(shape, np.int64)
    for t, tensor in enumerate(tensors):
        for r, rank in enumerate(tensor.ranks):
            active = [(dims.index(workload.dims.index(dim)), c) for dim, c in rank if workload.bound(dim) > 1]
            for k, c in active:
                coefficient[t, k] = c
                role[t, k] = PINNED if len(active) == 1 else r
                partner[t, k] = next((other for other, _ in active if other != k), -1)
    group = np.full(len(dims), len(tensors), np.int64)
    for k in range(len(dims)):
        absent = np.flatnonzero(role[:, k] == IRRELEVANT)
        if len(absent) == 1:
            group[k] = absent[0]
    return {
        "bounds": bounds,
        "counts": np.array([len(numbers) for numbers in options], np.int64),
        "divisors": values,
        "position": position,
        "stride": stride,
        "group": group,
        "role": role,
        "coefficient": coefficient,
        "partner": partner,
        "key": np.ascontiguousarray(make_tables(workload, accelerator).dims[KEY][:, list(dims)]),
        "words": np.array([float(workload.tensor_size(tensor.name)) for tensor in tensors]),
    }


def _energies(
    accelerator: Accelerator, outputs: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """As :func:`word_energies`, float64[3, T]: the buffer of two levels costs nothing."""
    places = [*range(len(accelerator.levels) - 1), MEMORY]
    of_three = np.zeros((3, 3, len(outputs)))
    of_three[:, places] = word_energies(accelerator, outputs)
    return of_three[0], of_three[1], of_three[2]


def word_energies(
    accelerator: Accelerator, outputs: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Energies of reads, fills and updates, float64[L, T] pJ per word each, with what their addresses take."""
    read, fill, update = np.zeros((3, len(accelerator.levels), len(outputs)))
    for s, level in enumerate(accelerator.levels):
        energies = accelerator.action_energies[s]
        block, address = level.block_size_words, level.address_energy_pj
        # A partial sum is read by the address that it is then written to.
        read[s] = energies["read"] / block + address * (1 - outputs)
        update[s] = (energies["update"] / block + address) * outputs
        if s < len(accelerator.levels) - 1:
            fill[s] = energies["fill"] / block + address
    return read, fill, update


def _leakage(accelerator: Accelerator) -> NDArray[np.float64]:
    """Energy per cycle, float64[2] pJ: at all times, and for each register level in use."""
    always, used = 0.0, 0.0
    for s, level in enumerate(accelerator.levels):
        leak = accelerator.action_energies[s]["leak"]
        gate = accelerator.levels[accelerator.level_index(level.power_gated_at or level.name)]
        # Of the other levels one instance is used; it leaks, or all that are switched on together with it.
        switched = max(1, level.instances // gate.instances)
        if s == REGISTERS and switched == 1:
            used += leak
        else:
            always += leak * switched
    return np.array([always, used])


def _fixed_factors(
    space: MapSpace, dims: tuple[int, ...], values: NDArray[np.int64], bounds: NDArray[np.int64]
) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """Which extents fixed factors leave, bool[2, D, V], and fixed temporal factors, int64[2, D]."""
    levels = len(space.accelerator.levels)
    fixed = space.entries.fixed[:, list(dims)].astype(np.int64)
    allowed = np.broadcast_to(values > 0, (2, *values.shape)).copy()
    temporal = fixed[:2].copy()
    if "tile" not in space.axes:
        extents = np.cumprod(space.base.temporal.astype(np.int64) * space.base.spatial, axis=0)[:, list(dims)]
        allowed[REGISTERS] &= values == extents[REGISTERS][:, None]
        allowed[BUFFER] &= values == extents[BUFFER][:, None]
    if levels == 2:
        allowed[BUFFER] &= values == bounds[:, None]
    else:
        outer = fixed[MEMORY]
        allowed[BUFFER] &= (outer == 0)[:, None] | (values * outer[:, None] == bounds[:, None])
    return allowed, temporal


def _fixed_places_of_three(space: MapSpace, dims: tuple[int, ...]) -> NDArray[np.int64]:
    places = fixed_places(space, dims)[1:]
    return np.concatenate([places, np.full((2 - len(places), len(dims)), -1)])


def fixed_places(space: MapSpace, dims: tuple[int, ...]) -> NDArray[np.int64]:
    """int64[L, D]: the place of each loop in the fixed order of its level, -1 where the order is free."""
    levels = len(space.accelerator.levels)
    places = np.full((levels, len(dims)), -1, np.int64)
    for level in range(levels):
        if not space.entries.order_free[level]:
            order = space.entries.order_key[level].tolist()
            places[level] = [order.index(d) for d in dims]
    return places


def _keeps(space: MapSpace) -> NDArray[np.bool_]:
    """All choices of what register level and buffer keep, bool[choice, 2, tensor]; most kept words first."""
    inner = range(len(space.accelerator.levels) - 1)
    choices = list(itertools.product(*(kept_choices(space, level) for level in inner)))
    keeps = np.zeros((len(choices), 2, space.entries.keep.shape[1]), np.bool_)
    keeps[:, : len(inner)] = choices
    return keeps


def kept_choices(space: MapSpace, level: int) -> NDArray[np.bool_]:
    """All choices of what a level keeps, bool[n, tensor]; most kept words first."""
    entries = space.entries
    free = np.flatnonzero(entries.keep_free[level])
    bits = np.array(list(itertools.product((True, False), repeat=len(free))), np.bool_).reshape(
        2 ** len(free), len(free)
    )
    choices = np.repeat(entries.keep[None, level], len(bits), axis=0)
    choices[:, free] = bits
    return choices


def spatial_factors(space: MapSpace, dims: tuple[int, ...], level: int) -> NDArray[np.int64]:
    """int64[n, D]: the spatial factors that fit the fan-out of a level on some assignment to its mesh sides."""
    accelerator, entries = space.accelerator, space.entries
    fixed = entries.fixed[len(accelerator.levels) + level, list(dims)]
    sides_free, on_y = bool(entries.side_free[level].any()), entries.on_y[level]
    limit = (accelerator.fanout_x[level], accelerator.fanout_y[level])
    # For each vector of factors: the pairs (used X, used Y) that can be reached.
    partial: list[tuple[tuple[int, ...], frozenset[tuple[int, int]]]] = [((), frozenset({(1, 1)}))]
    for k, d in enumerate(dims):
        options = divisors(space.workload.bounds[d])
        grown = []
        for (factors, meshes), factor in itertools.product(partial, options):
            if fixed[k] not in (0, factor):
                continue
            reached = set()
            for x, y in meshes:
                if sides_free or not on_y[d]:
                    reached.add((x * factor, y))
                if sides_free or on_y[d]:
                    reached.add((x, y * factor))
            fitting = frozenset((x, y) for x, y in reached if x <= limit[0] and y <= limit[1])
            if fitting:
                grown.append(((*factors, factor), fitting))
        partial = grown
    if not partial:
        raise SpecificationError(
            f"the fixed spatial factors at {quoted(accelerator.level_names[level])} exceed its fan-out; make them "
            "smaller"
        )
    return np.array([factors for factors, _ in partial], np.int64)
