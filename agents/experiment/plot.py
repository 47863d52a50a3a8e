"""The anytime plot of a comparison. Needs Matplotlib (the extra ``plot``)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mapgym.agents.experiment.experiment import Task
from mapgym.agents.experiment.files import replacing
from mapgym.agents.experiment.labels import OBJECTIVE_NAMES
from mapgym.agents.experiment.results import RunResult
from mapgym.agents.experiment.statistics import bootstrap_interval, interquartile_mean
from mapgym.agents.experiment.summary import Summary, value_curves

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Okabe and Ito's palette, which people with colour-blindness can tell apart; line styles help in print.
_COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
_STYLES = ("-", "--", "-.", ":")
_POINTS = 160


def plot_anytime(summary: Summary, path: Path) -> None:
    """Draws ratio to the lower bound against the budget spent, one panel for each task, both axes logarithmic.

    Lines are interquartile means over the seeds, bands bootstrap 95 % intervals.

    Args:
        summary: what was compared.
        path: the PNG to write.

    Raises:
        ImportError: Matplotlib is not installed.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    tasks = summary.tasks
    columns = min(3, len(tasks))
    rows = math.ceil(len(tasks) / columns)
    figure = Figure(figsize=(1.5 + 5.5 * columns, 4.6 * rows), dpi=130, layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False)
    for panel, task in zip(panels.flat, tasks, strict=False):
        for index, agent in enumerate(summary.agents):
            if (task, agent) in summary.results:
                _draw_agent(panel, index, agent, task, summary)
        _draw_optimum(panel, task, summary)
        panel.set(xscale="log", yscale="log", title=task.name, xlabel=summary.unit)
        panel.set_ylabel(f"best {OBJECTIVE_NAMES[task.objective]} / lower bound")
        _label_ratios(panel)
        panel.grid(visible=True, which="major", alpha=0.4)
        panel.grid(visible=True, which="minor", alpha=0.12)
        panel.legend(loc="upper right")
    for unused in panels.flat[len(tasks) :]:
        unused.remove()
    with replacing(path) as temporary:
        FigureCanvasAgg(figure).print_png(str(temporary))


def _draw_optimum(panel: Axes, task: Task, summary: Summary) -> None:
    """A line at the certified optimum, or at the proven bound, of a task that has one."""
    certificate = summary.certificates.get(task)
    if certificate is not None:
        label = "certified optimum" if certificate.certified else "proven bound"
        ratio = certificate.lower_bound / summary.lower_bounds[task]
        panel.axhline(ratio, color="0.4", linestyle=(0, (1, 1)), linewidth=1.5, label=label)


def _draw_agent(panel: Axes, index: int, agent: str, task: Task, summary: Summary) -> None:
    runs = summary.results[task, agent]
    end = summary.budgets[-1]
    start = 1.0 if summary.unit == "samples" else min(end / 1e3, _first_second(runs))
    budgets = np.geomspace(start, end, _POINTS)
    if summary.unit == "samples":
        budgets = np.unique(budgets.round())
    ratios = value_curves(runs, list(budgets), summary.unit) / summary.lower_bounds[task]
    mean = interquartile_mean(ratios)
    low, high = bootstrap_interval([ratios])
    # Before every run that counts has priced a legal mapping there is no mean to draw.
    drawn = np.isfinite(mean) & np.isfinite(high)
    color = _COLORS[index % len(_COLORS)]
    style = _STYLES[index % len(_STYLES)]
    (line,) = panel.plot(budgets[drawn], mean[drawn], color=color, linestyle=style, linewidth=2.0, label=agent)
    line.set_drawstyle("steps-post")
    panel.fill_between(budgets[drawn], low[drawn], high[drawn], color=color, alpha=0.18, linewidth=0, step="post")


def _label_ratios(panel: Axes) -> None:
    """Plain numbers at 1, 2, 5, 10, ..., or at even steps where the axis is too short for those."""
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

    low, high = panel.get_ylim()
    panel.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)) if high > 6 * low else MaxNLocator(6))
    panel.yaxis.set_major_formatter(FuncFormatter(lambda ratio, _: f"{ratio:g}"))
    panel.yaxis.set_minor_formatter(NullFormatter())


def _first_second(runs: Sequence[RunResult]) -> float:
    return max(1e-4, min((run.trace.seconds[0] for run in runs if run.trace.seconds), default=1.0))
