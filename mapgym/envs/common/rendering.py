"""Pictures of a mapping as it grows: the loop nest as text, or bars as pixels (drawn with NumPy alone).

The picture has one row for each storage level, the outermost on top. In it each dim has a bar: its length is the log2
of the factors that levels up to this one have placed, relative to the dim's bound; tile factors are blue, parallel
ones orange, what inner levels have placed grey. The last bar shows how much of the level's capacity is used.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mapgym.mapping import Mapping
from mapgym.mapping.density_kernels import density_record, largest_occupancy, tile_rows
from mapgym.mapping.mapping import divisors
from mapgym.mapspace.construction.decision_kernels import is_complete, minimum_words, next_decision
from mapgym.mapspace.construction.packed_kernels import KEEP, KIND_NAMES, ORDER_X, PARALLEL, Y_OFFSET

if TYPE_CHECKING:
    from mapgym.envs.common.observation import ObservationLayout
    from mapgym.envs.common.task import Task

_GLYPHS = {
    "A": "757755", "B": "656656", "C": "744447", "D": "655556", "E": "746447", "F": "746444", "G": "744557",
    "H": "557555", "I": "722227", "J": "311157", "K": "556655", "L": "444447", "M": "577555", "N": "657555",
    "O": "755557", "P": "757444", "Q": "755571", "R": "757655", "S": "747117", "T": "722222", "U": "555557",
    "V": "555552", "W": "555775", "X": "552255", "Y": "557222", "Z": "712447", "0": "755557", "1": "262227",
    "2": "717447", "3": "717117", "4": "557111", "5": "747117", "6": "747557", "7": "711222", "8": "757557",
    "9": "757117", "%": "512245", "_": "000007", "-": "007000", ".": "000002", "/": "112244",
}  # fmt: skip
"""3 x 6 pixels for each character: one octal digit for each row, the highest bit on the left."""

_WHITE, _INK, _LINE = (255, 255, 255), (40, 40, 40), (222, 222, 222)
_INNER, _TILE, _PARALLEL = (200, 200, 200), (60, 110, 190), (235, 140, 40)
_CAPACITY = (90, 160, 90)

_SCALE = 2
_BAR_HEIGHT, _BAR_WIDTH = 14, 96
_LABEL_WIDTH, _ROW_GAP, _MARGIN = 100, 10, 8


def render(
    mode: str,
    task: Task,
    table: NDArray[np.int64],
    state: NDArray[np.int32],
    mapping: Mapping,
    layout: ObservationLayout,
    mask: NDArray[np.int8],
) -> Any:
    """Renders the mapping that a state describes.

    Args:
        mode: "ansi" or "rgb_array".
        task: the task.
        table: of its construction.
        state: of the construction.
        mapping: that the state describes.
        mask: int8[actions], the legal ones.
        layout: of the environment.
        mask: int8[actions], the legal ones.
    """
    title = decision_text(task, table, state)
    if mode == "ansi":
        legal = {int(k): action_text(task, table, state, int(k)) for k in mask.nonzero()[0]}
        said = [mapping.to_text(), title]
        if not is_complete(table, state):
            said.append(choices_text(legal))
        return "\n".join(said)
    return draw(task, title, mapping, lambda s: _words(task, table, state, s, mapping), layout)


def decision_text(task: Task, table: NDArray[np.int64], state: NDArray[np.int32]) -> str:
    """One line about the decision that a state has reached."""
    workload = task.workload
    if is_complete(table, state):
        return "complete"
    kind, level, item = next_decision(table, state)
    text = f"next: {KIND_NAMES[kind]} at {task.accelerator.level_names[level]}"
    if kind == KEEP:
        return f"{text}, tensor {workload.tensors[item].name}"
    if kind >= ORDER_X:
        return f"{text}, place {item + 1} from the innermost"
    return f"{text}, dim {workload.dims[item]}"


def action_text(task: Task, table: NDArray[np.int64], state: NDArray[np.int32], action: int) -> str:
    """What an action means for the decision that a state has reached; "" if nothing."""
    if is_complete(table, state):
        return "end the episode" if action == 0 else ""
    kind, level, item = next_decision(table, state)
    name, dims = task.accelerator.level_names[level], task.workload.dims
    if kind == KEEP:
        return f"{('bypass', 'keep')[action]} {task.workload.tensors[item].name} at {name}" if action < 2 else ""
    if kind >= ORDER_X:
        loops = {ORDER_X: "parallel loop on X", ORDER_X + 1: "parallel loop on Y"}.get(kind, "temporal loop")
        return f"{dims[action]} is the next {loops} at {name}" if action < len(dims) else ""
    offset = int(table[Y_OFFSET])
    side, index = divmod(action, offset)
    factors = divisors(task.workload.bounds[item])
    if index >= len(factors) or side > (kind == PARALLEL):
        return ""
    where = f"in parallel on {'XY'[side]}" if kind == PARALLEL else "tile"
    return f"{dims[item]} by {factors[index]}, {where}, at {name}"


def choices_text(meanings: dict[int, str]) -> str:
    """The legal actions with their meanings, one a line."""
    return "\n".join(["legal actions:", *(f"  {action}: {text}" for action, text in meanings.items())])


def draw(
    task: Task, title: str, mapping: Mapping, words: Callable[[int], int], layout: ObservationLayout
) -> NDArray[np.uint8]:
    """Draws a mapping of a task under a title.

    All pictures of an environment have the size that its largest task needs, so that they make a film.

    Args:
        task: the task.
        title: one line.
        mapping: what to draw.
        words: what the tiles take at a level of limited capacity.
        layout: the most levels and dims that a task of the environment has.
    """
    levels = task.accelerator.levels
    dims = [d for d, bound in enumerate(task.workload.bounds) if bound > 1]
    row_height = (len(dims) + 1) * _BAR_HEIGHT + _ROW_GAP
    header = 2 * _BAR_HEIGHT
    height = 2 * _MARGIN + header + layout.levels * ((layout.dims + 1) * _BAR_HEIGHT + _ROW_GAP)
    width = 2 * _MARGIN + 2 * _LABEL_WIDTH + _BAR_WIDTH + 60
    image = np.full((height, width, 3), _WHITE, np.uint8)
    _write(image, _MARGIN, _MARGIN, title)
    factors = mapping.temporal.astype(np.int64) * mapping.spatial
    for row, s in enumerate(range(len(levels) - 1, -1, -1)):
        top = _MARGIN + header + row * row_height
        image[top - 4, _MARGIN : width - _MARGIN] = _LINE
        _write(image, top, _MARGIN, levels[s].name[:12])
        left = _MARGIN + _LABEL_WIDTH
        for place, d in enumerate(dims):
            inner = int(np.prod(factors[:s, d]))
            spatial, temporal = int(mapping.spatial[s, d]), int(mapping.temporal[s, d])
            parts = ((inner, _INNER), (spatial, _PARALLEL), (temporal, _TILE))
            y = top + place * _BAR_HEIGHT
            _write(image, y, left, task.workload.dims[d][:8])
            _draw_bar(image, y, left + 30, parts, task.workload.bounds[d])
            text = "" if temporal == spatial == 1 else f"{temporal}" if spatial == 1 else f"{temporal} X {spatial}"
            _write(image, y, left + 36 + _BAR_WIDTH, text)
        capacity = levels[s].usable_words
        if capacity is not None:
            y = top + len(dims) * _BAR_HEIGHT
            share = words(s) / capacity
            _write(image, y, left, "USED")
            image[y : y + _BAR_HEIGHT - 4, left + 30 : left + 30 + _BAR_WIDTH] = _LINE
            image[y : y + _BAR_HEIGHT - 4, left + 30 : left + 30 + round(_BAR_WIDTH * share)] = _CAPACITY
            _write(image, y, left + 36 + _BAR_WIDTH, f"{100 * share:.0f}%")
    return image


def _words(task: Task, table: NDArray[np.int64], state: NDArray[np.int32], s: int, mapping: Mapping) -> int:
    """Words that the tiles decided so far need at a level, at least."""
    if s == len(mapping.levels) - 1:
        return int(minimum_words(table, state, s, -1, 1))
    return tile_words(task, s, mapping)


def tile_words(task: Task, s: int, mapping: Mapping) -> int:
    """Words that the kept tiles of a mapping take at a level, at most."""
    extents = np.prod(mapping.temporal[: s + 1].astype(np.int64) * mapping.spatial[: s + 1], axis=0)
    tile = dict(zip(mapping.dims, map(int, extents), strict=True))
    compressed = dict(task.accelerator.for_workload(task.workload).levels[s].formats)
    words = 0
    for tensor, kept in zip(task.workload.tensors, mapping.keep[s], strict=True):
        if kept and tensor.name in compressed:
            record = np.array(density_record(task.workload, tensor.name), np.int64)
            rows = tile_rows(record, 0, extents[None], 0)
            words += largest_occupancy(record, 0, tensor.tile_size(tile), rows)
        elif kept:
            words += tensor.tile_size(tile)
    return words


def _draw_bar(
    image: NDArray[np.uint8], y: int, x: int, parts: tuple[tuple[int, tuple[int, int, int]], ...], bound: int
) -> None:
    image[y : y + _BAR_HEIGHT - 4, x : x + _BAR_WIDTH] = _LINE
    placed = 1
    for factor, colour in parts:
        start = round(_BAR_WIDTH * math.log(placed) / math.log(bound))
        placed *= factor
        end = round(_BAR_WIDTH * math.log(placed) / math.log(bound))
        image[y : y + _BAR_HEIGHT - 4, x + start : x + end] = colour


def _write(image: NDArray[np.uint8], y: int, x: int, text: str) -> None:
    """Writes text with its top left corner at (y, x), as far as the image reaches."""
    for character in text.upper():
        for line, bits in enumerate(_GLYPHS.get(character, "000000")):
            for column in range(3):
                if int(bits) >> (2 - column) & 1:
                    top, left = y + _SCALE * line, x + _SCALE * column
                    image[top : top + _SCALE, left : left + _SCALE] = _INK
        x += 4 * _SCALE
