"""Roles: words by which hardware speaks of tensors whose names it cannot know.

What a level stores compressed, saves or holds is said of a tensor of a name or, so that the hardware takes workloads of
any names, of all tensors of a role. The name of a tensor wins over a role.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from mapgym.spec.sparsity import SparseAction

if TYPE_CHECKING:
    from mapgym.spec.levels import StorageLevel

OPERANDS, OUTPUTS = "operands", "outputs"
ROLES = (OPERANDS, OUTPUTS)
"""All tensors that are read only; the one that is accumulated."""

OTHER_OPERANDS = "other_operands"
"""In conditions of an action: all operands but the one that the action is about."""

Named = tuple[str, bool]
"""Name of a tensor, and whether it is the output."""

_Value = TypeVar("_Value")


def has_roles(level: StorageLevel) -> bool:
    """Whether a level speaks of tensors by their roles."""
    words = {*(level.keep_only or ()), *level.no_temporal_reuse, *level.no_multicast}
    words.update(name for name, _ in (*level.formats, *level.bandwidth_scale))
    for action in level.actions:
        words.update((action.target, *action.condition_on))
    return not words.isdisjoint((*ROLES, OTHER_OPERANDS))


def name_tensors(level: StorageLevel, tensors: Sequence[Named]) -> StorageLevel:
    """The level with the tensors of a workload in place of roles."""
    return replace(
        level,
        formats=_named_pairs(level.formats, tensors),
        bandwidth_scale=_named_pairs(level.bandwidth_scale, tensors),
        actions=tuple(action for given in level.actions for action in _named_actions(given, tensors)),
        keep_only=None if level.keep_only is None else names_of(level.keep_only, tensors),
        no_temporal_reuse=names_of(level.no_temporal_reuse, tensors),
        no_multicast=names_of(level.no_multicast, tensors),
    )


def names_of(words: Iterable[str], tensors: Sequence[Named], target: str = "") -> tuple[str, ...]:
    """The tensors that some words stand for, each once; without the target of an action, if they are its conditions."""
    found: dict[str, None] = {}
    known = [name for name, _ in tensors]
    roles = (*ROLES, OTHER_OPERANDS) if target else ROLES
    for word in words:
        if word in known or word not in roles:
            found[word] = None
            continue
        for name, is_output in tensors:
            if is_output == (word == OUTPUTS) and name != target:
                found[name] = None
    return tuple(found)


def _named_pairs(pairs: Sequence[tuple[str, _Value]], tensors: Sequence[Named]) -> tuple[tuple[str, _Value], ...]:
    """Values of tensors, from values of tensors and roles."""
    known, given = [name for name, _ in tensors], dict(pairs)
    return tuple(
        (name, value)
        for word, value in pairs
        for name in names_of((word,), tensors)
        if word in known or word not in ROLES or name not in given
    )


def _named_actions(action: SparseAction, tensors: Sequence[Named]) -> list[SparseAction]:
    """An action on each tensor that the target stands for, as long as there is a tensor to look at."""
    actions = []
    for target in names_of((action.target,), tensors):
        conditions = names_of(action.condition_on, tensors, target)
        if conditions:
            actions.append(replace(action, target=target, condition_on=conditions))
    return actions
