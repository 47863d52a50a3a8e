"""Picture of the study of learning. Needs Matplotlib (the extra ``plot``)."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mapgym.agents.studies.drawing import COLORS, new_panels, save
from mapgym.agents.studies.learning.study import PROPOSED, PROPOSERS, SEARCHES, Outcome, geometric_mean

_POINTS = 60
_LEAST = 1e-3  # what is nearer to the best known is drawn as this
_SHARES = (_LEAST, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)


def draw_learning(outcome: Outcome, folder: Path) -> list[str]:
    """Draws learning.png: for each accelerator the best so far of searches and proposals against samples."""
    figure, panels = new_panels(len(outcome.accelerators), 3, (5.0, 4.4), sharey=True)
    budgets = np.unique(np.geomspace(1, outcome.samples, _POINTS).astype(int))
    for panel, machine in zip(panels, outcome.accelerators, strict=True):
        for i, who in enumerate((*SEARCHES, *PROPOSERS)):
            ends = budgets if who in SEARCHES else budgets[budgets <= PROPOSED[-1]]
            means = np.array([geometric_mean(outcome.ratios(who, int(end), machine)) for end in ends])
            shown = np.where(np.isfinite(means), np.maximum(means - 1.0, _LEAST), np.nan)
            style = "-" if who in SEARCHES else "--"
            panel.plot(ends, shown, style, color=COLORS[i % len(COLORS)], label=who, linewidth=1.4)
        panel.set(xscale="log", yscale="log", xlabel="samples", ylim=(0.8 * _LEAST, _SHARES[-1]))
        panel.set_title(machine, fontsize="medium")
        panel.set_yticks(_SHARES, [f"{100 * share:g} %" for share in _SHARES])
        panel.set_yticks([], minor=True)
        panel.grid(visible=True, which="both", alpha=0.25)
    panels[0].set_ylabel("above the best known (mean over layers)")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, fontsize="small")
    save(figure, folder / "learning.png")
    return ["learning.png"]
