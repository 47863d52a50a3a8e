"""What the pictures of the studies share. Needs Matplotlib (the extra ``plot``)."""

from __future__ import annotations

import io
import math
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mapgym.system.files import write_bytes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's palette, which people with colour-blindness can tell apart.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000", "#999999")


def new_panels(count: int, columns: int, size: tuple[float, float], **options: Any) -> tuple[Figure, list[Axes]]:
    """A figure with panels in rows.

    Args:
        count: how many panels.
        columns: most panels in a row.
        size: width and height of a panel, inches.
        **options: of ``Figure.subplots``.

    Raises:
        ImportError: Matplotlib is not installed.
    """
    from matplotlib.figure import Figure

    columns = min(columns, count)
    rows = math.ceil(count / columns)
    figure = Figure(figsize=(size[0] * columns, size[1] * rows), dpi=110, layout="constrained")
    panels = list(figure.subplots(rows, columns, squeeze=False, **options).flat)
    for unused in panels[count:]:
        unused.remove()
    return figure, panels[:count]


def save(figure: Figure, path: Path) -> None:
    """Writes a PNG atomically; dollars in names are dollars, and letters that the font does not have are boxes."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.text import Text

    for text in figure.findobj(Text):
        # Nothing of ours is a formula, but for the ticks of logarithmic axes, which are written when they are drawn.
        if isinstance(text, Text) and "$" in text.get_text():
            text.set_parse_math(False)
    picture = io.BytesIO()
    with warnings.catch_warnings():
        # Scripts that the font does not have are drawn as boxes, and beside very long names there is little room.
        for message in ("Glyph .* missing", "constrained_layout not applied"):
            warnings.filterwarnings("ignore", message, UserWarning)
        FigureCanvasAgg(figure).print_png(picture)
    write_bytes(path, picture.getvalue())
