"""Pictures of the study of optima. Needs Matplotlib (the extra ``plot``)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mapgym.agents.studies.drawing import save
from mapgym.agents.studies.optimum.report import FEATURES, LIMIT_SECONDS, Features, Outcomes, Series, by_series, shares

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's palette, which people with colour-blindness can tell apart; markers help in print.
_COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")
_SHORTEST_SECONDS = 1e-3


def plot_study(outcomes: Outcomes, folder: Path) -> list[str]:
    """Draws time.png, share.png and structure.png; returns the names.

    Args:
        outcomes: results of the study, at least one of them with a certificate.
        folder: where the pictures go.

    Raises:
        ImportError: Matplotlib is not installed.
    """
    from matplotlib.figure import Figure

    groups = by_series({task: outcome for task, outcome in outcomes.items() if outcome.certificate is not None})
    pictures = {"time.png": _draw_times, "share.png": _draw_share, "structure.png": _draw_structure}
    for name, draw in pictures.items():
        figure = Figure(dpi=130, layout="constrained")
        draw(figure, groups)
        save(figure, folder / name)
    return list(pictures)


def _label(series: Series) -> str:
    return ", ".join(series)


def _draw_times(figure: Figure, groups: dict[Series, Outcomes]) -> None:
    """How the CPU time grows with the layer: with its work, and with its map space."""
    figure.set_size_inches(12, 4.8)
    by_work, by_size = figure.subplots(1, 2, sharey=True)
    for index, (series, group) in enumerate(groups.items()):
        color, marker = _COLORS[index % len(_COLORS)], _MARKERS[index % len(_MARKERS)]
        times = [max(outcome.cpu_seconds, _SHORTEST_SECONDS) for outcome in group.values()]
        certified = [outcome.certified_within(np.inf) for outcome in group.values()]
        for panel, sizes in (
            (by_work, [task.workload.macs for task in group]),
            (by_size, [outcome.log10_size for outcome in group.values()]),
        ):
            faces = [color if proven else "none" for proven in certified]
            panel.scatter(sizes, times, s=22, marker=marker, edgecolors=color, facecolors=faces, linewidths=1.0)
        by_work.scatter([], [], s=22, marker=marker, color=color, label=_label(series))
    by_work.set(xscale="log", yscale="log", xlabel="multiply-accumulates of the layer", ylabel="CPU seconds")
    by_size.set(xlabel="size of the map space (log10)")
    for panel in (by_work, by_size):
        panel.axhline(LIMIT_SECONDS, color="0.4", linestyle=(0, (1, 1)), linewidth=1.5)
        panel.grid(visible=True, alpha=0.3)
    by_work.legend(title="filled: certified; hollow: gap left", fontsize="small", title_fontsize="small")


def _draw_share(figure: Figure, groups: dict[Series, Outcomes]) -> None:
    """Share of the tasks that are certified after so much CPU time."""
    figure.set_size_inches(7, 4.6)
    panel = figure.subplots()
    end = LIMIT_SECONDS
    for index, (series, group) in enumerate(groups.items()):
        times = sorted(
            max(outcome.cpu_seconds, _SHORTEST_SECONDS)
            for outcome in group.values()
            if outcome.certified_within(np.inf)
        )
        end = max([end, *times])
        share = np.arange(len(times) + 1) / len(group)
        moments, share = [_SHORTEST_SECONDS, *times, 1e9], np.append(share, share[-1])
        panel.step(moments, share, where="post", color=_COLORS[index % len(_COLORS)], label=_label(series))
    panel.axvline(LIMIT_SECONDS, color="0.4", linestyle=(0, (1, 1)), linewidth=1.5)
    panel.set(xscale="log", xlim=(_SHORTEST_SECONDS, 2 * end), ylim=(0, 1.02))
    panel.set(xlabel="CPU seconds", ylabel="share of the tasks with a certified optimum")
    panel.grid(visible=True, alpha=0.3)
    panel.legend()


def _draw_structure(figure: Figure, groups: dict[Series, Outcomes]) -> None:
    """What optimal mappings have in common, one panel for each feature."""
    tables = {name: _share_table(groups, features) for name, features in FEATURES.items()}
    tables = {name: table for name, table in tables.items() if table[1] and table[2]}
    if not tables:
        return
    widths = [len(columns) + 1 for _, _, columns in tables.values()]
    rows = max(len(labels) for _, labels, _ in tables.values())
    figure.set_size_inches(4 + 0.62 * sum(widths) + 1.6 * len(tables), 1.5 + 0.42 * rows)
    panels = figure.subplots(1, len(tables), squeeze=False, width_ratios=widths)[0]
    for panel, (name, (values, labels, columns)) in zip(panels, tables.items(), strict=True):
        _draw_shares(panel, values, labels, columns)
        panel.set_title(name)


def _share_table(groups: dict[Series, Outcomes], features: Features) -> tuple[np.ndarray, list[str], list[str]]:
    """Shares[row, column], labels of the rows (series and level) and of the columns."""
    found = {
        f"{_label(series)}: {level}": of_level
        for series, group in groups.items()
        for level, of_level in shares(group, features).items()
    }
    # Dims of convolutions first, those of matrix products behind them.
    columns = sorted({what for of_level in found.values() for what in of_level}, key=lambda what: ("(" in what, what))
    values = np.array([[of_level.get(what, 0.0) for what in columns] for of_level in found.values()])
    return values, list(found), columns


def _draw_shares(panel: Axes, values: np.ndarray, labels: list[str], columns: list[str]) -> None:
    panel.imshow(values, cmap="Blues", vmin=0.0, vmax=1.0, aspect="auto")
    panel.set_xticks(range(len(columns)), columns, rotation=45, ha="right", fontsize="small")
    panel.set_yticks(range(len(labels)), labels, fontsize="small")
    for row, column in np.ndindex(values.shape):
        share = values[row, column]
        color = "white" if share > 0.6 else "black"
        panel.text(column, row, f"{share:.0%}", ha="center", va="center", fontsize="x-small", color=color)
