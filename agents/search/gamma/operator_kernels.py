"""Compiled mutations of the genetic search, and its crossover.

Every one keeps the products of the factors equal to the bounds and touches only what the rules leave free. What it may
break, that the tiles of a level fit its capacity, is repaired afterwards
(:mod:`mapgym.agents.search.gamma.repair_kernels`).
"""

from __future__ import annotations

from mapgym.agents.search.gamma.genome import KEEP, ORDER, SIDE, SPATIAL, TEMPORAL, Genome
from mapgym.agents.search.gamma.genome_kernels import below, has_room, may_enter, random_prime
from mapgym.agents.search.gamma.rules import FREE_KEEP, FREE_ORDER, FREE_SPATIAL, FREE_TEMPORAL, Rules
from mapgym.compilation import kernel
from mapgym.compilation.number_kernels import greatest_common_divisor
from mapgym.compilation.random_kernels import State

TILES, PARALLELISM, ORDERS, BYPASS = range(4)
ITEMS = {"tile": TILES, "parallelism": PARALLELISM, "order": ORDERS, "bypass": BYPASS}
"""What crossover may take over: that of one axis."""


@kernel
def _random_source(g: Genome, rules: Rules, state: State) -> tuple[int, int, int]:
    """A random free slot with a factor above 1, of a random dim: (level, dim, kind), or level -1."""
    slots, dims = 2 * g.shape[1], len(rules.primes)
    first = below(state, dims)
    for step in range(dims):
        d = (first + step) % dims
        count = 0
        chosen = -1
        for slot in range(slots):
            if rules.levels[slot % 2, slot // 2, d] and g[slot % 2, slot // 2, d] > 1:
                count += 1
                if below(state, count) == 0:
                    chosen = slot
        if count:
            return chosen // 2, d, chosen % 2
    return -1, 0, 0


@kernel
def move_prime(g: Genome, rules: Rules, state: State) -> None:
    """Moves a random prime of a random dim to another slot."""
    level, d, kind = _random_source(g, rules, state)
    if level < 0:
        return
    prime = random_prime(rules, d, g[kind, level, d], state)
    slots = 2 * g.shape[1]
    first = below(state, slots)
    for step in range(slots):
        to_level, to_kind = (first + step) % slots // 2, (first + step) % slots % 2
        if (to_level == level and to_kind == kind) or (to_level != level and not rules.tile):
            continue
        if may_enter(g, rules, to_level, d, to_kind, prime, state):
            g[kind, level, d] //= prime
            g[to_kind, to_level, d] *= prime
            return


@kernel
def exchange_primes(g: Genome, rules: Rules, state: State) -> None:
    """Two dims trade places: a prime of one goes from slot x to slot y, a prime of the other from y to x.

    A full buffer or a full array often admits no single move that leaves it full; a trade does.
    """
    level, d, kind = _random_source(g, rules, state)
    if level < 0:
        return
    prime = random_prime(rules, d, g[kind, level, d], state)
    dims = len(rules.primes)
    slots = 2 * g.shape[1] * dims
    first = below(state, slots)
    for step in range(slots):
        slot = (first + step) % slots
        to_level, to_kind, e = slot // (2 * dims), slot // dims % 2, slot % dims
        if e == d or (to_level == level and to_kind == kind) or (to_level != level and not rules.tile):
            continue
        arrivals = rules.levels[to_kind, to_level, d] and rules.levels[kind, level, e]
        if not (arrivals and rules.levels[to_kind, to_level, e]):
            continue
        other = random_prime(rules, e, g[to_kind, to_level, e], state)
        if other == 0:
            continue
        # Both leave before either arrives, so that each finds the room that the other makes.
        g[kind, level, d] //= prime
        g[to_kind, to_level, e] //= other
        if may_enter(g, rules, to_level, d, to_kind, prime, state):
            g[to_kind, to_level, d] *= prime
            if may_enter(g, rules, level, e, kind, other, state):
                g[kind, level, e] *= other
                return
            g[to_kind, to_level, d] //= prime
        g[kind, level, d] *= prime
        g[to_kind, to_level, e] *= other


@kernel
def toggle_parallelism(g: Genome, rules: Rules, state: State) -> None:
    """At one level, moves a dim between time and space as far as it fits, or a parallel dim to the other mesh side."""
    dims = len(rules.primes)
    slots = g.shape[1] * dims
    first = below(state, slots)
    for step in range(slots):
        level, d = (first + step) % slots // dims, (first + step) % dims
        if not (rules.levels[FREE_SPATIAL, level, d] and rules.levels[FREE_TEMPORAL, level, d]):
            continue
        spatial = g[SPATIAL, level, d]
        if spatial > 1 and below(state, 2) == 0:
            other = 1 - g[SIDE, level, d]
            if below(state, 2) == 0 and has_room(g, rules, level, other, spatial):
                g[SIDE, level, d] = other
            else:
                g[TEMPORAL, level, d] *= spatial
                g[SPATIAL, level, d] = 1
            return
        grown = False
        prime = random_prime(rules, d, g[TEMPORAL, level, d], state)
        while prime > 0 and may_enter(g, rules, level, d, SPATIAL, prime, state):
            g[TEMPORAL, level, d] //= prime
            g[SPATIAL, level, d] *= prime
            grown = True
            prime = random_prime(rules, d, g[TEMPORAL, level, d], state)
        if grown:
            return


@kernel
def retile_dim(g: Genome, rules: Rules, state: State) -> None:
    """Spreads the primes of one dim anew: each goes to a random slot, or stays where the slot does not admit it."""
    source, d, _ = _random_source(g, rules, state)
    if source < 0:
        return
    slots = 2 * g.shape[1]
    for slot in range(slots):
        level, kind = slot // 2, slot % 2
        if not rules.levels[kind, level, d]:
            continue
        left = g[kind, level, d]
        prime = random_prime(rules, d, left, state)
        while prime > 0:
            left //= prime
            target = below(state, slots)
            to_level, to_kind = (target // 2 if rules.tile else level), target % 2
            if may_enter(g, rules, to_level, d, to_kind, prime, state):
                g[kind, level, d] //= prime
                g[to_kind, to_level, d] *= prime
            prime = random_prime(rules, d, left, state)


@kernel
def set_tile(g: Genome, rules: Rules, level: int, d: int, tile: int, spatial: int) -> bool:
    """Sets the level factor of a dim; the part of it that divides ``spatial`` becomes parallel.

    Returns:
        Whether that was possible: a spatial factor that is not free has to divide the tile.
    """
    if not rules.levels[FREE_SPATIAL, level, d]:
        spatial = g[SPATIAL, level, d]
        if tile % spatial:
            return False
    parallel = greatest_common_divisor(tile, spatial)
    g[SPATIAL, level, d] = parallel
    g[TEMPORAL, level, d] = tile // parallel
    return True


@kernel
def swap_levels(g: Genome, rules: Rules, state: State) -> None:
    """Swaps the tiles of two levels, dim by dim, where both are free."""
    levels = g.shape[1]
    if not rules.tile or levels < 2:
        return
    a = below(state, levels)
    b = (a + 1 + below(state, levels - 1)) % levels
    for d in range(len(rules.primes)):
        if not (rules.levels[FREE_TEMPORAL, a, d] and rules.levels[FREE_TEMPORAL, b, d]):
            continue
        first = g[TEMPORAL, a, d] * g[SPATIAL, a, d]
        second = g[TEMPORAL, b, d] * g[SPATIAL, b, d]
        moved = first != second and set_tile(g, rules, a, d, second, g[SPATIAL, a, d])
        if moved and not set_tile(g, rules, b, d, first, g[SPATIAL, b, d]):
            set_tile(g, rules, a, d, first, g[SPATIAL, a, d])


@kernel
def swap_loops(g: Genome, rules: Rules, state: State) -> None:
    """Swaps two loops of bound above 1 of a level: temporal ones, or spatial ones on the same mesh side."""
    slots, dims = 2 * g.shape[1], len(rules.primes)
    first = below(state, slots)
    for step in range(slots):
        level, kind = (first + step) % slots // 2, (first + step) % 2
        if not rules.levels[FREE_ORDER, level, kind]:
            continue
        plane = ORDER + kind
        side = below(state, 2)
        count, a, b = 0, 0, 0
        for position in range(dims):
            d = g[plane, level, position]
            if g[kind, level, d] > 1 and (kind == TEMPORAL or g[SIDE, level, d] == side):
                # A random pair, drawn while passing by: the third and later loops replace one of the two.
                count += 1
                if count == 1:
                    a = position
                elif count == 2:
                    b = position
                else:
                    drawn = below(state, count)
                    if drawn == 0:
                        a = position
                    elif drawn == 1:
                        b = position
        if count > 1:
            g[plane, level, a], g[plane, level, b] = g[plane, level, b], g[plane, level, a]
            return


@kernel
def flip_keep(g: Genome, rules: Rules, state: State) -> None:
    """Flips whether a random level keeps a random tensor."""
    tensors = rules.relevant.shape[1]
    slots = g.shape[1] * tensors
    first = below(state, slots)
    for step in range(slots):
        level, t = (first + step) % slots // tensors, (first + step) % tensors
        if rules.levels[FREE_KEEP, level, t]:
            g[KEEP, level, t] = 1 - g[KEEP, level, t]
            return


@kernel
def cross(g: Genome, mate: Genome, rules: Rules, item: int, state: State) -> None:
    """Takes one thing over from another genome: tiles of some dims, all parallelism, all orders or all keep bits."""
    dims = len(rules.primes)
    # One dim, as in GAMMA, or each dim by the toss of a coin.
    only = below(state, dims) if below(state, 2) == 0 else -1
    for d in range(dims):
        taken = d == only or (only < 0 and below(state, 2) == 0)
        for level in range(g.shape[1]):
            if item == TILES and taken:
                g[TEMPORAL, level, d] = mate[TEMPORAL, level, d]
                g[SPATIAL, level, d] = mate[SPATIAL, level, d]
                g[SIDE, level, d] = mate[SIDE, level, d]
            elif item == PARALLELISM:
                if rules.levels[FREE_SPATIAL, level, d] and rules.levels[FREE_TEMPORAL, level, d]:
                    tile = g[TEMPORAL, level, d] * g[SPATIAL, level, d]
                    set_tile(g, rules, level, d, tile, mate[SPATIAL, level, d])
                    g[SIDE, level, d] = mate[SIDE, level, d]
            elif item == ORDERS:
                for kind in (TEMPORAL, SPATIAL):
                    if rules.levels[FREE_ORDER, level, kind]:
                        g[ORDER + kind, level, d] = mate[ORDER + kind, level, d]
    if item == BYPASS:
        for level in range(g.shape[1]):
            for t in range(rules.relevant.shape[1]):
                g[KEEP, level, t] = mate[KEEP, level, t]
