"""How much of the dense lower bound zeros can save at most.

docs/sparse.md ("Lower bound") has the proof. In short: an action can save a fraction of at most 1 - d of the accesses
to its target, where d is the product of the densities of its conditions, because a tile of one word or more is empty
with a probability of at most 1 - density; a format can leave out what is zero; and a computation is needed at least
where no operand is zero. Metadata, and what saved accesses and computations cost, only add.

Functions take accelerators that name tensors, not roles.
"""

from __future__ import annotations

import math

from mapgym.spec.accelerator import Accelerator
from mapgym.spec.workload import Workload

# The density of operands is rounded to six digits before computations are counted.
_ROUNDING = 1.0 - 1e-5


def least_compute_share(workload: Workload, accelerator: Accelerator) -> float:
    """Share of the multiply-accumulates that are done at least, in (0, 1]."""
    operands = [tensor for tensor in workload.tensors if not tensor.is_output]
    if len(operands) != 2:
        # Each tensor that is an operand, or that an action on an operand looks at, removes its zeros once.
        names = {tensor.name for tensor in operands}
        actions = [action for level in accelerator.levels for action in level.actions if action.target in names]
        names.update(name for action in actions for name in action.condition_on)
        return math.prod((workload.tensor(name).density * _ROUNDING for name in names), start=1.0)
    a, b = operands
    sent_a, sent_b = (_least_sent(workload, accelerator, tensor.name) for tensor in operands)
    # The share of an operand's non-zeros grows as the other's actions save computations, up to 1.
    shares = (a.density * b.density, sent_b * min(sent_a, b.density), sent_a * min(sent_b, a.density))
    return min(shares) * _ROUNDING


def least_traffic_share(workload: Workload, accelerator: Accelerator) -> float:
    """Share of the accesses, in energy, that are done at least, in (0, 1], but for :func:`lost_to_rounding`."""
    shares = [1.0]
    for tensor in workload.tensors:
        share = _least_sent(workload, accelerator, tensor.name)
        if any(name == tensor.name for level in accelerator.levels for name, _ in level.formats):
            # Once for the words left out, once because blocks are reckoned for tiles that are not empty.
            share *= tensor.density**2
        shares.append(share)
    return min(shares) * _ROUNDING


def lost_to_rounding(accelerator: Accelerator) -> float:
    """Energy (pJ) of one read of each instance: what an action saves of the reads of outputs is rounded up."""
    parts = zip(accelerator.levels, accelerator.action_energies, strict=True)
    return sum(energies["read"] * level.instances for level, energies in parts if level.actions)


def _least_sent(workload: Workload, accelerator: Accelerator, target: str) -> float:
    """Share of a tensor's accesses that the most effective action leaves."""
    conditions = [a.condition_on for level in accelerator.levels for a in level.actions if a.target == target]
    return min((math.prod(workload.tensor(name).density for name in on) for on in conditions), default=1.0)
