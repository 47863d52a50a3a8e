"""The roofline: what a layer reaches, against what bandwidths and MACs allow at its operational intensity.

Williams, Waterman, Patterson, "Roofline: an insightful visual performance model", CACM 52(4), 2009. The intensity of a
layer depends on its mapping, which decides how often words move.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mapgym.agents.experiment.report.charts import Axis, Chart, Series
from mapgym.cost import Cost
from mapgym.spec.accelerator import Accelerator
from mapgym.spec.catalog import Layer
from mapgym.spec.levels import StorageLevel


@dataclass(frozen=True)
class LayerRoof:
    """Where a layer lies.

    Attributes:
        name: of the layer.
        intensities: for each level the multiply-accumulates for each word that all of its instances read and write.
        bandwidths: for each level the words per cycle of the instances in use together; infinite without a limit.
        macs_per_cycle: that are reached.
        limit: what the latency is limited by: a level's bandwidth, or the MACs.
    """

    name: str
    intensities: tuple[float, ...]
    bandwidths: tuple[float, ...]
    macs_per_cycle: float
    limit: str


def layer_roof(layer: Layer, accelerator: Accelerator, cost: Cost) -> LayerRoof:
    """Where a layer lies, with the cost of its mapping in detail."""
    detail = cost.detail
    assert detail is not None  # asked for by the caller
    # On sparse hardware only what is not saved takes bandwidth.
    counts = detail if cost.savings is None else cost.savings
    words = (counts.reads + counts.fills + counts.updates).sum(axis=1) * detail.used_instances
    bandwidths = [
        bandwidth(level) * int(used) for level, used in zip(accelerator.levels, detail.used_instances, strict=True)
    ]
    cycles = counts.level_cycles
    slowest = int(np.argmax(cycles))
    compute = int(detail.compute_cycles)
    limit = f"bandwidth of {accelerator.levels[slowest].name}" if cycles[slowest] > compute else "MACs"
    return LayerRoof(
        layer.name,
        tuple(layer.workload.macs / int(moved) if moved else math.inf for moved in words),
        tuple(bandwidths),
        layer.workload.macs / float(cost.latency_cycles),
        limit,
    )


def bandwidth(level: StorageLevel) -> float:
    """Words that an instance of a level can read and write per cycle in all; infinite without a limit."""
    read, write = level.read_bandwidth_words_per_cycle, level.write_bandwidth_words_per_cycle
    apart = math.inf if read is None or write is None else read + write
    shared = level.shared_bandwidth_words_per_cycle
    return min(apart, math.inf if shared is None else shared)


def roofline(layers: Sequence[LayerRoof], accelerator: Accelerator) -> list[Chart]:
    """A chart for the outermost level, and for each other one whose bandwidth is limited."""
    last = len(accelerator.levels) - 1
    shown = [last, *(s for s in reversed(range(last)) if math.isfinite(bandwidth(accelerator.levels[s])))]
    return [_chart(layers, accelerator, s) for s in shown]


def _chart(layers: Sequence[LayerRoof], accelerator: Accelerator, s: int) -> Chart:
    points = [layer for layer in layers if math.isfinite(layer.intensities[s])]
    x = np.array([layer.intensities[s] for layer in points])
    y = np.array([layer.macs_per_cycle for layer in points])
    peak = float(accelerator.mac.instances)
    level = accelerator.levels[s]
    limit = bandwidth(level) * level.instances
    lows, highs = [x.min(initial=1.0) / 2], [x.max(initial=1.0) * 2]
    if math.isfinite(limit):
        lows.append(peak / limit / 2)
        highs.append(peak / limit * 4)
    low, high = min(lows), max(highs)
    grid = np.geomspace(low, high, 120)
    series = [Series(f"{peak:,.0f} MACs", 1, grid, np.full(len(grid), peak))]
    if math.isfinite(limit):
        roof = np.minimum(grid * limit, peak)
        series.append(Series(f"{limit:,.4g} words/cycle", 2, grid, roof))
    series.append(Series("layers", 0, x, y, points=[_name(layer, s) for layer in points]))
    least = min(float(y.min(initial=peak)), peak) / 4
    return Chart(
        f"Roofline of {level.name}",
        Axis("MACs per word", low, high, True),
        Axis("MACs per cycle", least, peak * 2, True),
        series,
    )


def _name(layer: LayerRoof, s: int) -> str:
    return f"{layer.name}: {layer.intensities[s]:.4g} MACs per word, {layer.macs_per_cycle:.4g} MACs per cycle"
