"""Picture of the fronts of energy against latency. Needs Matplotlib (the extra ``plot``)."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mapgym.agents.studies.cells import Result
from mapgym.agents.studies.drawing import new_panels, save

_NARROW = (1.0, 1.1, 1.2, 1.5, 2.0)
_WIDE = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0)
_LEAST_HEIGHT = 0.01


def draw_fronts(results: list[Result], folder: Path) -> list[str]:
    """Draws pareto.png: one panel for each task, coloured by utilization, with the certified ends."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    figure, panels = new_panels(len(results), 4, (3.7, 3.2))
    shades = Normalize(0.0, 1.0)
    for panel, result in zip(panels, results, strict=True):
        bound = result["bound"]
        x = np.array([point["latency_cycles"] for point in result["points"]]) / bound["latency"]
        y = np.array([point["energy_pj"] for point in result["points"]]) / bound["energy"]
        base_x, base_y = np.array(result["baseline"]).T / np.array([[bound["latency"]], [bound["energy"]]])
        panel.step(base_x, base_y, "x--", where="post", color="0.6", markersize=4, linewidth=0.9, label="random")
        panel.step(x, y, where="post", color="0.3", linewidth=1.0, zorder=2)
        colors = [point["utilization"] for point in result["points"]]
        panel.scatter(x, y, c=colors, s=28, cmap="viridis", norm=shades, zorder=3)
        for end, line in (("latency", panel.axvline), ("energy", panel.axhline)):
            optimum = result["optima"][end]
            if optimum is not None:
                style = "-" if optimum["certified"] else ":"
                line(optimum["lower_bound"] / bound[end], color="#D55E00", linestyle=style, linewidth=0.8)
        panel.margins(0.08)
        panel.set_xscale("log")
        slowest = max(*x, *base_x)
        ticks = _NARROW if slowest < 2.5 else _WIDE
        panel.set_xticks(ticks, [f"{ratio:g}" for ratio in ticks])
        panel.set_xticks([], minor=True)
        panel.set_xlim(0.95, 1.1 * max(1.2, slowest))
        # Less than this would make a flat front look steep.
        low, high = panel.get_ylim()
        middle, half = (low + high) / 2, max((high - low) / 2, _LEAST_HEIGHT * high)
        panel.set_ylim(middle - half, middle + half)
        panel.ticklabel_format(axis="y", useOffset=False)
        panel.tick_params(labelsize="x-small", which="both")
        panel.set_title(f"{result['workload']} on {result['accelerator']}", fontsize="small")
        panel.grid(visible=True, alpha=0.3)
    panels[0].legend(fontsize="x-small", loc="upper right")
    figure.colorbar(ScalarMappable(shades, "viridis"), ax=panels, label="utilization")
    figure.supxlabel("latency / lower bound (red: optimum of latency alone, dotted where only bounded)")
    figure.supylabel("energy / lower bound (red: optimum of energy alone)")
    save(figure, folder / "pareto.png")
    return ["pareto.png"]
