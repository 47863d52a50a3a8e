"""What a warm start saves: networks layer by layer, from nothing, from the layer before, and from similar layers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mapgym.agents.base import load_compiled_code, make_agent
from mapgym.agents.experiment.report.statistics import bootstrap_interval
from mapgym.agents.files.tables import Table
from mapgym.agents.studies.cells import Cell, Result
from mapgym.evaluation.evaluator import Budget, Evaluator, Trace
from mapgym.mapping import Mapping, MappingBatch
from mapgym.mapspace import MapSpace
from mapgym.spec import catalog
from mapgym.spec.accelerator import Accelerator
from mapgym.spec.workload import Workload
from mapgym.warmstart import ReplayBuffer, Similarity, editing_distance, log_ratio_distance, transfer_batch

RANDOM, PREVIOUS, EDITING, LOG_RATIO, OTHERS = "random", "previous layer", "editing", "log-ratio", "other networks"
STARTS = (RANDOM, PREVIOUS, EDITING, LOG_RATIO, OTHERS)
"""How a layer's search begins; OTHERS knows the other networks and no layer of its own, by the log-ratio distance."""

NEIGHBOURS = 8
"""Mappings that a search begins with, at most."""

FIRST = 100
"""Samples that are called the first generation."""

CONVERGED = 0.995
"""Share of the performance (1 / objective) of the random start's end at which a search has converged."""


@dataclass(frozen=True)
class Solved:
    """A layer with its search."""

    workload: Workload
    mapping: Mapping
    value: float
    trace: Trace


def warm_start_cells(
    networks: Sequence[str], accelerator: Accelerator, agents: Sequence[str], samples: int, seeds: int
) -> list[Cell]:
    """One piece of work for each agent and seed: all networks, from every start."""
    cells = []
    for seed in range(seeds):
        for agent in agents:
            settings = {
                "networks": list(networks),
                "accelerator": accelerator.to_dict(),
                "agent": agent,
                "samples": samples,
                "seed": seed,
            }
            compute = partial(_compare, tuple(networks), accelerator, agent, samples, seed)
            cells.append(Cell(f"{agent}, seed {seed}", settings, compute))
    return cells


def _search(
    workload: Workload, accelerator: Accelerator, agent: str, samples: int, seed: int, initial: MappingBatch | None
) -> Solved:
    space = MapSpace(workload, accelerator)
    load_compiled_code(space)
    evaluator = Evaluator(space, "edp", Budget(samples=samples))
    make_agent(agent).search(evaluator, seed, initial if initial is not None and len(initial) else None)
    mapping = evaluator.best_mapping
    assert mapping is not None  # every searcher of the study prices legal mappings
    return Solved(workload, mapping, evaluator.best_value, evaluator.trace)


def _initial(
    start: str, workload: Workload, accelerator: Accelerator, before: list[Solved], buffer: ReplayBuffer
) -> MappingBatch:
    space = MapSpace(workload, accelerator)
    if start == PREVIOUS:
        if not before:
            return MappingBatch.trivial(workload, accelerator, 0)
        moved, fits = transfer_batch(before[-1].mapping.batch(), before[-1].workload, space)
        return moved[fits]
    measure: Similarity = editing_distance if start == EDITING else log_ratio_distance
    return buffer.initial(space, count=NEIGHBOURS, similarity=measure)


def _compare(networks: tuple[str, ...], accelerator: Accelerator, agent: str, samples: int, seed: int) -> Result:
    layers = {name: [layer.workload for layer in catalog.network(name).layers] for name in networks}
    cold = {
        name: [_search(layer, accelerator, agent, samples, seed, None) for layer in of_network]
        for name, of_network in layers.items()
    }
    rows: list[dict[str, Any]] = []
    for name in networks:
        shapes = {(layer.dims, layer.bounds, layer.tensors) for layer in layers[name]}
        for start in STARTS:
            buffer, before = ReplayBuffer(), list[Solved]()
            if start == OTHERS:
                for other in networks:
                    for solved in cold[other] if other != name else ():
                        # A layer that both networks have would be its own warm start.
                        if (solved.workload.dims, solved.workload.bounds, solved.workload.tensors) not in shapes:
                            buffer.add(solved.workload, accelerator, solved.mapping)
            for layer, reference in zip(layers[name], cold[name], strict=True):
                solved = reference
                if start != RANDOM:
                    initial = _initial(start, layer, accelerator, before, buffer)
                    solved = _search(layer, accelerator, agent, samples, seed, initial)
                    before.append(solved)
                    if start in (EDITING, LOG_RATIO):
                        buffer.add(layer, accelerator, solved.mapping)
                rows.append(
                    {"network": name, "start": start, "layer": layer.name, **_figures(solved, reference, samples)}
                )
    speed = [row for row in rows if row["start"] == LOG_RATIO]
    summary = f"{_speed_up(speed):.1f} x fewer samples from similar layers"
    return {"agent": agent, "seed": seed, "samples": samples, "rows": rows, "summary": summary}


def _figures(solved: Solved, reference: Solved, samples: int) -> dict[str, float | int]:
    """How a search compares with the one from a random start."""
    target = reference.value / CONVERGED
    spent, needed = solved.trace.samples_to(target), reference.trace.samples_to(target)
    assert needed is not None  # it ends there
    return {
        "first": solved.trace.best_at(FIRST) / reference.trace.best_at(FIRST),
        "final": solved.value / reference.value,
        "samples": samples if spent is None else spent,
        "reached": int(spent is not None),
        "random_samples": needed,
    }


def _speed_up(rows: list[dict[str, Any]]) -> float:
    """How many times fewer samples than from a random start, geometric mean over layers."""
    return float(_geometric_mean(np.array([row["random_samples"] / row["samples"] for row in rows])))


def _total_speed_up(rows: list[dict[str, Any]]) -> float:
    """Samples of the random start over those of another, summed over all layers."""
    return sum(row["random_samples"] for row in rows) / sum(row["samples"] for row in rows)


def _geometric_mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.exp(np.log(values).mean(axis=0))


def warm_start_tables(results: list[Result]) -> list[Table]:
    """Speed-ups by agent and start; the same by network; every layer."""
    agents = list(dict.fromkeys(result["agent"] for result in results))
    networks = list(dict.fromkeys(row["network"] for row in results[0]["rows"]))
    overview: list[list[object]] = []
    by_network: list[list[object]] = []
    for agent in agents:
        runs = [result["rows"] for result in results if result["agent"] == agent]
        for start in STARTS[1:]:
            speeds, metrics = [], []
            for network in networks:
                chosen = [[row for row in rows if (row["network"], row["start"]) == (network, start)] for rows in runs]
                pooled = [row for rows in chosen for row in rows]
                of_seeds = np.array([_speed_up(rows) for rows in chosen])
                final = np.array([row["final"] for row in pooled])
                metrics.append(
                    (
                        float(_geometric_mean(np.array([row["first"] for row in pooled]))),
                        float(_geometric_mean(of_seeds)),
                        float(_geometric_mean(np.array([_total_speed_up(rows) for rows in chosen]))),
                        float(np.mean([row["reached"] for row in pooled])),
                        float(np.median(final)),
                        float(_geometric_mean(final)),
                    )
                )
                first, speed, *rest = metrics[-1]
                interval = _interval([of_seeds])
                by_network.append([agent, start, network, first, speed, interval, *rest, float(final.max())])
                speeds.append(of_seeds)
            first, speed, total, reached, _, mean = _geometric_mean(np.maximum(np.array(metrics), 1e-9)).tolist()
            overview.append([agent, start, first, speed, _interval(speeds), total, reached, mean])
    note = (
        f"Against a random start with the same agent and seed. First: best EDP after {FIRST} samples, relative. Fewer "
        f"samples: samples of the random start until {CONVERGED:.1%} of its final performance over those that this "
        "start needs to the same EDP, geometric mean over layers; 95 % interval over seeds. A search that never gets "
        "there counts with its whole budget; reached is the share of those that do. In total: the ratio of the sums "
        "over the layers. Final: EDP at the end of the budget, relative. Means over networks are geometric."
    )
    columns = ("agent", "start", "first", "fewer samples", "interval", "in total", "reached", "final")
    details = (
        "agent,start,network,first,fewer samples,interval,in total,reached,final (median),final (mean),final (worst)"
    )
    layers: list[list[object]] = [
        [result["agent"], result["seed"], *row.values()] for result in results for row in result["rows"]
    ]
    return [
        Table("All networks", note, columns, overview),
        Table("Networks", "As above, for each network.", tuple(details.split(",")), by_network),
        Table("Layers", "Every search.", ("agent", "seed", *results[0]["rows"][0]), layers),
    ]


def _interval(speeds: list[NDArray[np.float64]]) -> str:
    low, high = bootstrap_interval(speeds, statistic=_geometric_mean)
    return f"{float(low):.3g} to {float(high):.3g}"
