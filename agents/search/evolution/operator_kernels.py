"""Compiled mutations and a crossover of the evolutionary search: large moves that a designer would make.

They work on the genome of :mod:`mapgym.agents.search.gamma.genome`, and join the small mutations of its operators. Like
those they keep the products of the factors and touch only what the rules leave free; except where said otherwise, tiles
may be too large afterwards. A slot is one factor of each dim: slot 2s the spatial, slot 2s + 1 the temporal one of
level s, from the inside out.
"""

from __future__ import annotations

from mapgym.agents.search.gamma.genome import KEEP, ORDER, SIDE, SPATIAL, SPATIAL_ORDER, TEMPORAL, Genome, X, Y
from mapgym.agents.search.gamma.genome_kernels import below, has_room, may_enter, random_prime
from mapgym.agents.search.gamma.repair_kernels import Tiles, cover, tile_words
from mapgym.agents.search.gamma.rules import FREE_KEEP, FREE_ORDER, FREE_SPATIAL, FREE_TEMPORAL, Rules
from mapgym.compilation import inlined_kernel, kernel
from mapgym.compilation.number_kernels import greatest_common_divisor
from mapgym.compilation.random_kernels import State
from mapgym.mapping.legality_kernels import capacity_words

ALL, HALF, NONE = range(3)
"""How many dims leave a level before it is filled anew."""


@inlined_kernel
def _level_fits(g: Genome, tiles: Tiles, level: int) -> bool:
    return tile_words(g, tiles, level, False) <= capacity_words(tiles.table, level)


@kernel
def tiles_fit(g: Genome, tiles: Tiles, first: int) -> bool:
    """Whether the tiles of all levels from the given one outwards fit, as if nothing were compressed."""
    for level in range(len(tiles.extents) - 1):
        cover(g, tiles, level)
        if level >= first and not _level_fits(g, tiles, level):
            return False
    return True


@kernel
def _source(g: Genome, rules: Rules, d: int, first: int, last: int, state: State) -> int:
    """A random level from first to last - 1 with a free temporal factor of dim d above 1; -1 if there is none."""
    chosen, count = -1, 0
    for level in range(first, last):
        if rules.levels[FREE_TEMPORAL, level, d] and g[TEMPORAL, level, d] > 1:
            count += 1
            if below(state, count) == 0:
                chosen = level
    return chosen


@kernel
def _grow(g: Genome, tiles: Tiles, d: int, prime: int, first: int, last: int) -> bool:
    """Lets the tiles of levels from first to last - 1 grow along a dim, if they still fit; returns whether they do."""
    extents = tiles.extents
    fits = True
    for level in range(first, last):
        extents[level, d] *= prime
        fits = fits and _level_fits(g, tiles, level)
    if not fits:
        for level in range(first, last):
            extents[level, d] /= prime
    return fits


@kernel
def refill_level(g: Genome, rules: Rules, tiles: Tiles, state: State) -> None:
    """Empties the temporal tile of a level wholly, in part or not at all, and fills it until nothing more fits."""
    levels, dims = g.shape[1], len(rules.primes)
    if not rules.tile or levels < 2:
        return
    level = below(state, levels - 1)
    part = below(state, 3)
    for d in range(dims):
        leaves = part == ALL or (part == HALF and below(state, 2) == 0)
        if leaves and rules.levels[FREE_TEMPORAL, level, d]:
            to_level = level + 1 + below(state, levels - 1 - level)
            if rules.levels[FREE_TEMPORAL, to_level, d]:
                g[TEMPORAL, to_level, d] *= g[TEMPORAL, level, d]
                g[TEMPORAL, level, d] = 1
    _fill(g, rules, tiles, level, TEMPORAL, state)


@kernel
def fill_array(g: Genome, rules: Rules, tiles: Tiles, level: int, state: State) -> None:
    """Moves random primes from temporal factors into the spatial ones of a level until its fan-out takes no more."""
    # Mostly it takes nothing, not even the smallest prime: no dim has to be tried then.
    if has_room(g, rules, level, X, 2) or has_room(g, rules, level, Y, 2):
        _fill(g, rules, tiles, level, SPATIAL, state)


@kernel
def _fill(g: Genome, rules: Rules, tiles: Tiles, level: int, kind: int, state: State) -> None:
    """Moves random primes from temporal factors into those of a kind at a level until it takes no more.

    Temporal factors grow by those of outer levels, as long as all tiles fit.
    """
    levels, dims = g.shape[1], len(rules.primes)
    first, last = (0, levels) if rules.tile else (level, level + 1)
    fits = False
    if kind == TEMPORAL:
        first, fits = level + 1, tiles_fit(g, tiles, level)
    everything = (1 << dims) - 1
    blocked = 0
    for d in range(dims):
        if not rules.levels[kind, level, d]:
            blocked |= 1 << d
    while blocked != everything:
        d = below(state, dims)
        if (blocked >> d) & 1:
            continue
        source, prime, entered = _source(g, rules, d, first, last, state), 0, False
        if source >= 0:
            prime = random_prime(rules, d, g[TEMPORAL, source, d], state)
            if kind == SPATIAL:
                entered = may_enter(g, rules, level, d, SPATIAL, prime, state)
            else:
                entered = fits and _grow(g, tiles, d, prime, level, source)
        if entered:
            g[TEMPORAL, source, d] //= prime
            g[kind, level, d] *= prime
        else:
            blocked |= 1 << d


@kernel
def refill_array(g: Genome, rules: Rules, tiles: Tiles, state: State) -> None:
    """Makes all, half or none of the parallel dims of a level temporal, and fills its fan-out anew."""
    levels, dims = g.shape[1], len(rules.primes)
    level = -1
    first = below(state, levels)
    for step in range(levels):
        candidate = (first + step) % levels
        for d in range(dims):
            if level < 0 and rules.levels[FREE_SPATIAL, candidate, d]:
                level = candidate
    if level < 0:
        return
    part = below(state, 3)
    for d in range(dims):
        leaves = part == ALL or (part == HALF and below(state, 2) == 0)
        if leaves and rules.levels[FREE_SPATIAL, level, d] and rules.levels[FREE_TEMPORAL, level, d]:
            to_level = below(state, levels) if rules.tile and below(state, 2) == 0 else level
            if not rules.levels[FREE_TEMPORAL, to_level, d]:
                to_level = level
            g[TEMPORAL, to_level, d] *= g[SPATIAL, level, d]
            g[SPATIAL, level, d] = 1
    fill_array(g, rules, tiles, level, state)


@kernel
def promote_loop(g: Genome, rules: Rules, state: State) -> None:
    """Makes another loop the innermost of a level, followed by those that reuse the same tensor."""
    levels, dims, tensors = g.shape[1], len(rules.primes), rules.relevant.shape[1]
    first = below(state, levels)
    for step in range(levels):
        level = (first + step) % levels
        if not rules.levels[FREE_ORDER, level, TEMPORAL]:
            continue
        innermost, count, chosen = -1, 0, -1
        for position in range(dims):
            d = g[ORDER, level, position]
            if g[TEMPORAL, level, d] > 1:
                if innermost < 0:
                    innermost = d
                else:
                    count += 1
                    if below(state, count) == 0:
                        chosen = d
        if chosen < 0:
            continue
        # A random one of the tensors that the loop leaves in place.
        held, count = -1, 0
        for t in range(tensors):
            if not rules.relevant[chosen, t]:
                count += 1
                if below(state, count) == 0:
                    held = t
        placed = 0
        for companions in range(2):
            for position in range(placed, dims):
                d = g[ORDER, level, position]
                if d == chosen or (companions and held >= 0 and not rules.relevant[d, held]):
                    for k in range(position, placed, -1):
                        g[ORDER, level, k] = g[ORDER, level, k - 1]
                    g[ORDER, level, placed] = d
                    placed += 1
        return


@kernel
def _divisible(rules: Rules, d: int) -> int:
    """Dim d, or the next one after it whose bound is above 1."""
    dims = len(rules.primes)
    for step in range(dims):
        if rules.primes[(d + step) % dims, 0] > 0:
            return (d + step) % dims
    return d


@kernel
def _free_product(g: Genome, rules: Rules, d: int) -> int:
    """Product of the factors of a dim that may change."""
    product = 1
    for level in range(g.shape[1]):
        for kind in (TEMPORAL, SPATIAL):
            if rules.levels[kind, level, d]:
                product *= g[kind, level, d]
    return product


@kernel
def _trade(g: Genome, rules: Rules, d: int, e: int, first: int, last: int) -> None:
    """Dims d and e trade factors and places in the orders over the slots from first to last - 1.

    What a bound does not admit becomes a loop of the outermost level.
    """
    levels, dims = g.shape[1], len(rules.primes)
    total_d, total_e = _free_product(g, rules, d), _free_product(g, rules, e)
    for slot in range(first, last):
        level, kind = slot // 2, 1 - slot % 2
        if not (rules.levels[kind, level, d] and rules.levels[kind, level, e]):
            continue
        g[kind, level, d], g[kind, level, e] = g[kind, level, e], g[kind, level, d]
        if kind == SPATIAL:
            g[SIDE, level, d], g[SIDE, level, e] = g[SIDE, level, e], g[SIDE, level, d]
        elif rules.levels[FREE_ORDER, level, TEMPORAL]:
            for position in range(dims):
                if g[ORDER, level, position] == d:
                    g[ORDER, level, position] = e
                elif g[ORDER, level, position] == e:
                    g[ORDER, level, position] = d
    for dim in (d, e):
        left = total_d if dim == d else total_e
        for slot in range(2 * levels):
            level, kind = slot // 2, 1 - slot % 2
            if rules.levels[kind, level, dim]:
                g[kind, level, dim] = greatest_common_divisor(g[kind, level, dim], left)
                left //= g[kind, level, dim]
        g[TEMPORAL, levels - 1, dim] *= left


@kernel
def trade_dims(g: Genome, rules: Rules, state: State) -> None:
    """Two dims trade factors and places in the orders over a range of slots."""
    levels, dims = g.shape[1], len(rules.primes)
    if dims < 2 or not rules.tile:
        return
    d = _divisible(rules, below(state, dims))
    e = _divisible(rules, (d + 1 + below(state, dims - 1)) % dims)
    if d == e or not (rules.levels[FREE_TEMPORAL, levels - 1, d] and rules.levels[FREE_TEMPORAL, levels - 1, e]):
        return
    first = below(state, 2 * levels - 1)
    last = first + 1 + below(state, 2 * levels - 1 - first)
    _trade(g, rules, d, e, first, last)


@kernel
def _dim_of_one(g: Genome, rules: Rules, t: int, u: int, state: State) -> int:
    """A random dim that tensor t has and tensor u has not, and that may trade; -1 if there is none."""
    chosen, count = -1, 0
    for d in range(len(rules.primes)):
        may_trade = rules.primes[d, 0] > 0 and rules.levels[FREE_TEMPORAL, g.shape[1] - 1, d]
        if may_trade and rules.relevant[d, t] and not rules.relevant[d, u]:
            count += 1
            if below(state, count) == 0:
                chosen = d
    return chosen


@kernel
def trade_tensors(g: Genome, rules: Rules, state: State) -> None:
    """Two tensors trade the levels that keep them, and mostly a dim of the one alone trades with a dim of the other.

    Weights that stay in the registers become outputs that do, and the loops that reused the former reuse the latter:
    one dataflow becomes another, which would take many small steps through mappings that are worse than both.
    """
    levels, tensors = g.shape[1], rules.relevant.shape[1]
    if tensors < 2:
        return
    t = below(state, tensors)
    u = (t + 1 + below(state, tensors - 1)) % tensors
    changed = False
    for level in range(levels):
        if rules.levels[FREE_KEEP, level, t] and rules.levels[FREE_KEEP, level, u]:
            changed |= g[KEEP, level, t] != g[KEEP, level, u]
            g[KEEP, level, t], g[KEEP, level, u] = g[KEEP, level, u], g[KEEP, level, t]
    if changed and rules.tile and below(state, 4) > 0:
        d, e = _dim_of_one(g, rules, t, u, state), _dim_of_one(g, rules, u, t, state)
        if d >= 0 and e >= 0:
            _trade(g, rules, d, e, 0, 2 * levels - 1)


@kernel
def take_outside(g: Genome, mate: Genome, rules: Rules, state: State) -> None:
    """Takes everything outside a random slot over from another genome: tiles, parallelism, orders, kept tensors.

    Costs add up over the boundaries between levels, and the traffic over a boundary depends on the tile inside it and
    on the loops outside. So the extents of tiles are taken over, not the factors that make them, as far as they are
    multiples of what is inside; the rest becomes loops of the outermost level.
    """
    levels, dims = g.shape[1], len(rules.primes)
    # Slot 0 is never taken over: something of the genome stays.
    cut = 1 + below(state, 2 * levels - 1)
    for d in range(dims):
        total, free = 1, rules.levels[FREE_TEMPORAL, levels - 1, d] != 0
        for slot in range(2 * levels):
            level, kind = slot // 2, 1 - slot % 2
            total *= g[kind, level, d]
            free = free and (slot < cut or rules.levels[kind, level, d] != 0 or g[kind, level, d] == 1)
        if not free:
            continue
        inner, extent = 1, 1
        for slot in range(2 * levels):
            level, kind = slot // 2, 1 - slot % 2
            extent *= mate[kind, level, d]
            if slot >= cut and rules.levels[kind, level, d]:
                missing = extent // greatest_common_divisor(extent, inner)
                g[kind, level, d] = greatest_common_divisor(missing, total // inner)
                if kind == SPATIAL:
                    g[SIDE, level, d] = mate[SIDE, level, d]
            inner *= g[kind, level, d]
        g[TEMPORAL, levels - 1, d] *= total // inner
    for level in range(cut // 2, levels):
        for position in range(dims):
            if rules.levels[FREE_ORDER, level, TEMPORAL]:
                g[ORDER, level, position] = mate[ORDER, level, position]
            if rules.levels[FREE_ORDER, level, SPATIAL] and 2 * level >= cut:
                g[SPATIAL_ORDER, level, position] = mate[SPATIAL_ORDER, level, position]
        if 2 * level >= cut or below(state, 2) == 0:
            for t in range(rules.relevant.shape[1]):
                g[KEEP, level, t] = mate[KEEP, level, t]
