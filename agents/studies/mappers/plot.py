"""Picture of the study of mappers. Needs Matplotlib (the extra ``plot``)."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mapgym.agents.experiment.report.statistics import interquartile_mean
from mapgym.agents.studies.drawing import COLORS, new_panels, save
from mapgym.agents.studies.mappers.study import Comparison

_POINTS = 80
_STYLES = ("-", "--", ":")
_LEAST = 1e-3  # what is nearer to the best known is drawn as this
_SHARES = (_LEAST, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
_FIRST = {"samples": 10.0, "seconds": 0.003}


def draw_mappers(comparison: Comparison, folder: Path) -> list[str]:
    """Draws mappers.png: for each accelerator the best so far against samples and against time."""
    units = ("samples", "seconds")
    figure, panels = new_panels(2 * len(comparison.accelerators), 2, (5.6, 4.4), sharey=True)
    places = [(machine, unit) for machine in comparison.accelerators for unit in units]
    for panel, (machine, unit) in zip(panels, places, strict=True):
        end = max(moment.budget for moment in comparison.moments if moment.unit == unit)
        budgets = np.geomspace(min(_FIRST[unit], end / 10), end, _POINTS)
        for i, agent in enumerate(comparison.agents):
            mean = interquartile_mean(np.concatenate(comparison.curves(agent, budgets, unit, machine)))
            style = _STYLES[i // len(COLORS) % len(_STYLES)]
            shown = np.where(np.isfinite(mean), np.maximum(mean - 1.0, _LEAST), np.nan)
            panel.plot(budgets, shown, style, color=COLORS[i % len(COLORS)], label=agent, linewidth=1.4)
        panel.set(xscale="log", yscale="log", xlabel=unit, ylim=(0.8 * _LEAST, _SHARES[-1]))
        panel.set_title(machine, fontsize="medium")
        panel.set_yticks(_SHARES, [f"{100 * share:g} %" for share in _SHARES])
        panel.set_yticks([], minor=True)
        panel.grid(visible=True, which="both", alpha=0.25)
    for panel in panels[::2]:
        panel.set_ylabel("above the best known (interquartile mean)")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right center", fontsize="small")
    save(figure, folder / "mappers.png")
    return ["mappers.png"]
