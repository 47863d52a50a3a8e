"""Picture of the study of warm starts. Needs Matplotlib (the extra ``plot``)."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mapgym.agents.studies.cells import Result
from mapgym.agents.studies.drawing import COLORS, new_panels, save
from mapgym.agents.studies.warm_start.study import STARTS, warm_start_tables


def draw_warm_starts(results: list[Result], folder: Path) -> list[str]:
    """Draws warm_start.png: how many times fewer samples each start needs, by network, one panel for each agent."""
    _, by_network, _ = warm_start_tables(results)
    rows = by_network.records
    agents = list(dict.fromkeys(row["agent"] for row in rows))
    networks = list(dict.fromkeys(str(row["network"]) for row in rows))
    figure, panels = new_panels(len(agents), 2, (6.0, 3.4), sharey=True)
    width = 0.8 / len(STARTS[1:])
    for panel, agent in zip(panels, agents, strict=True):
        for k, start in enumerate(STARTS[1:]):
            chosen = [row for row in rows if (row["agent"], row["start"]) == (agent, start)]
            heights = [float(str(row["fewer samples"])) for row in chosen]
            places = np.arange(len(networks)) + (k - (len(STARTS) - 2) / 2) * width
            panel.bar(places, heights, width, label=start, color=COLORS[k])
        panel.axhline(1.0, color="0.3", linewidth=0.8)
        panel.set_yscale("log")
        panel.yaxis.set_major_formatter(lambda value, _: f"{value:g} x")
        panel.set_xticks(range(len(networks)), networks, fontsize="small")
        panel.set_title(str(agent), fontsize="small")
        panel.grid(visible=True, axis="y", which="both", alpha=0.3)
    panels[0].legend(fontsize="x-small", title="begun from", title_fontsize="x-small")
    figure.supylabel("fewer samples than from a random start", fontsize="small")
    save(figure, folder / "warm_start.png")
    return ["warm_start.png"]
