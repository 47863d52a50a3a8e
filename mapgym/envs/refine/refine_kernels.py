"""Compiled steps of the environments that edit complete mappings: the edit, what came of it, the mask of the next one.

A step of some environments is :func:`edit_rows`, then pricing, then :func:`settle_rows`; or all of it in one call,
:func:`step_rows`. ``maps`` has one mapping for
each environment, in the form of the map space. ``actions`` (int64[actions, EDIT_COLUMNS]) says what each action that is
an edit means: as in :mod:`mapgym.mapspace.edits_kernels`, but loops to swap are named by their dims; the kind is
``NO_EDIT`` where the task has no such edit. The action behind the last edit, if there is one, stops.
"""

from __future__ import annotations

import math
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from mapgym.compilation import allocating_kernel, inlined_kernel, kernel
from mapgym.compilation.array_kernels import PageArrays, Pages, one, pack_arrays, three, two
from mapgym.envs.common import observation_kernels as fields
from mapgym.envs.common.action_kernels import nearest_legal
from mapgym.envs.common.reward_kernels import price_figures, price_figures_with_features
from mapgym.mapping.canonical_kernels import Sorting, copy_mapping, open_sorting
from mapgym.mapping.maps import Arrays, Maps
from mapgym.mapspace.edit_legality_kernels import Standing, mark_legal_edits, survey
from mapgym.mapspace.edits_kernels import EDIT_COLUMNS, SPATIAL_SWAP, SWAP, EditTables, apply_edit

NO_EDIT = -1

FANOUT_X, FANOUT_Y, CAPACITY = range(3)
"""Rows of the limits of levels: parallelism on X and Y, and words, 0 for no limit."""

STOP, STUCK, REFUSED, START = -1, -2, -3, -4
"""What an environment does in place of an edit: it stops; it makes none; nobody prices it; its episode begins."""

_LOG_RATIO_OF_HALF = 4.0


class Scales(NamedTuple):
    """What observations of a task are relative to, and where they have their fields."""

    inverse_logs: NDArray[np.float64]  # [dim] 1 / log2(bound), 0 for a bound of 1
    limits: NDArray[np.float64]  # [3, level] rows FANOUT_X, FANOUT_Y, CAPACITY
    layout: fields.Layout


class Edited(NamedTuple):
    """What the edits of a task depend on: those of the map space, its limits of parallelism, what actions mean."""

    tables: EditTables
    mesh: NDArray[np.int64]  # [2, level, 2], see mapgym.mapspace.edit_legality_kernels
    actions: NDArray[np.int64]


class Books(NamedTuple):
    """Where some episodes are: one entry for each.

    Values are -ln(cost / lower bound), NaN where nobody has priced the mapping.
    """

    edits_left: NDArray[np.int64]
    is_stuck: NDArray[np.bool_]  # no edit is legal, so that action 0 stands for none
    values: NDArray[np.float64]
    first: NDArray[np.float64]
    best: NDArray[np.float64]
    figures: NDArray[np.float64]  # [figure, n] of the present mapping; the first row is the value
    masks: NDArray[np.int8]  # [n, actions]
    observations: NDArray[np.float32]  # [n, size]


BookArrays: TypeAlias = tuple[
    NDArray[np.int64],
    NDArray[np.bool_],
    NDArray[np.float64],
    NDArray[np.float64],
    NDArray[np.float64],
    NDArray[np.float64],
    NDArray[np.int8],
    NDArray[np.float32],
]
ChoiceArrays: TypeAlias = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]
OutcomeArrays: TypeAlias = tuple[NDArray[np.float64], NDArray[np.bool_]]
PriceArrays: TypeAlias = tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]
Rules: TypeAlias = tuple[int, bool, bool, bool]
"""What kernels that Python calls take: the fields of a named tuple; see :mod:`mapgym.mapping.maps`."""

_EDITED = len(Sorting._fields)  # where the arrays of a task begin that are not those of its sorting


def pack_task(
    sorting: Sorting,
    tables: EditTables,
    mesh: NDArray[np.int64],
    actions: NDArray[np.int64],
    scales: Scales,
) -> PageArrays:
    """Packs what the kernels take of a task; see :class:`Edited`, :class:`Scales` and the module."""
    switches = np.array([tables.min_used_macs, tables.is_limited], np.int64)
    arrays = [field for field in tables if isinstance(field, np.ndarray)]
    return pack_arrays([*sorting, *arrays, switches, mesh, actions, *scales])


@inlined_kernel
def _open_actions(pages: Pages) -> NDArray[np.int64]:
    """View of what actions mean."""
    return two(pages.whole, pages.whole, _EDITED + 11)


@inlined_kernel
def _open_edited(pages: Pages) -> Edited:
    """Views of what edits depend on."""
    whole, flags, halves = pages.whole, pages.flags, pages.halves
    switches = one(whole, whole, _EDITED + 9)
    tables = EditTables(
        group_of=two(halves, whole, _EDITED),
        primes=two(whole, whole, _EDITED + 1),
        growth=two(pages.floats, whole, _EDITED + 2),
        side_free=two(flags, whole, _EDITED + 3),
        on_y=two(flags, whole, _EDITED + 4),
        keep_free=two(flags, whole, _EDITED + 5),
        rules=one(whole, whole, _EDITED + 6),
        min_used_macs=switches[0],
        is_limited=switches[1] != 0,
        least=two(halves, whole, _EDITED + 7),
        most=three(halves, whole, _EDITED + 8),
    )
    return Edited(tables, three(whole, whole, _EDITED + 10), _open_actions(pages))


@inlined_kernel
def _open_scales(pages: Pages) -> Scales:
    """Views of what observations are relative to."""
    whole, floats = pages.whole, pages.floats
    return Scales(
        inverse_logs=one(floats, whole, _EDITED + 12),
        limits=two(floats, whole, _EDITED + 13),
        layout=one(whole, whole, _EDITED + 14),
    )


@kernel
def _position(order: NDArray[np.int8], i: int, s: int, d: int) -> int:
    """Place of dim d in an order of level s."""
    position = 0
    while order[i, s, position] != d:
        position += 1
    return position


@kernel
def _apply(
    i: int, maps: Maps, sorting: Sorting, actions: NDArray[np.int64], action: int, edit: NDArray[np.int64]
) -> None:
    """Applies a legal action that is an edit to mapping i; edit: int64[1, EDIT_COLUMNS], scratch."""
    for column in range(EDIT_COLUMNS):
        edit[0, column] = actions[action, column]
    kind, s, b, c = edit[0, 0], edit[0, 1], edit[0, 2], edit[0, 3]
    if kind == SWAP:
        edit[0, 2], edit[0, 3] = _position(maps.order, i, s, b), _position(maps.order, i, s, c)
    elif kind == SPATIAL_SWAP:
        edit[0, 2], edit[0, 3] = _position(maps.spatial_order, i, s, b), _position(maps.spatial_order, i, s, c)
    apply_edit(i, maps, sorting, edit, 0)


@kernel
def _observe_loops(i: int, s: int, maps: Maps, scales: Scales, observation: NDArray[np.float32]) -> None:
    """Writes the factors and the orders of a level of mapping i, and what it uses of its fan-out."""
    layout = scales.layout
    used_x = used_y = 1.0
    for position in range(maps.temporal.shape[2]):
        d = maps.order[i, s, position]
        factor = maps.temporal[i, s, d]
        if factor > 1:
            observation[fields.of_dim(layout, fields.TEMPORAL, s, d)] = math.log2(factor) * scales.inverse_logs[d]
            observation[fields.of_dim(layout, fields.ORDER, s, d)] = (position + 1) / fields.dims(layout)
        d = maps.spatial_order[i, s, position]
        factor = maps.spatial[i, s, d]
        if factor > 1:
            on_x = position < maps.spatial_split[i, s]
            place = position + 1 if on_x else position + 1 - maps.spatial_split[i, s]
            field = fields.SPATIAL_X if on_x else fields.SPATIAL_Y
            observation[fields.of_dim(layout, field, s, d)] = math.log2(factor) * scales.inverse_logs[d]
            observation[fields.of_dim(layout, fields.SPATIAL_ORDER, s, d)] = place / fields.dims(layout)
            used_x *= factor if on_x else 1
            used_y *= 1 if on_x else factor
    if used_x > 1:
        share = math.log2(used_x) / math.log2(scales.limits[FANOUT_X, s])
        observation[fields.entry(layout, fields.FANOUT_USED_X, s)] = share
    if used_y > 1:
        share = math.log2(used_y) / math.log2(scales.limits[FANOUT_Y, s])
        observation[fields.entry(layout, fields.FANOUT_USED_Y, s)] = share


@kernel
def _observe(
    i: int,
    maps: Maps,
    needs: NDArray[np.float64],
    scales: Scales,
    observation: NDArray[np.float32],
) -> None:
    """Writes mapping i, whose kept tiles need so many words at each level, into an observation."""
    layout = scales.layout
    # These fields lie side by side.
    first, end = fields.entry(layout, fields.TEMPORAL, 0), fields.end_of_levels(layout, fields.FANOUT_USED_Y)
    for position in range(first, end):
        observation[position] = 0.0
    for s in range(maps.temporal.shape[1]):
        _observe_loops(i, s, maps, scales, observation)
        for t in range(maps.keep.shape[2]):
            observation[fields.of_tensor(layout, fields.KEEP, s, t)] = maps.keep[i, s, t]
        capacity = scales.limits[CAPACITY, s]
        if capacity > 0:
            observation[fields.entry(layout, fields.CAPACITY_USED, s)] = needs[s] / capacity


@kernel
def _squash(log_ratio: float) -> float:
    """Maps ln(cost / lower bound) from [0, inf] into [0, 1]: a cost of e**4 = 55 times the bound to 1/2; NaN to 1."""
    if not log_ratio < np.inf:
        return 1.0
    positive = max(log_ratio, 0.0)
    return positive / (_LOG_RATIO_OF_HALF + positive)


@kernel
def _look(i: int, maps: Maps, edited: Edited, standing: Standing, scales: Scales, books: Books, has_stop: bool) -> None:
    """Writes the observation of mapping i and the mask of the edits that it may have."""
    is_legal = survey(i, maps, edited.tables, standing)
    _observe(i, maps, standing.needs, scales, books.observations[i])
    mask = books.masks[i]
    mask[:] = 1
    edits, legal = len(edited.actions), 0
    if is_legal:
        legal = mark_legal_edits(i, maps, edited.tables, edited.mesh, standing, edited.actions, mask)
    else:
        mask[:edits] = 0
    books.is_stuck[i] = legal == 0 and not has_stop
    if books.is_stuck[i]:
        mask[0] = 1


@kernel
def _earn(i: int, value: float, is_best: bool, books: Books) -> float:
    """Books the value of an edited mapping; returns the reward."""
    before = books.best[i] if is_best else books.values[i]
    books.values[i] = value
    return max(value - before, 0.0) if is_best else value - before


@kernel
def choose_edit(i: int, action: int, edits: int, books: Books, is_nearest: bool) -> tuple[int, int]:
    """What environment i does (the number of an edit, or one of the constants above), and which action that is."""
    mask = books.masks[i]
    if not (0 <= action < len(mask) and mask[action] != 0):
        action = nearest_legal(mask, action) if is_nearest else -1
    if np.isnan(books.values[i]):
        return REFUSED, action
    if books.is_stuck[i] or action < 0:
        return STUCK, action
    return (STOP if action >= edits else action), action


@allocating_kernel
def edit_rows(
    rows: NDArray[np.int64],
    actions: NDArray[np.int64],
    arrays: Arrays,
    page_arrays: PageArrays,
    book_arrays: BookArrays,
    is_nearest: bool,
    choices: ChoiceArrays,
) -> None:
    """Edits the mappings of some environments of one task.

    Args:
        rows: int64[k], which environments; all others are left alone.
        actions: int64[n], what agents chose, any integers.
        arrays: those of a batch with a mapping for each environment.
        page_arrays: of the task, from :func:`pack_task`.
        book_arrays: those of :class:`Books`.
        is_nearest: whether the nearest legal action takes the place of an illegal one; otherwise none does.
        choices: int64[n], receives what they do: the number of an edit, or one of the constants above; int64[n],
            receives the actions that they do, -1 for none; and bool[n], whether that is another one than was chosen.
    """
    chosen, executed, is_illegal = choices
    pages, maps, books = Pages(*page_arrays), Maps(*arrays), Books(*book_arrays)
    sorting, table = open_sorting(pages, 0), _open_actions(pages)
    edit = np.empty((1, EDIT_COLUMNS), np.int64)
    for i in rows:
        chosen[i], executed[i] = choose_edit(i, actions[i], len(table), books, is_nearest)
        is_illegal[i] = executed[i] != actions[i]
        if chosen[i] >= 0:
            _apply(i, maps, sorting, table, chosen[i], edit)


@allocating_kernel
def settle_rows(
    rows: NDArray[np.int64],
    chosen: NDArray[np.int64],
    figures: NDArray[np.float64],
    steps: int,
    is_best: bool,
    has_stop: bool,
    arrays: tuple[Arrays, Arrays],
    page_arrays: PageArrays,
    book_arrays: BookArrays,
    outcomes: OutcomeArrays,
) -> None:
    """Brings the books of some environments of one task up to date, when their mappings are edited and priced.

    Args:
        rows: int64[k], which environments.
        chosen: int64[n], what they did.
        figures: float64[figure, k] of mapping rows[j] in column j; looked at only after an edit and at a start.
        steps: edits of an episode.
        is_best: whether rewards are for the best mapping of the episode.
        has_stop: whether the last action stops.
        arrays: those of two batches, with the present and with the best mapping of each environment.
        page_arrays: of the task, from :func:`pack_task`.
        book_arrays: those of :class:`Books`, updated.
        outcomes: float64[n] and bool[n], receive what the step earned and whether the episode is over.
    """
    maps, best_maps, books = Maps(*arrays[0]), Maps(*arrays[1]), Books(*book_arrays)
    pages = Pages(*page_arrays)
    edited, scales = _open_edited(pages), _open_scales(pages)
    rewards, over = outcomes
    levels, dims, tensors = maps.keep.shape[1], maps.temporal.shape[2], maps.keep.shape[2]
    primes = edited.tables.primes.shape[1]
    standing = Standing(
        np.empty((levels, dims)),
        np.empty((levels, tensors)),
        np.empty(levels),
        np.empty((2, levels, 2), np.int64),
        np.empty((levels, dims), np.bool_),
        np.empty((levels, dims, primes), np.bool_),
        np.empty((levels, dims, primes), np.bool_),
    )
    size = books.observations.shape[1]
    for k in range(len(rows)):
        i = rows[k]
        did = chosen[i]
        rewards[i] = 0.0
        if did == START or did >= 0:
            for figure in range(len(figures)):
                books.figures[figure, i] = figures[figure, k]
            value = figures[0, k]
            if did == START:
                books.edits_left[i] = steps
                books.values[i] = books.first[i] = value
            else:
                rewards[i] = _earn(i, value, is_best, books)
            if did == START or value > books.best[i]:
                books.best[i] = value
                copy_mapping(i, maps, i, best_maps)
            _look(i, maps, edited, standing, scales, books, has_stop)
        if did >= 0 or did == STUCK:
            books.edits_left[i] -= 1
        over[i] = books.edits_left[i] == 0 or did in (STOP, REFUSED)
        # The last three entries.
        books.observations[i, size - 3] = books.edits_left[i] / steps
        books.observations[i, size - 2] = _squash(-books.values[i])
        books.observations[i, size - 1] = _squash(-books.best[i])


@allocating_kernel
def step_rows(
    rows: NDArray[np.int64],
    actions: NDArray[np.int64],
    arrays: tuple[Arrays, Arrays],
    page_arrays: PageArrays,
    book_arrays: BookArrays,
    price_arrays: PriceArrays,
    rules: Rules,
    choices: ChoiceArrays,
    outcomes: OutcomeArrays,
) -> None:
    """A whole step of all environments, which have one task: edit, price on hardware without features, settle.

    Args:
        rows: int64[n], all of them.
        actions, arrays, page_arrays, book_arrays, choices, outcomes: see :func:`edit_rows` and
            :func:`settle_rows`.
        price_arrays: whole, floats and numbers of :func:`mapgym.envs.common.reward_kernels.price_figures`.
        rules: edits of an episode, whether rewards are for the best mapping of the episode, whether the last action
            stops, and whether the nearest legal action takes the place of an illegal one.
    """
    steps, is_best, has_stop, is_nearest = rules
    figures = np.empty((len(book_arrays[5]), len(rows)))
    edit_rows(rows, actions, arrays[0], page_arrays, book_arrays, is_nearest, choices)
    # To price again what has not changed is cheaper than to choose.
    price_figures(arrays[0], price_arrays[0], price_arrays[1], price_arrays[2], figures)
    settle_rows(rows, choices[0], figures, steps, is_best, has_stop, arrays, page_arrays, book_arrays, outcomes)


@allocating_kernel
def step_rows_with_features(
    rows: NDArray[np.int64],
    actions: NDArray[np.int64],
    arrays: tuple[Arrays, Arrays],
    page_arrays: PageArrays,
    book_arrays: BookArrays,
    price_arrays: PriceArrays,
    rules: Rules,
    choices: ChoiceArrays,
    outcomes: OutcomeArrays,
) -> None:
    """As :func:`step_rows`, on hardware with features."""
    steps, is_best, has_stop, is_nearest = rules
    figures = np.empty((len(book_arrays[5]), len(rows)))
    edit_rows(rows, actions, arrays[0], page_arrays, book_arrays, is_nearest, choices)
    price_figures_with_features(arrays[0], price_arrays[0], price_arrays[1], price_arrays[2], figures)
    settle_rows(rows, choices[0], figures, steps, is_best, has_stop, arrays, page_arrays, book_arrays, outcomes)


@allocating_kernel
def edit_each(
    rows: NDArray[np.int64],
    chosen: NDArray[np.int64],
    arrays: Arrays,
    page_arrays: PageArrays,
) -> None:
    """Applies the edit chosen[k], which is legal but for metadata, to mapping rows[k] for all k, and nothing else."""
    pages, maps = Pages(*page_arrays), Maps(*arrays)
    sorting, actions = open_sorting(pages, 0), _open_actions(pages)
    edit = np.empty((1, EDIT_COLUMNS), np.int64)
    for k in range(len(rows)):
        _apply(rows[k], maps, sorting, actions, chosen[k], edit)
