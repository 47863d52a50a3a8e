"""Compiled tree search: from the top of a tree to a leaf, by random choices to a mapping, and back with its value.

A node stands for the decisions that lead to it. They are made anew on the way down, so that no node holds a state.
Values are -ln(cost): higher is better.
"""

from __future__ import annotations

import math
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from mapgym.compilation import allocating_kernel, kernel
from mapgym.compilation.random_kernels import State, next_below, next_fraction
from mapgym.mapping.maps import Arrays, Maps
from mapgym.mapspace.construction import packed_kernels as packed
from mapgym.mapspace.construction.decision_kernels import (
    COMPLETE,
    DEAD_END,
    advance,
    choices_size,
    choose,
    next_decision,
)
from mapgym.mapspace.construction.packed_kernels import GROUP, KEEP, ORDER, ORDER_X, PARALLEL, TILE
from mapgym.mapspace.construction.rollout_kernels import export_mapping

ROOT = 0
NOTHING = -1
SIZE = 0
"""Place in ``Tree.used``: nodes so far."""

_ATTEMPTS = 1000
"""Ways down that may end without a mapping before a batch stays short; they do where constraints are inexact."""

Tables: TypeAlias = tuple[packed.Task, packed.Ways, packed.State]
"""Tables of a construction and its initial state; see :mod:`mapgym.mapspace.construction.packed_kernels`."""


class Tree(NamedTuple):
    """A tree in arrays: an entry of each for each node, the root first."""

    parents: NDArray[np.int32]
    firsts: NDArray[np.int32]  # the first of its children, which stand side by side; 0 if it has none yet
    counts: NDArray[np.int32]  # its children
    actions: NDArray[np.int32]  # the choice that leads to it
    visits: NDArray[np.int32]  # mappings priced below it
    pending: NDArray[np.int32]  # mappings below it that are being priced
    totals: NDArray[np.float64]  # sum of their values
    bests: NDArray[np.float64]  # the best of them
    closed: NDArray[np.bool_]  # whether every mapping below it has been asked for
    used: NDArray[np.int64]  # [1] see SIZE


class Moves(NamedTuple):
    """What choices were worth wherever in the tree they were made: random choices favour the good ones."""

    totals: NDArray[np.float64]  # [move] sum of the values of mappings with it
    visits: NDArray[np.int64]  # [move]


class Ways(NamedTuple):
    """How the mappings of a batch were reached."""

    leaves: NDArray[np.int32]  # [batch] the node below which each lies
    trails: NDArray[np.int32]  # [batch, decisions] the moves that it consists of
    lengths: NDArray[np.int32]  # [batch] how many those are


class Rules(NamedTuple):
    """How the search goes."""

    exploration: float  # factor of the term that rare choices gain
    best_weight: float  # share of the best value below a node in what the node is worth; the rest is the mean
    temperature: float  # of random choices, in units of the spread; 0 for uniform ones
    low: float  # value that counts as 0
    spread: float  # value above that which counts as 1


@kernel
def decision_count(task: packed.Task) -> int:
    """Decisions of a mapping at most, and 1 where there is none: how many different ones there are as well."""
    return max(packed.groups(task), 1) * max(packed.dims(task), packed.tensors(task))


@kernel
def _move_of(task: packed.Task, state: packed.State, width: int, choice: int) -> int:
    """Number of a choice at the decision where a construction is, the same wherever in the tree it comes up."""
    _, _, item = next_decision(task, state)
    items = max(packed.dims(task), packed.tensors(task))
    return (packed.int64(state[GROUP]) * items + item) * width + choice


@kernel
def _close(tree: Tree, node: int) -> None:
    """Closes a node, and those above it that have no other way to go."""
    tree.closed[node] = True
    while node != ROOT:
        node = tree.parents[node]
        first = tree.firsts[node]
        for child in range(first, first + tree.counts[node]):
            if not tree.closed[child]:
                return
        tree.closed[node] = True


@kernel
def _expand(tree: Tree, node: int, choices: NDArray[np.int64], count: int) -> None:
    """Gives a node a child for each choice."""
    first = tree.used[SIZE]
    tree.firsts[node], tree.counts[node] = first, count
    tree.used[SIZE] = first + count
    for k in range(count):
        child = first + k
        tree.parents[child], tree.actions[child] = node, choices[k]
        tree.firsts[child] = tree.counts[child] = tree.visits[child] = tree.pending[child] = 0
        tree.totals[child], tree.bests[child], tree.closed[child] = 0.0, -np.inf, False


@kernel
def _select(tree: Tree, node: int, rules: Rules, generator: State) -> int:
    """The child to go to: one that nobody has tried, at random, or else that with the highest upper bound."""
    first = tree.firsts[node]
    log = math.log(max(tree.visits[node] + tree.pending[node], 1))
    chosen, untried, highest = NOTHING, 0, -np.inf
    for child in range(first, first + tree.counts[node]):
        if tree.closed[child]:
            continue
        visits = tree.visits[child]
        tries = visits + tree.pending[child]
        if tries == 0:
            untried += 1
            if next_below(generator, untried) == 0:
                chosen = child
        elif untried == 0:
            worth = 0.0
            if visits > 0:
                mean = tree.totals[child] / visits
                value = mean + rules.best_weight * (tree.bests[child] - mean)
                # What is being priced counts as a loss, so that the next one tries something else.
                worth = (value - rules.low) / rules.spread * visits / tries
            bound = worth + rules.exploration * math.sqrt(log / tries)
            if bound > highest:
                chosen, highest = child, bound
    return chosen


@kernel
def _roll(
    task: packed.Task,
    state: packed.State,
    choices: NDArray[np.int64],
    count: int,
    rules: Rules,
    moves: Moves,
    generator: State,
) -> int:
    """A random one of some choices, the more likely the better the mappings with it were."""
    if rules.temperature <= 0.0:
        return int(choices[next_below(generator, count)])
    # The highest of worth / temperature + Gumbel noise is drawn with the probability of a softmax.
    chosen, highest = choices[0], -np.inf
    for k in range(count):
        move = _move_of(task, state, len(choices), choices[k])
        worth = 1.0
        if moves.visits[move] > 0:
            worth = (moves.totals[move] / moves.visits[move] - rules.low) / rules.spread
        noise = -math.log(-math.log(max(next_fraction(generator), 1e-300)))
        if worth / rules.temperature + noise > highest:
            chosen, highest = choices[k], worth / rules.temperature + noise
    return int(chosen)


@kernel
def _go(task: packed.Task, state: packed.State, width: int, choice: int, ways: Ways, i: int) -> None:
    """Makes a choice, which becomes part of the way of mapping i."""
    ways.trails[i, ways.lengths[i]] = _move_of(task, state, width, choice)
    ways.lengths[i] += 1
    choose(task, state, choice)


@kernel
def _arrive(tree: Tree, ways: Ways, i: int, node: int) -> None:
    """Notes that mapping i, below a node, is being priced."""
    ways.leaves[i] = node
    tree.pending[node] += 1
    while node != ROOT:
        node = packed.int64(tree.parents[node])
        tree.pending[node] += 1


@allocating_kernel
def ask_for(
    tables: Tables, tree: Tree, moves: Moves, rules: Rules, generator: State, ways: Ways, arrays: Arrays
) -> int:
    """Goes down the tree for each mapping of a batch.

    Args:
        tables: of the construction.
        tree: the nodes passed are pending afterwards, and some have children.
        moves, rules: see there.
        generator: of random numbers.
        ways: filled.
        arrays: of the batch, filled.

    Returns:
        how many mappings there are; fewer than asked for if the tree is closed, or nothing legal is found.
    """
    task, completions, initial = tables
    maps = Maps(*arrays)
    width = choices_size(task)
    choices, weights, state = np.empty(width, np.int64), np.empty(width), np.empty_like(initial)
    asked, failures = 0, 0
    while asked < len(maps.temporal) and not tree.closed[ROOT] and failures < _ATTEMPTS:
        for position in range(len(initial)):
            state[position] = initial[position]
        node = ROOT
        ways.lengths[asked] = 0
        left = advance(task, completions, state, choices, weights)
        while left > 0:
            if tree.firsts[node] == 0:
                is_known = node == ROOT or tree.visits[node] + tree.pending[node] > 0
                if not is_known or tree.used[SIZE] + left > len(tree.parents):
                    break
                _expand(tree, node, choices, left)
            node = _select(tree, node, rules, generator)
            _go(task, state, width, packed.int64(tree.actions[node]), ways, asked)
            left = advance(task, completions, state, choices, weights)
        if left <= 0:
            _close(tree, node)
        while left > 0:
            _go(task, state, width, _roll(task, state, choices, left, rules, moves, generator), ways, asked)
            left = advance(task, completions, state, choices, weights)
        if left == DEAD_END:
            failures += 1
            continue
        export_mapping(task, state, asked, maps)
        _arrive(tree, ways, asked, node)
        asked += 1
    return asked


@kernel
def _choice_of(task: packed.Task, state: packed.State, maps: Maps, i: int) -> int:
    """What a mapping in canonical form says about the decision where a construction is; NOTHING if it says nothing."""
    kind, level, item = next_decision(task, state)
    if kind == KEEP:
        return int(maps.keep[i, level, item])
    if kind == ORDER:
        return int(maps.order[i, level, item])
    split = packed.int64(maps.spatial_split[i, level])
    if kind >= ORDER_X:
        place = item if kind == ORDER_X else split + item
        return int(maps.spatial_order[i, level, place])
    factor = maps.temporal[i, level, item] if kind == TILE else maps.spatial[i, level, item]
    offset = 0
    if kind == PARALLEL and factor > 1:
        for place in range(split, packed.dims(task)):
            if maps.spatial_order[i, level, place] == item:
                offset = packed.y_offset(task)
    for j in range(packed.int64(state[packed.remaining_at(task, item)]) + 1):
        if packed.divisor(task, item, j) == factor:
            return j + offset
    return NOTHING


@allocating_kernel
def enter(tables: Tables, tree: Tree, ways: Ways, arrays: Arrays) -> None:
    """Makes nodes on the whole way to each mapping of a batch, as far as there is room; they are pending afterwards.

    Args:
        tables, tree: as for :func:`ask_for`.
        ways: filled; a mapping that the construction cannot reach ends where it leaves it.
        arrays: of the batch, in canonical form.
    """
    task, completions, initial = tables
    maps = Maps(*arrays)
    width = choices_size(task)
    choices, weights, state = np.empty(width, np.int64), np.empty(width), np.empty_like(initial)
    for i in range(len(maps.temporal)):
        for position in range(len(initial)):
            state[position] = initial[position]
        node = ROOT
        ways.lengths[i] = 0
        left = advance(task, completions, state, choices, weights)
        while left > 0:
            if tree.firsts[node] == 0:
                if tree.used[SIZE] + left > len(tree.parents):
                    break
                _expand(tree, node, choices, left)
            wanted, first = _choice_of(task, state, maps, i), packed.int64(tree.firsts[node])
            child = NOTHING
            for k in range(first, first + tree.counts[node]):
                if tree.actions[k] == wanted:
                    child = k
            if child == NOTHING:
                break
            node = child
            _go(task, state, width, wanted, ways, i)
            left = advance(task, completions, state, choices, weights)
        if left == COMPLETE:
            _close(tree, node)
        _arrive(tree, ways, i, node)


@kernel
def tell_values(tree: Tree, moves: Moves, ways: Ways, rows: NDArray[np.int64], values: NDArray[np.float64]) -> None:
    """Takes the values of some mappings of a batch up the tree.

    Args:
        tree, moves: see :func:`ask_for`.
        ways: as that or :func:`enter` filled it.
        rows: int64[n], which mappings.
        values: float64[n].
    """
    for n in range(len(rows)):
        i, value = rows[n], values[n]
        node = packed.int64(ways.leaves[i])
        while True:
            tree.pending[node] -= 1
            tree.visits[node] += 1
            tree.totals[node] += value
            tree.bests[node] = max(tree.bests[node], value)
            if node == ROOT:
                break
            node = packed.int64(tree.parents[node])
        for k in range(ways.lengths[i]):
            moves.totals[ways.trails[i, k]] += value
            moves.visits[ways.trails[i, k]] += 1
