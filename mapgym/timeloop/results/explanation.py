"""Why a printed figure is not ours, as far as a rule is known."""

from __future__ import annotations

from collections.abc import Sequence

from mapgym.timeloop.results.comparison import Comparison, Difference
from mapgym.timeloop.results.hardware import Hardware
from mapgym.timeloop.results.labels import ENERGY, RANKS
from mapgym.timeloop.results.task import Inputs

ROUNDING = "so little that it may be rounding of a probability; no rule is known that gives this figure"
"""Sparse counts are products of probabilities, and the last digit decides what is rounded up. A guess, no rule: it does
not make figures equal."""

_UNKNOWN = ""


def explained(
    difference: Difference, comparison: Comparison, others: Sequence[Comparison], inputs: Inputs, hardware: Hardware
) -> str:
    """What explains a difference; "" if no rule is known that does.

    Args:
        difference: what differs.
        comparison: all figures under the rules that fit best.
        others: the same under other rules.
        inputs: the files.
        hardware: the accelerator, as it was read.
    """
    part, tensor, label = place = difference.place
    if difference.kind != ENERGY and inputs.stats.is_sparse and _is_rounding(difference, inputs.stats.mac.name):
        return ROUNDING
    if difference.kind == ENERGY and part == "" and (wrong := _wrong_energies(comparison)):
        return f"sums up energies of {', '.join(sorted(wrong))}, which differ"
    agreeing = [
        other.rules
        for other in others
        if place in other.ours and all(each.place != place for each in other.differences)
    ]
    if agreeing:
        return f"counted as by {agreeing[0]}"
    if any(label.startswith(rank) for rank in RANKS) or (part, tensor) in _parts_with_other_ranks(comparison):
        return "metadata of formats that are not given, or which our ranks cannot say"
    if difference.kind == ENERGY:
        return _of_energy(difference, inputs, hardware)
    return _UNKNOWN


def wrong_beyond_rounding(comparison: Comparison, inputs: Inputs) -> int:
    """How many counts and cycles differ by more than the rounding of probabilities."""
    wrong = [each for each in comparison.differences if each.kind != ENERGY]
    if not inputs.stats.is_sparse:
        return len(wrong)
    return sum(not _is_rounding(each, inputs.stats.mac.name) for each in wrong)


def _is_rounding(difference: Difference, mac: str) -> bool:
    """Whether a count is off by one, or MACs and cycles are by what a sixth digit of a probability can do."""
    if not difference.theirs.isdecimal():
        return False
    distance = abs(int(difference.theirs) - difference.ours)
    is_computes = difference.place[0] in (mac, "") or difference.place[2] == "Cycles"
    return distance <= 1 or (is_computes and distance <= 1e-5 * difference.ours)


def _parts_with_other_ranks(comparison: Comparison) -> set[tuple[str, str]]:
    """Tensors at levels whose metadata counts differ, and those levels and totals."""
    tensors = {
        each.place[:2] for each in comparison.differences if any(each.place[2].startswith(rank) for rank in RANKS)
    }
    levels = {part for part, _ in tensors}
    return tensors | {(part, "") for part in levels} | {("", part) for part in levels}


def _wrong_energies(comparison: Comparison) -> set[str]:
    """Parts of which energies differ."""
    return {each.place[0] for each in comparison.differences if each.kind == ENERGY and each.place[0]}


def _of_energy(difference: Difference, inputs: Inputs, hardware: Hardware) -> str:
    part, _, _ = difference.place
    level = next((each for each in hardware.accelerator.levels if each.name == part), None)
    if level is not None and level.cluster_size > 1:
        return "of a cluster; which version divides an ERT by its size has changed"
    if level is not None and inputs.energies and part not in inputs.energies:
        return f"the ERT has no entry for {part}"
    if not inputs.energies:
        return "no ERT: of the energies of actions only the largest is printed"
    return _UNKNOWN
