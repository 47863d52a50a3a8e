"""Compiled tree search: from the top of a tree to a leaf, by random choices to a mapping, and back with its value.

A node stands for the decisions that lead to it, which are made anew on the way down: that takes less time than a copy
of the state would take memory. Values are -ln(cost), higher is better.
"""

from __future__ import annotations

import math
from typing import NamedTuple

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
from mapgym.mapspace.construction.packed_kernels import GROUP
from mapgym.mapspace.construction.rollout_kernels import export_mapping

ROOT = 0
NOTHING = -1
SIZE = 0
"""Place in ``Tree.used``: nodes so far."""

_ATTEMPTS = 1000
"""Ways down that may end without a mapping before a batch stays short; they do where constraints are inexact."""


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
    """What choices were worth wherever they were made, which random choices favour."""

    totals: NDArray[np.float64]  # [move] sum of the values of mappings with it
    visits: NDArray[np.int64]  # [move]
    trails: NDArray[np.int32]  # [batch, decisions] the moves that each mapping of a batch consists of
    lengths: NDArray[np.int32]  # [batch] how many those are


class Rules(NamedTuple):
    """How the search goes."""

    exploration: float  # factor of the term that rare choices gain
    best_weight: float  # share of the best value below a node in what the node is worth; the rest is the mean
    temperature: float  # of random choices, in units of the spread; 0 for uniform ones
    low: float  # value that counts as 0
    spread: float  # value above that which counts as 1
    most_nodes: int  # of the tree


@kernel
def move_of(task: packed.Task, state: packed.State, width: int, choice: int) -> int:
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
    width: int,
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
        move = move_of(task, state, width, choices[k])
        worth = 1.0
        if moves.visits[move] > 0:
            worth = (moves.totals[move] / moves.visits[move] - rules.low) / rules.spread
        noise = -math.log(-math.log(max(next_fraction(generator), 1e-300)))
        if worth / rules.temperature + noise > highest:
            chosen, highest = choices[k], worth / rules.temperature + noise
    return int(chosen)


@kernel
def _note(moves: Moves, i: int, length: int, move: int) -> int:
    moves.trails[i, length] = move
    return length + 1


@allocating_kernel
def ask_for(
    construction: tuple[packed.Task, packed.Ways, packed.State],
    tree_arrays: tuple[NDArray[np.int32], ...],
    rules: Rules,
    move_arrays: tuple[NDArray[np.float64], ...],
    path: NDArray[np.int32],
    generator: State,
    leaves: NDArray[np.int32],
    arrays: Arrays,
) -> int:
    """Goes down the tree for each mapping of a batch.

    Args:
        construction: task, ways and initial state, see :mod:`mapgym.mapspace.construction.packed_kernels`.
        tree_arrays: of a :class:`Tree`; the nodes passed are pending afterwards.
        rules: see there.
        move_arrays: of :class:`Moves`.
        path: int32[any], nodes to pass before there is a choice, without the root.
        generator: of random numbers.
        leaves: int32[n], receives the node below which each mapping lies.
        arrays: of the batch, filled.

    Returns:
        how many mappings there are; fewer than asked for if the tree is closed, or nothing legal is found.
    """
    task, ways, initial = construction
    tree, moves = Tree(*tree_arrays), Moves(*move_arrays)
    maps = Maps(*arrays)
    width = choices_size(task)
    choices, weights, state = np.empty(width, np.int64), np.empty(width), np.empty_like(initial)
    asked, failures = 0, 0
    while asked < len(leaves) and not tree.closed[ROOT] and failures < _ATTEMPTS:
        for position in range(len(initial)):
            state[position] = initial[position]
        node, depth, length = ROOT, 0, 0
        left = advance(task, ways, state, choices, weights)
        while left > 0:
            if tree.firsts[node] == 0:
                is_known = tree.visits[node] + tree.pending[node] > 0 or node == ROOT
                if not is_known or tree.used[SIZE] + left > rules.most_nodes:
                    break
                _expand(tree, node, choices, left)
            child = NOTHING
            if depth < len(path) and not tree.closed[path[depth]]:
                child = path[depth]
            if child == NOTHING:
                child = _select(tree, node, rules, generator)
            depth += 1
            action = packed.int64(tree.actions[child])
            length = _note(moves, asked, length, move_of(task, state, width, action))
            choose(task, state, action)
            node = child
            left = advance(task, ways, state, choices, weights)
        is_whole_way = left <= 0
        while left > 0:
            action = _roll(task, state, choices, left, width, rules, moves, generator)
            length = _note(moves, asked, length, move_of(task, state, width, action))
            choose(task, state, action)
            left = advance(task, ways, state, choices, weights)
        if is_whole_way:
            _close(tree, node)
        if left == DEAD_END:
            failures += 1
            continue
        export_mapping(task, state, asked, maps)
        leaves[asked], moves.lengths[asked] = node, length
        while True:
            tree.pending[node] += 1
            if node == ROOT:
                break
            node = tree.parents[node]
        asked += 1
    return asked


@kernel
def tell_values(
    tree_arrays: tuple[NDArray[np.int32], ...],
    move_arrays: tuple[NDArray[np.float64], ...],
    leaves: NDArray[np.int32],
    values: NDArray[np.float64],
) -> None:
    """Takes the values of the first mappings of a batch up the tree.

    Args:
        tree_arrays, move_arrays: see :func:`ask_for`.
        leaves: int32[at least n], as that filled it.
        values: float64[n].
    """
    tree, moves = Tree(*tree_arrays), Moves(*move_arrays)
    for i in range(len(values)):
        node = packed.int64(leaves[i])
        while True:
            tree.pending[node] -= 1
            tree.visits[node] += 1
            tree.totals[node] += values[i]
            tree.bests[node] = max(tree.bests[node], values[i])
            if node == ROOT:
                break
            node = tree.parents[node]
        for k in range(moves.lengths[i]):
            moves.totals[moves.trails[i, k]] += values[i]
            moves.visits[moves.trails[i, k]] += 1


@kernel
def best_child(tree_arrays: tuple[NDArray[np.int32], ...], node: int) -> int:
    """The open child of a node below which the best mapping lies; NOTHING if it has no open child that was tried."""
    tree = Tree(*tree_arrays)
    chosen, highest = NOTHING, -np.inf
    first = tree.firsts[node]
    for child in range(first, first + tree.counts[node]):
        if not tree.closed[child] and tree.visits[child] > 0 and tree.bests[child] > highest:
            chosen, highest = child, tree.bests[child]
    return chosen
