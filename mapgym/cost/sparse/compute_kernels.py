"""Compiled fate of the computations that still reach the MACs: done, gated or skipped because operands are zero."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from mapgym.compilation import inlined_kernel, kernel
from mapgym.cost.sparse.tables import ABORTED, SparseTables
from mapgym.mapping.density_kernels import RECORD, mean_density

ABSENT, ZERO, NONZERO = range(3)
"""States of an operand: its format leaves the zero out, it is a zero, or it is not."""


@inlined_kernel
def _set_states(
    sparse: SparseTables,
    keep: NDArray[np.bool_],
    i: int,
    probabilities: NDArray[np.float64],
    states: NDArray[np.float64],
) -> int:
    """Sets the probability of each state of each operand, float64[operand, 3]; returns artefacts."""
    artefacts = 0
    densities = sparse.formats.densities
    for k in range(len(sparse.operands)):
        t = sparse.operands[k]
        nonzero = math.floor(1e6 * mean_density(densities, t * RECORD) + 0.5) / 1e6
        zero = 1.0 - nonzero
        gone = probabilities[t]
        if gone >= 0:
            # Others' actions have removed computes in which this one is zero.
            if gone < 1.0:
                nonzero = nonzero / (1.0 - gone)
                zero = 1.0 - nonzero
            if nonzero > 1.00001 or gone >= 1.0:
                # QUIRK: Timeloop stops at an assertion. All that is left is not zero.
                artefacts = ABORTED
        s = 0
        while not keep[i, s, t]:
            s += 1
        has_format = sparse.formats.ranks[s, t] > 0
        states[k, NONZERO] = min(1.0, max(0.0, nonzero))
        states[k, ZERO] = 0.0 if has_format else min(1.0, max(0.0, zero))
        states[k, ABSENT] = min(1.0, max(0.0, zero)) if has_format else 0.0
    return artefacts


@inlined_kernel
def _combine(left: int, states: NDArray[np.float64]) -> tuple[float, float, float, float]:
    """Computations with (a zero but nothing absent, two of them zero, some operands absent, all of them absent).

    Operands are independent. With two of them everything is added up in Timeloop's order, because the last digit
    decides what is rounded down; the second figure is then apart from the first, and 0 otherwise.
    """
    if len(states) == 2:
        a, b = states[0], states[1]
        one_zero = left * (a[NONZERO] * b[ZERO] + a[ZERO] * b[NONZERO])
        both_zero = left * (a[ZERO] * b[ZERO])
        one_absent = left * (a[NONZERO] * b[ABSENT] + a[ABSENT] * b[NONZERO])
        zero_absent = left * (a[ZERO] * b[ABSENT] + a[ABSENT] * b[ZERO])
        return one_zero, both_zero, one_absent + zero_absent, left * (a[ABSENT] * b[ABSENT])
    whole, with_zero, some_absent, all_absent = 1.0, 0.0, 0.0, 0.0
    for k in range(len(states)):
        nonzero, zero, absent = states[k, NONZERO], states[k, ZERO], states[k, ABSENT]
        if k == 0:
            all_absent = absent
        else:
            some_absent = (
                some_absent * (nonzero + zero + absent) + (whole + with_zero) * absent + all_absent * (nonzero + zero)
            )
            all_absent *= absent
        with_zero = with_zero * (nonzero + zero) + whole * zero
        whole *= nonzero
    return left * with_zero, 0.0, left * some_absent, left * all_absent


@kernel
def compute(
    sparse: SparseTables,
    keep: NDArray[np.bool_],
    i: int,
    left: int,
    probabilities: NDArray[np.float64],
    states: NDArray[np.float64],
) -> tuple[int, int, int, int]:
    """(computes done, gated, skipped, artefacts): what the MACs do with what still reaches them.

    Args:
        sparse: of the task.
        keep, i: of the batch, and which mapping of it.
        left: computes that reach them.
        probabilities: see :func:`mapgym.cost.sparse.saving_kernels.save`.
        states: float64[operands, 3], scratch.
    """
    artefacts = _set_states(sparse, keep, i, probabilities, states)
    one_zero, both_zero, absent, missing = _combine(left, states)
    gated, skipped = 0.0, 0.0
    if sparse.gates:
        gated = one_zero + both_zero
        if not sparse.skips:
            gated += absent
    if sparse.skips:
        skipped = absent
    gated_count, skipped_count = math.floor(gated), math.floor(skipped)
    done = left - skipped_count - gated_count - math.floor(missing)
    return done, gated_count, skipped_count, artefacts
