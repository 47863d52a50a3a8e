"""Pictures of the study of axes. Needs Matplotlib (the extra ``plot``)."""

from __future__ import annotations

from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

import numpy as np

from mapgym.agents.experiment.report.statistics import bootstrap_interval, interquartile_mean
from mapgym.agents.studies.axes.study import BEST, TYPICAL, ratio_curves, split
from mapgym.agents.studies.cells import Result
from mapgym.agents.studies.drawing import COLORS, new_panels, save

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_POINTS = 80
_RATIOS = (1.0, 1.02, 1.05, 1.1, 1.2, 1.5, 2.0, 3.0, 5.0, 10.0)


def draw_axes(results: list[Result], folder: Path) -> list[str]:
    """Draws operators.png (anytime curves and final ratios) and axes.png (gain and harm of each axis)."""
    figure, panels = new_panels(2, 2, (6.2, 4.6))
    _draw_operators(panels, results)
    save(figure, folder / "operators.png")
    figure, panels = new_panels(2, 2, (5.4, 4.4))
    _draw_single_axes(panels, results)
    save(figure, folder / "axes.png")
    return ["operators.png", "axes.png"]


def _draw_operators(panels: list[Axes], results: list[Result]) -> None:
    samples = split(results)[0][0]["samples"]
    budgets = np.unique(np.geomspace(10, samples, _POINTS).round())
    groups: list[str] = []
    final = {}
    for name, ratios in ratio_curves(results, budgets).items():
        group = name.removesuffix(" + crossover")
        if group not in groups:
            groups.append(group)
        color = COLORS[groups.index(group) % len(COLORS)]
        style = "--" if name != group else "-"
        mean = interquartile_mean(np.concatenate(ratios))
        low, high = bootstrap_interval(ratios)
        panels[0].plot(budgets, mean, style, color=color, label=name)
        panels[0].fill_between(budgets, low, high, color=color, alpha=0.15, linewidth=0)
        final[name] = (mean[-1], low[-1], high[-1], color, style)
    panels[0].set(xscale="log", yscale="log", xlabel="samples", ylabel="best / best known (interquartile mean)")
    panels[0].legend(fontsize="small")
    panels[0].grid(visible=True, which="both", alpha=0.25)
    panels[0].set_yticks(_RATIOS, [f"{ratio:g}" for ratio in _RATIOS])
    panels[0].set_yticks([], minor=True)
    ordered = sorted(final, key=lambda name: -final[name][0])
    for place, name in enumerate(ordered):
        mean, low, high, color, style = final[name]
        panels[1].barh(place, mean - 1.0, color=color, alpha=0.9 if style == "-" else 0.5)
        panels[1].errorbar(mean - 1.0, place, xerr=[[mean - low], [high - mean]], color="0.2", capsize=3)
    panels[1].set_yticks(range(len(ordered)), ordered)
    panels[1].xaxis.set_major_formatter(lambda share, _: f"{100 * share:g} %")
    panels[1].set_xlabel(f"above the best known after {samples:,} samples")
    panels[1].grid(visible=True, axis="x", alpha=0.3)


def _draw_single_axes(panels: list[Axes], results: list[Result]) -> None:
    rows = [row for result in split(results)[1] for row in result["rows"]]
    names = list(dict.fromkeys(row["axes"] for row in rows))
    for panel, kind in zip(panels, (TYPICAL, BEST), strict=True):
        for place, name in enumerate(names):
            group = [row for row in rows if (row["base"], row["axes"]) == (kind, name)]
            if kind == TYPICAL:
                metrics = [row["base_value"] / median(row["values"]) for row in group]
            else:
                metrics = [row["random_median"] / row["base_value"] for row in group]
            panel.barh(place, median(metrics), color=COLORS[place % len(COLORS)], alpha=0.7)
            panel.plot(metrics, [place] * len(metrics), "o", color="0.2", markersize=3)
        panel.set_yticks(range(len(names)), [name.replace("+", " +\n") for name in names])
        panel.set(xscale="log", xlim=(0.9, None))
        panel.xaxis.set_major_formatter("{x:g}")
        panel.grid(visible=True, axis="x", which="both", alpha=0.25)
    panels[0].set_title("searched from a typical mapping", fontsize="medium")
    panels[0].set_xlabel("times better (bar: median, dots: layers)")
    panels[1].set_title("drawn at random in the best known mapping", fontsize="medium")
    panels[1].set_xlabel("times worse (bar: median, dots: layers)")
