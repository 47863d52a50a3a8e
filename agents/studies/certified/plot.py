"""Picture of the study of certified optima. Needs Matplotlib (the extra ``plot``)."""

from __future__ import annotations

from pathlib import Path

from mapgym.agents.studies.cells import Result
from mapgym.agents.studies.certified.study import ratio
from mapgym.agents.studies.certified.tables import optima, place, searches
from mapgym.agents.studies.drawing import COLORS, new_panels, save

_MARKERS = ("o", "s", "^", "D", "v", "P", "X")
_OPTIMAL, _LEAST_SECONDS = 1e-6, 1e-3
_SHARES = (_OPTIMAL, 1e-4, 1e-3, 1e-2, 0.1, 1.0, 10.0)


def draw_certified(results: list[Result], folder: Path) -> list[str]:
    """Draws certified.png: for each accelerator, how far each search is above the optimum, against its time."""
    proven, found = optima(results), searches(results)
    machines = list(dict.fromkeys(accelerator for _, accelerator in proven))
    agents = list(dict.fromkeys(result["agent"] for result in found))
    figure, panels = new_panels(len(machines), 2, (5.2, 4.2), sharey=True)
    for panel, machine in zip(panels, machines, strict=True):
        times = [each["seconds"] for (_, where), each in proven.items() if where == machine and each["certified"]]
        if times:
            times = [max(seconds, _LEAST_SECONDS) for seconds in times]
            heights = [0.5 * _OPTIMAL] * len(times)
            panel.plot(times, heights, "|", color="0.2", markersize=9, label="exact (certified)")
        for i, agent in enumerate(agents):
            runs = [result for result in found if (result["agent"], result["accelerator"]) == (agent, machine)]
            shares = [(result, ratio(result["value"], proven[place(result)])) for result in runs]
            points = [
                (max(result["seconds"], _LEAST_SECONDS), max(share - 1.0, _OPTIMAL))
                for result, share in shares
                if share is not None
            ]
            x, y = zip(*points, strict=True) if points else ((), ())
            marker = _MARKERS[i % len(_MARKERS)]
            panel.plot(x, y, marker, color=COLORS[i % len(COLORS)], markersize=5, alpha=0.8, label=agent)
        panel.set(xscale="log", yscale="log", xlabel="seconds", ylim=(0.3 * _OPTIMAL, 2 * _SHARES[-1]))
        panel.set_yticks(_SHARES, ["optimal", *(f"{100 * share:g} %" for share in _SHARES[1:])])
        panel.set_yticks([], minor=True)
        panel.set_title(machine, fontsize="medium")
        panel.grid(visible=True, alpha=0.25)
    if panels:
        panels[0].set_ylabel("above the certified optimum")
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside right center", fontsize="small")
    save(figure, folder / "certified.png")
    return ["certified.png"]
