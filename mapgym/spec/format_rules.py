"""Which formats go together: of the ranks of one list, and of two levels that pass a tensor to each other.

The rules are those of Timeloop, in all versions, which ends with an error or an assertion where they are broken
(docs/sparse.md, "Which formats go together"). A format is *compressed* if one of its ranks leaves zeros out. What no
mapping can mend is refused when an accelerator is made; what depends on the levels that a mapping keeps a tensor at is
a matter of legality.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import TYPE_CHECKING

from mapgym.errors import SpecificationError
from mapgym.errors.text import quoted
from mapgym.spec.sparsity import expand_ranks, is_compressed

if TYPE_CHECKING:
    from mapgym.spec.levels import StorageLevel


def check_ranks(levels: Sequence[StorageLevel], where: str) -> None:
    """Raises SpecificationError if a level could get a compressed tensor in ranks that are not its own.

    Every pair of levels that may hold the tensor is looked at, because a mapping may bypass all levels in between.
    """
    for inner, outer in combinations(levels, 2):
        theirs = dict(outer.formats)
        for tensor, ranks in inner.formats:
            if not (may_hold(inner, tensor) and may_hold(outer, tensor) and is_compressed(theirs.get(tensor, ()))):
                continue
            own, outside = expand_ranks(ranks), expand_ranks(theirs[tensor])
            if is_compressed(ranks):
                agree = outside[-len(own) :] == own
            else:
                agree = len(own) <= len(outside) or not inner.decompression_supported
            if not agree:
                raise SpecificationError(
                    f"{where}: formats: {quoted(list(ranks))} of {quoted(tensor)} at {quoted(inner.name)} are not the "
                    f"innermost ranks of {quoted(list(theirs[tensor]))} at {quoted(outer.name)}, which may feed it; "
                    f"end the list of {quoted(outer.name)} with them, or leave the tensor out of a keep_only of "
                    f"{quoted(inner.name)}"
                )


def may_hold(level: StorageLevel, tensor: str) -> bool:
    """Whether a level may hold a tensor."""
    return level.keep_only is None or tensor in level.keep_only


def clash(levels: Sequence[StorageLevel], outer: int, inner: int, tensor: str, is_output: bool) -> str:
    """Why two levels cannot pass a tensor to each other, and the remedy; "" if they can.

    Args:
        levels: of the accelerator, innermost first.
        outer, inner: two of them that keep the tensor; those in between bypass it.
        tensor: its name.
        is_output: whether it is written.
    """
    above, below = levels[outer], levels[inner]
    theirs, own = dict(above.formats).get(tensor, ()), dict(below.formats).get(tensor, ())
    if is_compressed(theirs) and not is_compressed(own):
        missing = [] if below.decompression_supported else ["decompression_supported"]
        missing += ["compression_supported"] if is_output and not below.compression_supported else []
        if missing:
            return (
                f"{below.name} stores {tensor} uncompressed, but gets it compressed from {above.name}; bypass it at "
                f"{below.name} or give that level {' and '.join(f'{key}: true' for key in missing)} or a format"
            )
    if is_compressed(own) and not is_compressed(theirs):
        return (
            f"{below.name} stores {tensor} compressed, but gets it uncompressed from {above.name}; bypass it at "
            f"{below.name} or give both levels such a format"
        )
    targets = {action.target for level in levels[inner + 1 : outer + 1] for action in level.actions}
    if tensor in targets and len(expand_ranks(own)) > len(expand_ranks(theirs)):
        return (
            f"{above.name} has actions on {tensor} but fewer ranks for it than {below.name}; bypass it at {below.name} "
            f"or give {above.name} at least as many ranks"
        )
    return ""
