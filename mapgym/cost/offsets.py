"""Offsets of the parallel instances below one level: how many are distinct, and which words neighbours can pass on.

Rules: SEMANTICS of Timeloop, section 4 (multicast and link transfers). The spatial loops of a level are *digits* of
the flattened instance number, the innermost one fastest; ``spans[row, d]`` is the spatial factor of dim d (the row is
the level, or the spare row that :func:`classify_link` fills), ``steps[s, d]`` the extent of dim d below level s, so that
one step of the digit moves the tile by ``key[t, d] * steps[s, d]``.
"""

from __future__ import annotations

from numba import njit

# What peer links can do for the steps with one translation.
LINK_NONE = 0  # nothing
LINK_ALL = 1  # every instance is served by a neighbour
LINK_FIXED = 2  # those not served are the instances at one end of the digits whose span was set to 1
LINK_ENUMERATE = 3  # look at every instance


@njit(cache=True)
def greatest_common_divisor(a, b):
    while b:
        a, b = b, a % b
    return a


@njit(cache=True)
def _pair_steps(tables, t, r, spans, row, steps, s):
    """Two spatial dims of one rank whose offsets can coincide: (n1, n2, step1/g, step2/g), or zeros if they cannot."""
    first = -1
    for k in range(tables.affine_terms[t, r]):
        d = tables.affine_dims[t, r, k]
        if spans[row, d] > 1:
            if first < 0:
                first = k
            else:
                e = tables.affine_dims[t, r, first]
                n1, n2 = spans[row, e], spans[row, d]
                u1 = tables.affine_coefficients[t, r, first] * steps[s, e]
                u2 = tables.affine_coefficients[t, r, k] * steps[s, d]
                if u2 >= n1 * u1 or u1 >= n2 * u2:
                    return 0, 0, 0, 0
                g = greatest_common_divisor(u1, u2)
                return n1, n2, u1 // g, u2 // g
    return 0, 0, 0, 0


@njit(cache=True)
def needs_enumeration(tables, t, spans, row):
    """Whether the closed forms do not hold: three spatial dims in one rank, or a dim in two ranks of the tensor."""
    if tables.plain[t]:
        return False
    for r in range(tables.affine_terms.shape[1]):
        count = 0
        for k in range(tables.affine_terms[t, r]):
            if spans[row, tables.affine_dims[t, r, k]] > 1:
                count += 1
        if count > 2 or (count > 0 and tables.irregular[t]):
            return True
    return False


@njit(cache=True)
def count_distinct(tables, t, spans, row, steps, s):
    """(number of distinct offsets, whether multiplicities differ), where the closed forms hold.

    Ranks have digits of their own, so counts multiply over ranks. In a rank with two spatial dims (n1, n2 instances;
    coprime steps a, b) equal offsets are chains along (b, -a): a first element of a chain has no predecessor.
    """
    distinct = 1
    for k in range(1, tables.product_dims[t, 0] + 1):
        distinct *= spans[row, tables.product_dims[t, k]]
    mixed = False
    if tables.affine_terms[t, 0] > 0:
        for r in range(tables.affine_terms.shape[1]):
            terms = tables.affine_terms[t, r]
            if terms == 0:
                break
            here = 1
            for k in range(terms):
                here *= spans[row, tables.affine_dims[t, r, k]]
            if terms > 1 and here > 1:
                n1, n2, a, b = _pair_steps(tables, t, r, spans, row, steps, s)
                if n1 > 0:
                    repeated = max(0, n1 - b) * max(0, n2 - a)
                    here -= repeated
                    mixed = mixed or repeated > 0
            distinct *= here
    return distinct, mixed


@njit(cache=True)
def multiplicities(tables, t, spans, row, steps, s, instances, classes, scratch):
    """Histogram of multiplicities by closed form: fills classes[:, 0:2] with (multiplicity, count), ascending.

    With B_m = (n1 - (m-1) b)+ (n2 - (m-1) a)+ a pair of dims has B_m - 2 B_{m+1} + B_{m+2} offsets of
    multiplicity m; over several ranks multiplicities and counts multiply.

    Returns:
        The number of classes.
    """
    single = 1
    for k in range(1, tables.product_dims[t, 0] + 1):
        single *= spans[row, tables.product_dims[t, k]]
    covered = single
    count = 1
    classes[0, 0], classes[0, 1] = 1, single
    for r in range(tables.affine_terms.shape[1]):
        terms = tables.affine_terms[t, r]
        if terms == 0:
            break
        here = 1
        for k in range(terms):
            here *= spans[row, tables.affine_dims[t, r, k]]
        covered *= here
        n1, n2, a, b = _pair_steps(tables, t, r, spans, row, steps, s)
        if n1 == 0:
            for c in range(count):
                classes[c, 1] *= here
            continue
        for c in range(count):
            scratch[c, 0], scratch[c, 1] = classes[c, 0], classes[c, 1]
        old, count, m = count, 0, 1
        while n1 > (m - 1) * b and n2 > (m - 1) * a:
            exactly = (n1 - (m - 1) * b) * (n2 - (m - 1) * a)
            exactly -= 2 * max(0, n1 - m * b) * max(0, n2 - m * a)
            exactly += max(0, n1 - (m + 1) * b) * max(0, n2 - (m + 1) * a)
            if exactly > 0:
                for c in range(old):
                    count = _add_class(classes, count, scratch[c, 0] * m, scratch[c, 1] * exactly)
            m += 1
    irrelevant = instances // covered
    for c in range(count):
        classes[c, 0] *= irrelevant
    return count


@njit(cache=True)
def _add_class(classes, count, multiplicity, number):
    """Adds to the class of this multiplicity, keeping the classes in ascending order; returns their count."""
    c = count
    while c > 0 and classes[c - 1, 0] >= multiplicity:
        c -= 1
    if c < count and classes[c, 0] == multiplicity:
        classes[c, 1] += number
        return count
    for k in range(count, c, -1):
        classes[k, 0], classes[k, 1] = classes[k - 1, 0], classes[k - 1, 1]
    classes[c, 0], classes[c, 1] = multiplicity, number
    return count + 1


@njit(cache=True)
def classify_link(tables, t, s, translation, digits, digit_count, x_digits, spans, steps, instances, width):
    """Which instances find, at a grid neighbour, the tile that they need after a step.

    An instance e is served by a neighbour q whose tile was, one step ago, where e's is now: offset(q) - offset(e) =
    translation. Going one place along a row (or column) of the grid increments a digit after its inner digits have
    all wrapped around, so only one difference per digit can occur.

    Args:
        translation: key of the translation of the step.
        digits: dims of the spatial loops of each level, innermost first; the first x_digits of them on X.
        spans: its last row is filled, for LINK_FIXED, with the spans of the instances that are not served.
        width: instances in a row of the grid.

    Returns:
        One of LINK_NONE, LINK_ALL, LINK_FIXED, LINK_ENUMERATE.
    """
    row, spare = s, spans.shape[0] - 1
    used_x = 1
    for k in range(x_digits):
        used_x *= spans[row, digits[s, k]]
    if instances > width and used_x != width:
        return _classify_misaligned(tables, t, s, translation, digits, digit_count, spans, steps, width)
    row_end = digit_count if instances <= width else x_digits
    first_matches = 0
    other_matches = 0
    blocked_matches = 0
    wrapped = 0
    for k in range(digit_count):
        if k == row_end:
            wrapped = 0
        d = digits[s, k]
        step = tables.key[t, d] * steps[s, d]
        difference = step - wrapped
        if difference == translation or difference == -translation:
            if k == 0 or k == row_end:
                if translation == 0:
                    return LINK_ALL
                if first_matches == 0:
                    for dim in range(spans.shape[1]):
                        spans[spare, dim] = spans[row, dim]
                spans[spare, d] = 1
                first_matches += 1
            elif wrapped == 0 and translation != 0:
                # Of each group of instances with equal offsets only the last is served: no offset disappears.
                blocked_matches += 1
            else:
                other_matches += 1
        wrapped += (spans[row, d] - 1) * step
    if other_matches > 0 or (first_matches > 0 and blocked_matches > 0):
        return LINK_ENUMERATE
    if first_matches > 0:
        return LINK_FIXED
    return LINK_NONE if blocked_matches < 2 else LINK_ENUMERATE


@njit(cache=True)
def _classify_misaligned(tables, t, s, translation, digits, digit_count, spans, steps, width):
    """As classify_link where rows of instances are not rows of the grid: says whether any neighbour can match."""
    row = s
    wrapped = 0
    inner = 1
    leading = True
    for k in range(digit_count):
        d = digits[s, k]
        step = tables.key[t, d] * steps[s, d]
        difference = step - wrapped
        leading = leading and step == 0
        if leading:
            inner *= spans[row, d]
        elif difference == translation or difference == -translation:
            return LINK_ENUMERATE
        wrapped += (spans[row, d] - 1) * step
    if translation == 0 and inner > 1:
        return LINK_ALL if width % inner == 0 else LINK_ENUMERATE
    # A neighbour in the next row is `width` places on: add the digits of width, with every pattern of carries.
    patterns = 1 << digit_count
    for pattern in range(patterns):
        rest, carry, difference, possible = width, 0, 0, True
        for k in range(digit_count):
            d = digits[s, k]
            n = spans[row, d]
            add = rest % n + carry
            rest //= n
            wraps = (pattern >> k) & 1
            if (wraps == 1 and add == 0) or (wraps == 0 and add >= n):
                possible = False
                break
            carry = wraps
            difference += (add - n * wraps) * tables.key[t, d] * steps[s, d]
        if possible and (difference == translation or difference == -translation):
            return LINK_ENUMERATE
    return LINK_NONE


@njit(cache=True)
def enumerate_instances(
    tables, t, s, translation, with_links, digits, digit_count, spans, steps, instances, grid, keys, slots, counts, classes
):
    """Histogram of multiplicities of the offsets of those instances that no neighbour serves, one by one.

    Args:
        with_links: False counts all instances.
        grid: (width, height) of the grid.
        keys, slots, counts: scratch, int64; keys of at least ``instances``, slots and counts of a power of two of at
            least twice that (an open-addressing table; slots holds instance + 1) and all zeros in ``slots``.
        classes: filled with (multiplicity, count), ascending.

    Returns:
        (number of classes, number of distinct offsets, number of instances served).
    """
    row = s
    total = 1
    keys[0] = 0
    for k in range(digit_count):
        d = digits[s, k]
        step = tables.key[t, d] * steps[s, d]
        for i in range(total, total * spans[row, d]):
            keys[i] = keys[i - total] + step
        total *= spans[row, d]
    width, height = grid[0], grid[1]
    mask = slots.shape[0] - 1
    served = 0
    distinct = 0
    for e in range(instances):
        if with_links:
            column, row, want = e % width, e // width, keys[e] + translation
            if (
                (column > 0 and keys[e - 1] == want)
                or (column < width - 1 and e + 1 < instances and keys[e + 1] == want)
                or (row > 0 and keys[e - width] == want)
                or (row < height - 1 and e + width < instances and keys[e + width] == want)
            ):
                served += 1
                continue
        h = ((keys[e] * -7046029254386353131) >> 20) & mask
        while slots[h] != 0 and keys[slots[h] - 1] != keys[e]:
            h = (h + 1) & mask
        if slots[h] == 0:
            slots[h] = e + 1
            counts[h] = 0
            distinct += 1
        counts[h] += 1
    count = 0
    for h in range(mask + 1):
        if slots[h] != 0:
            slots[h] = 0
            count = _add_class(classes, count, counts[h], 1)
    return count, distinct, served


def table_size(accelerator_macs: int) -> int:
    """Slots of the hash table of :func:`enumerate_instances`: a power of two of at least twice the instances."""
    return 1 << int(2 * max(accelerator_macs, 1) - 1).bit_length()


def class_capacity(accelerator_macs: int, loops: int) -> int:
    """Classes that a boundary can have: multiplicities of n instances are at most sqrt(2n) different numbers.

    Args:
        accelerator_macs: MAC units, a bound for the instances below a level.
        loops: temporal loops of a mapping; each can lead to a histogram of its own.
    """
    return int((2 * accelerator_macs) ** 0.5 + 2) * (loops + 1)

