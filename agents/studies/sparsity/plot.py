"""Pictures of the study of sparsity. Needs Matplotlib (the extra ``plot``)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mapgym.agents.studies.cells import Result
from mapgym.agents.studies.drawing import COLORS, new_panels, save
from mapgym.agents.studies.sparsity.study import AWARE, INNER, INPUTS, MAPPINGS, ORDERS, OUTER, WEIGHTS
from mapgym.agents.studies.sparsity.tables import (
    BOTH,
    accelerators_of,
    floats,
    geometric_mean,
    kept_at_inputs,
    kept_at_weights,
    of_part,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_LEAST = 0.2
"""Performance that has the darkest colour, and less."""


def draw_sparsity(results: list[Result], folder: Path) -> list[str]:
    """Draws sparsity_weights.png and sparsity_inputs.png (heat maps), sparsity_kept.png and sparsity_orders.png."""
    machines = [name for name in accelerators_of(results) if name != BOTH]
    _draw_weights(of_part(results, WEIGHTS), folder)
    _draw_inputs(results, machines, folder)
    _draw_kept(results, machines, folder)
    _draw_orders(results, machines, folder)
    return [f"sparsity_{name}.png" for name in ("inputs", "kept", "weights", "orders")]


def _draw_weights(results: list[Result], folder: Path) -> None:
    tasks = list(dict.fromkeys((result["accelerator"], result["workload"]) for result in results))
    figure, panels = new_panels(len(tasks), 4, (2.6, 2.6))
    for panel, task in zip(panels, tasks, strict=True):
        group = [result for result in results if (result["accelerator"], result["workload"]) == task]
        densities = [f"{density:g}" for density in group[0]["densities"]]
        _heat_map(panel, np.stack([kept_at_weights(result) for result in group]), densities, densities)
        panel.set_title(f"{task[1]}\n{task[0]}", fontsize="small")
    figure.supxlabel("density of the weights", fontsize="small")
    figure.supylabel("tuned at", fontsize="small")
    save(figure, folder / "sparsity_weights.png")


def _draw_inputs(results: list[Result], machines: Sequence[str], folder: Path) -> None:
    figure, panels = new_panels(len(machines), 2, (5.6, 4.4))
    for panel, machine in zip(panels, machines, strict=True):
        group = of_part(results, INPUTS, machine)
        densities = [f"{density:g}" for density in group[0]["densities"]]
        names = [*(f"tuned at {density}" for density in densities), AWARE]
        kept = np.stack([[kept_at_inputs(result, name) for name in names] for result in group])
        _heat_map(panel, kept, names, densities)
        panel.set_title(machine, fontsize="small")
    figure.supxlabel("density of the inputs", fontsize="small")
    save(figure, folder / "sparsity_inputs.png")


def _heat_map(panel: Axes, kept: NDArray[np.float64], rows: Sequence[str], columns: Sequence[str]) -> None:
    """Geometric means of float64[run, row, column]; an empty cell has room in no run, a star marks one not in all."""
    means = [[geometric_mean(kept[:, i, j]) for j in range(len(columns))] for i in range(len(rows))]
    shades = np.array(means, np.float64)
    panel.imshow(np.clip(shades, _LEAST, 1.0), cmap="cividis", vmin=_LEAST, vmax=1.0, aspect="auto")
    for i in range(len(rows)):
        for j in range(len(columns)):
            if (mean := means[i][j]) is not None:
                star = "*" if np.isnan(kept[:, i, j]).any() else ""
                color = "white" if mean < (1.0 + _LEAST) / 2 else "black"
                panel.text(j, i, f"{mean:.2f}{star}", ha="center", va="center", fontsize="x-small", color=color)
    panel.set_xticks(range(len(columns)), columns, fontsize="x-small")
    panel.set_yticks(range(len(rows)), rows, fontsize="x-small")


def _draw_kept(results: list[Result], machines: Sequence[str], folder: Path) -> None:
    figure, panels = new_panels(len(machines), 2, (5.4, 3.8), sharey=True)
    for panel, machine in zip(panels, machines, strict=True):
        group = of_part(results, INPUTS, machine)
        for k, name in enumerate(MAPPINGS):
            kept = np.stack([kept_at_inputs(result, name) for result in group])
            means = [geometric_mean(column) for column in kept.T]
            panel.plot(
                group[0]["densities"],
                np.array(means, np.float64),
                "o-" if name == AWARE else ".--",
                color=COLORS[k],
                label=name,
                linewidth=2.2 if name == AWARE else 1.2,
            )
        panel.axhline(1.0, color="0.3", linewidth=0.8)
        _density_axis(panel, group[0]["densities"])
        panel.set_title(machine, fontsize="small")
    panels[0].legend(fontsize="x-small")
    figure.supxlabel("density of the inputs", fontsize="small")
    figure.supylabel("performance kept, of the mapping tuned to the density", fontsize="small")
    save(figure, folder / "sparsity_kept.png")


def _draw_orders(results: list[Result], machines: Sequence[str], folder: Path) -> None:
    figure, panels = new_panels(len(machines), 2, (5.4, 3.4), sharey=True)
    for panel, machine in zip(panels, machines, strict=True):
        group = of_part(results, ORDERS, machine)
        densities = group[0]["densities"]
        for k, layer in enumerate(dict.fromkeys(result["workload"] for result in group)):
            of_layer = [result["rows"] for result in group if result["workload"] == layer]
            random = [
                geometric_mean(
                    np.concatenate(
                        [floats(rows[i][f"random, {OUTER}"]) / floats(rows[i][f"random, {INNER}"]) for rows in of_layer]
                    )
                )
                for i in range(len(densities))
            ]
            searched = [
                geometric_mean(np.array([rows[i][OUTER] / rows[i][INNER] for rows in of_layer]))
                for i in range(len(densities))
            ]
            panel.plot(densities, np.array(searched, np.float64), "o-", color=COLORS[k], label=layer)
            panel.plot(densities, np.array(random, np.float64), ".:", color=COLORS[k])
        panel.axhline(1.0, color="0.3", linewidth=0.8)
        panel.set_yscale("log")
        panel.yaxis.set_major_formatter("{x:g}")
        panel.yaxis.set_minor_formatter("{x:.2g}")
        _density_axis(panel, densities)
        panel.set_title(machine, fontsize="small")
    panels[0].legend(fontsize="x-small", title="solid: searched, dotted: random", title_fontsize="x-small")
    figure.supxlabel("density of both operands", fontsize="small")
    figure.supylabel("EDP of outer- over inner-product-like", fontsize="small")
    save(figure, folder / "sparsity_orders.png")


def _density_axis(panel: Axes, densities: Sequence[float]) -> None:
    panel.set_xscale("log")
    panel.invert_xaxis()
    panel.set_xticks(densities, [f"{density:g}" for density in densities], fontsize="x-small")
    panel.set_xticks([], minor=True)
    panel.tick_params(labelsize="x-small", which="both")
    panel.grid(visible=True, alpha=0.3)
