"""How many mappings a map space has before capacities and fan-outs are looked at.

The number of orders of a level depends on how many loops have a bound above 1, and so ties the dims together: with
a_s loops in slot s the space has a sum over all factorisations of prod_s w_s(a_s), w_s(a) being a! for a free order.
Since a! is the integral of x**a * exp(-x) from 0 to infinity, that sum is an integral over one variable per slot of
a product over the dims of polynomials with positive coefficients (each factorisation contributes the product of the
variables of the slots in which its factor exceeds 1). Gauss-Laguerre quadrature integrates them exactly but for
rounding, and nothing cancels, because nodes, weights and coefficients are all positive.
"""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mapgym.errors import SpecificationError
from mapgym.mapping.mapping import divisors

if TYPE_CHECKING:
    from mapgym.mapspace.entries import FactorGroup, SearchedEntries

_MAX_NODES = 2**22


def prime_exponents(number: int) -> dict[int, int]:
    """Prime factorisation: prime -> exponent."""
    exponents: dict[int, int] = {}
    prime = 2
    while prime * prime <= number:
        while number % prime == 0:
            exponents[prime] = exponents.get(prime, 0) + 1
            number //= prime
        prime += 1
    if number > 1:
        exponents[number] = 1
    return exponents


def ordered_factorisations(number: int, parts: int) -> int:
    """In how many ways a number is an ordered product of so many factors."""
    if parts == 0:
        return int(number == 1)
    return math.prod(math.comb(e + parts - 1, parts - 1) for e in prime_exponents(number).values())


def log10_count(entries: SearchedEntries) -> float:
    """Log10 of the number of distinct mappings (in canonical form) with the right products and fixed entries."""
    levels, dims = entries.order_key.shape
    free_slots = {slot for group in entries.groups for slot in group.slots}
    # A slot with one node has the weight of its loops in the node: 1, or 2 for the choice of a mesh side.
    nodes: list[tuple[tuple[float, ...], tuple[float, ...]]] = []
    log10_total = float(entries.keep_free.sum()) * math.log10(2)
    both: NDArray[np.bool_] = np.any(entries.side_free, axis=1)
    apart = _sides_apart(entries)
    for slot in range(2 * levels):
        s = slot % levels
        most = sum(slot in group.slots for group in entries.groups) + int((entries.fixed[slot] > 1).sum())
        is_ordered = bool(entries.arranged[slot].any())
        if slot < levels or apart[s]:
            nodes.append(_weight(most, is_ordered, False))
        elif slot in free_slots or both[s]:
            nodes.append(_weight(most, is_ordered, bool(both[s])))
        else:
            nodes.append(((1.0,), (1.0,)))
            used = (entries.fixed[slot] > 1) & entries.arranged[slot]
            for loops in (used & entries.on_y[s], used & ~entries.on_y[s]):
                log10_total += math.log10(math.factorial(int(loops.sum())))
    # Where the mesh sides of a level are not alike to all dims, the loops on Y have a variable of their own.
    own = {levels + s: len(nodes) + i for i, s in enumerate(np.flatnonzero(apart).tolist())}
    nodes += [nodes[slot] for slot in own]

    points, log_weights = _grid(nodes, _alike(nodes, entries, apart))
    weigh = _Variables(entries, points, own)
    log_sum = log_weights.copy()
    for d in range(dims):
        for slot in range(2 * levels):
            if entries.fixed[slot, d] > 1:
                log_sum += np.log(weigh(slot, d, int(entries.fixed[slot, d])))
    with np.errstate(divide="ignore"):  # ranges may leave nothing at all
        for group in entries.groups:
            log_sum += np.log(_polynomial(group, weigh) if weigh.is_plain(group) else _limited(group, entries, weigh))
    peak = log_sum.max()
    if peak == -math.inf:
        return -math.inf
    return float(log10_total + (peak + math.log(np.exp(log_sum - peak).sum())) / math.log(10))


def _sides_apart(entries: SearchedEntries) -> NDArray[np.bool_]:
    """bool[level]: whether there are spatial loops that may lie on either mesh side, and others with less choice."""
    levels = len(entries.order_key)
    loops = entries.fixed[levels:] != 1
    most = entries.limits.most[:, levels:]
    uneven = ((most[0] != most[1]) & loops) | (entries.arranged[levels:] != entries.arranged[levels:, :1])
    is_apart: NDArray[np.bool_] = entries.side_free.any(axis=1) & uneven.any(axis=1)
    return is_apart


class _Variables:
    """The variable, or sum of variables, that a loop contributes to each point of the grid, float64[m]."""

    def __init__(self, entries: SearchedEntries, points: NDArray[np.float64], own: dict[int, int]) -> None:
        self.entries, self.points, self.own = entries, points, own
        self.levels = len(entries.order_key)

    def __call__(self, slot: int, d: int, factor: int) -> NDArray[np.float64]:
        """That of a factor above 1; zeros for one that is not allowed."""
        entries, s = self.entries, slot % self.levels
        one = np.ones(len(self.points))
        limits = entries.limits
        is_given = entries.fixed[slot, d] != 0
        if not is_given and factor < limits.least[slot, d]:
            return 0.0 * one
        on_x = self.points[:, slot] if entries.arranged[slot, d] else one
        if slot in self.own:
            on_y = self.points[:, self.own[slot]] if entries.arranged[slot, d] else one
            sides = [not entries.on_y[s, d] or entries.side_free[s, d], entries.on_y[s, d] or entries.side_free[s, d]]
            open_x, open_y = (
                is_open and factor <= most for is_open, most in zip(sides, limits.most[:, slot, d], strict=True)
            )
            return open_x * on_x + open_y * on_y
        if not is_given and factor > limits.most[:, slot, d].max():
            return 0.0 * one
        # Where orders are no choice, the node stands for that of the side.
        return on_x if entries.arranged[slot].any() else self.points[:, slot]

    def is_plain(self, group: FactorGroup) -> bool:
        """Whether a loop of any factor contributes the same to the slots of a group."""
        slots = list(group.slots)
        return not (self.entries.limits.limited[slots, group.dim].any() or any(slot in self.own for slot in slots))


def _limited(group: FactorGroup, entries: SearchedEntries, weigh: _Variables) -> NDArray[np.float64]:
    """As :func:`_polynomial`, where slots take some of the factors only; slot by slot, by what is left of the total."""
    numbers = divisors(group.total)
    sums = {group.total: np.ones(len(weigh.points))}
    for slot in group.slots:
        following: dict[int, NDArray[np.float64]] = {}
        for left, so_far in sums.items():
            for factor in numbers:
                if left % factor:
                    continue
                if factor > 1:
                    part = so_far * weigh(slot, group.dim, factor)
                elif entries.limits.least[slot, group.dim] == 1:
                    part = so_far
                else:
                    continue
                rest = left // factor
                following[rest] = following[rest] + part if rest in following else part
        sums = following
    return sums.get(1, np.zeros(len(weigh.points)))


def _weight(most: int, order_free: bool, side_free: bool) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Nodes and weights so that sum(weight * node**a) is the number of arrangements of a loops, for a <= most.

    They are a! in free order, 2**a for a choice of side, and (a + 1)! for both: orders times positions of the split.
    """
    if not order_free:
        return ((2.0 if side_free else 1.0,), (1.0,))
    x, w = np.polynomial.laguerre.laggauss((most + int(side_free)) // 2 + 1)
    return tuple(x), tuple(w * x if side_free else w)


def _alike(
    nodes: list[tuple[tuple[float, ...], tuple[float, ...]]], entries: SearchedEntries, apart: NDArray[np.bool_]
) -> list[list[int]]:
    """Slots that can be exchanged without changing the sum; one grid point then stands for all exchanges."""
    classes: dict[object, list[int]] = {}
    single = entries.limits.limited.any(axis=1) | (~entries.arranged.all(axis=1) & entries.arranged.any(axis=1))
    single |= np.concatenate([np.zeros(len(apart), np.bool_), apart])
    for slot, node in enumerate(nodes):
        if slot >= len(single) or single[slot]:
            classes[slot] = [slot]
            continue
        key = (node, tuple(entries.group_of[slot]), tuple(np.minimum(entries.fixed[slot], 2)))
        classes.setdefault(key, []).append(slot)
    return list(classes.values())


def _grid(
    nodes: list[tuple[tuple[float, ...], tuple[float, ...]]], classes: list[list[int]]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Points float64[m, slot] and the logarithms of their weights, float64[m]."""
    size = math.prod(math.comb(len(nodes[slots[0]][0]) + len(slots) - 1, len(slots)) for slots in classes)
    if size > _MAX_NODES:
        raise SpecificationError(
            f"counting this map space takes {size} terms, more than {_MAX_NODES}; search fewer dims, levels or axes"
        )
    points = np.empty((1, 0))
    log_weights = np.zeros(1)
    for slots in classes:
        x, w = (np.array(values) for values in nodes[slots[0]])
        choices = np.array(list(itertools.combinations_with_replacement(range(len(x)), len(slots))))
        repeats = np.array(
            [
                math.factorial(len(slots)) / math.prod(math.factorial(int(n)) for n in np.bincount(choice))
                for choice in choices
            ]
        )
        new = np.log(w)[choices].sum(axis=1) + np.log(repeats)
        points = np.hstack([np.repeat(points, len(choices), axis=0), np.tile(x[choices], (len(points), 1))])
        log_weights = (log_weights[:, None] + new).ravel()
    columns = np.argsort([slot for slots in classes for slot in slots])
    return points[:, columns], log_weights


def _polynomial(group: FactorGroup, weigh: _Variables) -> NDArray[np.float64]:
    """Sum over the factorisations of the product of the variables of the slots with a factor above 1, float64[m]."""
    slots = len(group.slots)
    # Elementary symmetric polynomials: symmetric[k] sums the products of all choices of k of the variables.
    symmetric = np.zeros((slots + 1, len(weigh.points)))
    symmetric[0] = 1.0
    for slot in group.slots:
        symmetric[1:] += symmetric[:-1] * weigh(slot, group.dim, group.total)
    total = np.zeros(len(weigh.points))
    for k in range(1, slots + 1):
        # Factorisations with a factor above 1 in exactly k given slots, by inclusion and exclusion.
        exactly = sum((-1) ** (k - j) * math.comb(k, j) * ordered_factorisations(group.total, j) for j in range(k + 1))
        total += float(exactly) * symmetric[k]
    return total
