"""The packed arrays of the construction process; what is where in them is known here and nowhere else.

Handing many arrays to a compiled function costs more than a decision does, so everything about a map space is in two,
and everything about an unfinished mapping in one more:

- ``task`` (int64) never changes: a header with sizes, switches and the starts of tables, then the tables.
  :mod:`mapgym.mapspace.construction.tables` fills it;
- ``ways`` (float64[stage, dim, divisor], flat): in how many ways the rest of a dim can be placed from a stage on;
- ``state`` (int32): the decision that is next, then blocks.

The factors of a dim are decided in *stages*: stage 2s has the parallel (spatial) factors of level s, stage 2s + 1 its
tile (temporal) factors. A factor is an index into the ascending divisors of its dim's bound. A choice is an action of
the environments: for factors that index, plus :func:`y_offset` if the factor goes on the side Y of the mesh; for orders
a dim; for kept tensors 0 or 1.

Functions that end in ``_at`` return a place in ``state``, the others what is in ``task`` unless they say otherwise.
They are copied into their callers, so that a name costs no more than a number.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

from mapgym.compilation import accessor

Task: TypeAlias = NDArray[np.int64]
Ways: TypeAlias = NDArray[np.float64]
State: TypeAlias = NDArray[np.int32]

int64 = cast("Callable[[Any], int]", np.int64)
"""Makes an entry of a state a number that can be multiplied; to a type checker that is an int."""

KEEP, PARALLEL, TILE, ORDER_X, ORDER_Y, ORDER = range(6)
"""Kinds of decisions: keep a tensor, a parallel factor, a tile factor, the next spatial loop on X or Y, the next
temporal loop."""
KIND_NAMES = ("keep", "parallel", "tile", "order_x", "order_y", "order")

NO_SIDE, SIDE_X, SIDE_Y, EITHER_SIDE = range(4)
"""Side of the mesh that a spatial factor is on; EITHER_SIDE marks a factor fixed by the user that fits both."""

LIMITED = -2
"""Marks a factor that is searched among some of the divisors of its dim's bound."""

BYPASSES, KEEPS = 1, 2
"""What a level may do with a tensor: bits of :func:`may_keep`."""

# Positions in the header of task: sizes and switches, starts of its tables, starts of the blocks of a state.
LEVELS, DIMS, TENSORS, DIVISORS, GROUPS, ACTIVE, Y_OFFSET, INNERMOST_ONLY, PLAIN, CUMULATIVE, OPEN_SIDES, TIERED = (
    range(12)
)
(
    GROUP_TABLE,  # [group, 2]: kind, level
    ACTIVE_DIMS,  # [active]: dims with a bound above 1
    DIVISOR,  # [dim, divisor]
    QUOTIENT,  # [dim, divisor, divisor]: index of the quotient, -1 where there is none
    FIXED,  # [stage, dim]: divisor index of a factor that is given, -1 if it is searched, LIMITED if in a range
    FIXED_SIDE,  # [level, dim]: mesh side of a given spatial factor above 1
    LEVEL_FACTOR,  # [level, dim]: divisor index of a given temporal * spatial, -1 if it is searched
    LIMIT_X,  # [level]: parallelism that the level may have on X
    LIMIT_Y,  # [level]
    MESH_X,  # [level]: instances of the next inner level (MACs below level 0) along X
    MESH_Y,  # [level]
    CAPACITY,  # [level]: words, -1 for no limit; the outermost level is checked once, by the tables
    MAY_KEEP,  # [level + 1, level, tensor]: by the nearest level inside that keeps it (0: none, 1: level 0, ...), the
    # sum of BYPASSES if the level may bypass it and KEEPS if the level may keep it
    LEAST_EXTENT,  # [stage + 1, level, dim, divisor]: smallest extent at the level by what is left; empty if plain
    ALLOWED,  # [stage, dim, divisor]: factors of stages that are LIMITED; of parallel ones 1 for X plus 2 for Y
    TIER,  # [2, level, dim]: loops of a lower tier are inside of those of a higher one; temporal ones, spatial ones
    PROJECTION,  # [tensor]: position in task of its ranks: count, then for each terms, then (dim, coefficient) pairs
    ORDER_KEY,  # [level, dim]: dims in the order that loops get when it is not searched
    SPATIAL_ORDER_KEY,  # [level, dim]
    REPEATED,  # [dim]: 1 if a tensor has the dim in two of its ranks
    COMPRESSED,  # [level, tensor]: position of the record of the tensor's density, 0 for a tile that is not compressed
    ANY_COMPRESSED,  # [1]
) = range(12, 34)
(
    TEMPORAL,  # [level, dim] factors
    SPATIAL,  # [level, dim]
    SIDE,  # [level, dim]: mesh side of a spatial factor above 1
    ORDER_POSITION,  # [level, dim]: 1 for the innermost placed temporal loop, 2 for the next, 0 if not placed
    SPATIAL_POSITION,  # [level, dim]: the same, counted on each mesh side
    KEPT,  # [level, tensor]
    REMAINING,  # [dim]: divisor index of what is left of the bound
    PRODUCT,  # [dim]: product of the factors so far
    NEXT_STAGE,  # [dim]: first stage that is not decided
    USED_X,  # [level]: product of the spatial factors on X, given ones included from the start
    USED_Y,  # [level]
    VISITED,  # [level, active]: order in which the dims of a level are visited
) = range(34, 46)
HEADER = 46

GROUP, ITEM = 0, 1
"""Positions in a state, ahead of its blocks: the group of decisions that is next, and the item of it."""
STATE_HEADER = 2


@accessor
def levels(task: Task) -> int:
    """Number of storage levels."""
    return task[LEVELS]


@accessor
def dims(task: Task) -> int:
    """Number of dims."""
    return task[DIMS]


@accessor
def tensors(task: Task) -> int:
    """Number of tensors."""
    return task[TENSORS]


@accessor
def active(task: Task) -> int:
    """Number of dims with a bound above 1."""
    return task[ACTIVE]


@accessor
def active_dim(task: Task, item: int) -> int:
    """One of the dims with a bound above 1, in their order."""
    return task[task[ACTIVE_DIMS] + item]


@accessor
def groups(task: Task) -> int:
    """Number of groups of decisions."""
    return task[GROUPS]


@accessor
def kind(task: Task, group: int) -> int:
    """Kind of the decisions of a group."""
    return task[task[GROUP_TABLE] + 2 * group]


@accessor
def level(task: Task, group: int) -> int:
    """Level of the decisions of a group."""
    return task[task[GROUP_TABLE] + 2 * group + 1]


@accessor
def items(task: Task, kind: int) -> int:
    """Number of decisions of a group of a kind; those about orders end when all loops have a place."""
    return task[TENSORS] if kind == KEEP else task[ACTIVE]


@accessor
def y_offset(task: Task) -> int:
    """What is added to the index of a factor to say that it goes on the side Y."""
    return task[Y_OFFSET]


@accessor
def innermost_only(task: Task) -> bool:
    """Whether of an order only the innermost loop is decided."""
    return task[INNERMOST_ONLY] != 0


@accessor
def is_plain(task: Task) -> bool:
    """Whether every undecided factor can be 1, but for outermost tile factors, which take what is left."""
    return task[PLAIN] != 0


@accessor
def is_cumulative(task: Task) -> bool:
    """Whether the fan-outs of a level and all levels outside it are limited together."""
    return task[CUMULATIVE] != 0


@accessor
def has_open_sides(task: Task) -> bool:
    """Whether a spatial factor that is given may go on either side."""
    return task[OPEN_SIDES] != 0


@accessor
def divisor(task: Task, d: int, j: int) -> int:
    """The divisor of a dim's bound that an index stands for."""
    return task[task[DIVISOR] + d * task[DIVISORS] + j]


@accessor
def divisors(task: Task, d: int) -> int:
    """Place in ``task`` of the divisors of a dim's bound, ascending."""
    return task[DIVISOR] + d * task[DIVISORS]


@accessor
def quotient(task: Task, d: int, i: int, j: int) -> int:
    """Index of divisor i over divisor j; -1 if that is no whole number."""
    return task[task[QUOTIENT] + (d * task[DIVISORS] + i) * task[DIVISORS] + j]


@accessor
def quotients(task: Task, d: int, i: int) -> int:
    """Place in ``task`` of the indices of divisor i over each divisor."""
    return task[QUOTIENT] + (d * task[DIVISORS] + i) * task[DIVISORS]


@accessor
def completions(task: Task, stage: int, d: int) -> int:
    """Place in ``ways`` of those to place what is left of a dim from a stage on, by the divisor that is left."""
    return (stage * task[DIMS] + d) * task[DIVISORS]


@accessor
def ways_size(task: Task) -> int:
    """Length of ``ways``, which other numbers may follow."""
    return (2 * task[LEVELS] + 1) * task[DIMS] * task[DIVISORS]


@accessor
def fixed(task: Task, stage: int, d: int) -> int:
    """Index of the factor of a dim that is given in a stage; -1 if it is searched, LIMITED if in a range."""
    return task[task[FIXED] + stage * task[DIMS] + d]


@accessor
def fixed_side(task: Task, level: int, d: int) -> int:
    """Mesh side of a given spatial factor above 1."""
    return task[task[FIXED_SIDE] + level * task[DIMS] + d]


@accessor
def level_factor(task: Task, level: int, d: int) -> int:
    """Index of the product of the factors of a dim that is given at a level; -1 if it is searched."""
    return task[task[LEVEL_FACTOR] + level * task[DIMS] + d]


@accessor
def limit(task: Task, side: int, level: int) -> int:
    """Parallelism that a level may have on a mesh side."""
    return task[task[LIMIT_X - SIDE_X + side] + level]


@accessor
def mesh(task: Task, side: int, level: int) -> int:
    """Instances below a level along a mesh side."""
    return task[task[MESH_X - SIDE_X + side] + level]


@accessor
def capacity(task: Task, level: int) -> int:
    """Words that a level has room for; -1 for no limit."""
    return task[task[CAPACITY] + level]


@accessor
def may_keep(task: Task, inside: int, level: int, t: int) -> int:
    """BYPASSES and KEEPS of a level for a tensor that level ``inside - 1`` keeps, as the nearest; 0 for none."""
    return task[task[MAY_KEEP] + (inside * task[LEVELS] + level) * task[TENSORS] + t]


@accessor
def least_extent(task: Task, stage: int, level: int, d: int, remaining: int) -> int:
    """Smallest extent of a dim at a level when a stage is next and so much is left of the bound."""
    return task[task[LEAST_EXTENT] + ((stage * task[LEVELS] + level) * task[DIMS] + d) * task[DIVISORS] + remaining]


@accessor
def allowed(task: Task, stage: int, d: int, j: int) -> int:
    """Whether a stage that is LIMITED may have a factor; of a parallel one 1 for the side X plus 2 for the side Y."""
    return task[task[ALLOWED] + (stage * task[DIMS] + d) * task[DIVISORS] + j]


@accessor
def is_tiered(task: Task) -> bool:
    """Whether some loops have to be inside of others."""
    return task[TIERED] != 0


@accessor
def tier(task: Task, is_spatial: bool, level: int, d: int) -> int:
    """Loops of a lower tier are inside of those of a higher one."""
    return task[task[TIER] + (is_spatial * task[LEVELS] + level) * task[DIMS] + d]


@accessor
def ranks(task: Task, t: int) -> int:
    """Place in ``task`` of the ranks of a tensor: their number, and for each its terms and (dim, coefficient) pairs."""
    return task[task[PROJECTION] + t]


@accessor
def order_key(task: Task, level: int, position: int) -> int:
    """The dim of a position in the order that temporal loops get when it is not searched."""
    return task[task[ORDER_KEY] + level * task[DIMS] + position]


@accessor
def spatial_order_key(task: Task, level: int, position: int) -> int:
    """The dim of a position in the order that spatial loops get when it is not searched."""
    return task[task[SPATIAL_ORDER_KEY] + level * task[DIMS] + position]


@accessor
def grows_linearly(task: Task, d: int) -> bool:
    """Whether the words of every tile grow linearly with the extent of a dim."""
    return task[task[REPEATED] + d] == 0 and task[task[ANY_COMPRESSED]] == 0


@accessor
def density(task: Task, level: int, t: int) -> int:
    """Place in ``task`` of the density of a tensor that a level compresses; 0 for one that it does not."""
    return task[task[COMPRESSED] + level * task[TENSORS] + t]


@accessor
def temporal_at(task: Task, level: int, d: int) -> int:
    """Tile factor."""
    return task[TEMPORAL] + level * task[DIMS] + d


@accessor
def spatial_at(task: Task, level: int, d: int) -> int:
    """Parallel factor."""
    return task[SPATIAL] + level * task[DIMS] + d


@accessor
def side_at(task: Task, level: int, d: int) -> int:
    """Mesh side of a parallel factor above 1."""
    return task[SIDE] + level * task[DIMS] + d


@accessor
def order_at(task: Task, level: int, d: int) -> int:
    """Place of a temporal loop: 1 for the innermost, 0 if it has none yet."""
    return task[ORDER_POSITION] + level * task[DIMS] + d


@accessor
def spatial_order_at(task: Task, level: int, d: int) -> int:
    """Place of a spatial loop on its mesh side: 1 for the innermost, 0 if it has none yet."""
    return task[SPATIAL_POSITION] + level * task[DIMS] + d


@accessor
def kept_at(task: Task, level: int, t: int) -> int:
    """Whether a level keeps a tensor."""
    return task[KEPT] + level * task[TENSORS] + t


@accessor
def remaining_at(task: Task, d: int) -> int:
    """Index of what is left of a dim's bound."""
    return task[REMAINING] + d


@accessor
def product_at(task: Task, d: int) -> int:
    """Product of the factors of a dim so far."""
    return task[PRODUCT] + d


@accessor
def stage_at(task: Task, d: int) -> int:
    """First stage in which a dim is not decided."""
    return task[NEXT_STAGE] + d


@accessor
def used_at(task: Task, side: int, level: int) -> int:
    """Product of the parallel factors of a level on a mesh side."""
    return task[USED_X - SIDE_X + side] + level


@accessor
def visited_at(task: Task, level: int, item: int) -> int:
    """The dim that a level visits at a place in its order."""
    return task[VISITED] + level * task[ACTIVE] + item


def select_groups(task: Task, is_kept: Callable[[int, int], bool]) -> Task:
    """A copy of ``task`` with only those groups of decisions of whose kind and level ``is_kept`` says so."""
    task = task.copy()
    start = task[GROUP_TABLE]
    groups = task[start : start + 2 * task[GROUPS]].reshape(-1, 2)
    kept = groups[[is_kept(kind, level) for kind, level in groups]]
    task[start : start + kept.size] = kept.ravel()
    task[GROUPS] = len(kept)
    return task


def write_block(task: Task, states: State, block: int, values: NDArray[Any]) -> None:
    """Writes a block (such as TEMPORAL) of a state, or of each row of states."""
    flat = values.reshape(*states.shape[:-1], -1)
    states[..., task[block] : task[block] + flat.shape[-1]] = flat
