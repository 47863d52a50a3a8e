"""Pictures of the study of landscapes. Needs Matplotlib (the extra ``plot``)."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mapgym.agents.studies.cells import Result
from mapgym.agents.studies.drawing import new_panels, save
from mapgym.system.file_names import file_name

_STEPS = 12


def draw_landscapes(results: list[Result], folder: Path) -> list[str]:
    """Draws landscape_TASK.png for each task: one column for each mapper, coloured by cost and by time.

    The first seed of each mapper is drawn; the black line follows the centre of what it visits, from the circle on.
    """
    names = []
    for result in results:
        names.append(f"landscape_{file_name(result['workload'], result['accelerator'], slash=True)}.png")
        _draw(result, folder / names[-1])
    return names


def _draw(result: Result, path: Path) -> None:
    agents = result["agents"]
    figure, panels = new_panels(2 * len(agents), len(agents), (3.1, 3.0), sharex=True, sharey=True)
    above, below = panels[: len(agents)], panels[len(agents) :]
    finite = [ratio for runs in agents.values() for ratio in runs[0]["ratios"] if ratio is not None]
    low, high = np.log10(np.quantile(finite, (0.0, 0.98)))
    for top, bottom, (name, runs) in zip(above, below, agents.items(), strict=True):
        run = runs[0]
        x, y = np.array(run["x"]), np.array(run["y"])
        costs = np.array([np.nan if ratio is None else np.log10(ratio) for ratio in run["ratios"]])
        # The best last, so that they are not hidden.
        drawn = np.argsort(-costs)
        by_cost = top.scatter(x[drawn], y[drawn], c=costs[drawn], s=6, cmap="viridis_r", vmin=low, vmax=high)
        by_time = bottom.scatter(x, y, c=run["positions"], s=6, cmap="plasma", vmin=0)
        centres = [(x[part].mean(), y[part].mean()) for part in np.array_split(np.arange(len(x)), _STEPS) if len(part)]
        for panel in (top, bottom):
            panel.plot(*zip(*centres, strict=True), color="black", linewidth=1.0)
            panel.plot(*centres[0], "o", color="white", markeredgecolor="black", markersize=5)
            panel.tick_params(labelsize="x-small")
        top.set_title(name)
    figure.colorbar(by_cost, ax=above, label="log10(cost / lower bound)")
    figure.colorbar(by_time, ax=below, label="sample")
    first, second = [*result["explained"], 0.0][:2]
    figure.supxlabel(f"first component ({first:.0%} of the variance)")
    figure.supylabel(f"second component ({second:.0%})")
    figure.suptitle(f"{result['workload']} on {result['accelerator']}")
    save(figure, path)
