"""Tables of the study of sparsity."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mapgym.agents.experiment.report.statistics import bootstrap_interval
from mapgym.agents.files.tables import Table
from mapgym.agents.studies.cells import Result
from mapgym.agents.studies.sparsity.study import (
    AWARE,
    AWARE_OF_ALL,
    FREE,
    INNER,
    INPUTS,
    MAPPINGS,
    ORDERS,
    OUTER,
    ROOMY,
    TUNED,
    WEIGHTS,
)
from mapgym.errors.text import quoted
from mapgym.evaluation.sparsity_aware import DENSITIES

BOTH = "both"


def of_part(results: Sequence[Result], part: str, accelerator: str = BOTH) -> list[Result]:
    """The results of one part, of one accelerator or of all."""
    return [r for r in results if r["part"] == part and accelerator in (BOTH, r["accelerator"])]


def accelerators_of(results: Sequence[Result]) -> list[str]:
    """Names, in order, and ``BOTH`` if there are several."""
    names = list(dict.fromkeys(result["accelerator"] for result in results))
    return names if len(names) == 1 else [*names, BOTH]


def kept_at_inputs(result: Result, name: str, reference: str = TUNED) -> NDArray[np.float64]:
    """float64[density]: performance (1 / EDP) over that of the mapping tuned to the density; nan without room."""
    return floats(result["edp"][reference]) / floats(result["edp"][name])


def kept_at_weights(result: Result) -> NDArray[np.float64]:
    """float64[tuned at, tested at]: performance over that of the mapping tuned to the density; nan without room."""
    edp = floats(result["edp"])
    return np.diag(edp) / edp


def floats(values: list[object]) -> NDArray[np.float64]:
    """None becomes nan."""
    return np.array(values, np.float64)


def geometric_mean(values: NDArray[np.float64]) -> float | None:
    """Of all values that are no nan; None if there are none."""
    known = values[~np.isnan(values)]
    return float(np.exp(np.log(known).mean())) if len(known) else None


def mean_of_runs(runs: Sequence[NDArray[np.float64]]) -> float | None:
    """Geometric mean of the geometric means of runs, in which every run that has a value counts the same."""
    means = [mean for run in runs if (mean := geometric_mean(run)) is not None]
    return geometric_mean(np.array(means)) if means else None


def _interval(results: Sequence[Result], runs: Sequence[NDArray[np.float64]]) -> str | None:
    """95 % interval, over seeds, of :func:`mean_of_runs`."""
    strata: dict[tuple[str, str], list[float]] = {}
    for result, run in zip(results, runs, strict=True):
        if (mean := geometric_mean(run)) is not None:
            strata.setdefault((result["workload"], result["accelerator"]), []).append(mean)
    if not strata:
        return None
    low, high = bootstrap_interval(list(strata.values()), statistic=lambda v: np.exp(np.log(v).mean(axis=0)))
    return f"{float(low):.3f} to {float(high):.3f}"


def _best_found(results: Sequence[Result]) -> dict[tuple[str, str], NDArray[np.float64]]:
    """Lowest EDP of all mappings of all seeds at each density, float64[density], of each task."""
    best: dict[tuple[str, str], NDArray[np.float64]] = {}
    for result in results:
        task = (result["workload"], result["accelerator"])
        every = [floats(values) for values in result["edp"].values()]
        best[task] = np.nanmin([*every, *([best[task]] if task in best else [])], axis=0)
    return best


def sparsity_tables(results: list[Result]) -> list[Table]:
    """What mappings keep over densities of the inputs; over densities of the weights; orders; every figure."""
    return [_inputs(results), _weights(results), _orders(results), _details(results)]


def _inputs(results: list[Result]) -> Table:
    rows: list[list[object]] = []
    densities = np.array(of_part(results, INPUTS)[0]["densities"])
    seen = np.isin(densities, DENSITIES)
    best = _best_found(of_part(results, INPUTS))
    for accelerator in accelerators_of(results):
        group = of_part(results, INPUTS, accelerator)
        for name in (TUNED, *MAPPINGS):
            kept = np.stack([kept_at_inputs(result, name) for result in group])
            of_roomy = [kept_at_inputs(result, name, ROOMY) for result in group]
            of_best = [best[r["workload"], r["accelerator"]] / floats(r["edp"][name]) for r in group]
            rows.append(
                [
                    name,
                    accelerator,
                    mean_of_runs(list(kept)),
                    _interval(group, list(kept)),
                    mean_of_runs(list(kept[:, seen])),
                    mean_of_runs(list(kept[:, ~seen])),
                    float(np.nanmin(kept)),
                    mean_of_runs(of_roomy),
                    mean_of_runs(of_best),
                    f"{np.mean(~np.isnan(kept)):.0%}",
                ]
            )
    listed = ", ".join(f"{density:g}" for density in densities)
    known = ", ".join(f"{density:g}" for density in DENSITIES)
    note = (
        f"Inputs with the densities {listed}. {quoted(AWARE)} has searched for those that are called known ({known}), "
        f"{quoted(AWARE_OF_ALL)} for all; {quoted(ROOMY)} is tuned to each density among the mappings that have room "
        "for dense inputs. Kept: performance (1 / EDP) over that of the mapping that is tuned to the density, "
        "geometric mean over densities, layers and seeds, with a 95 % interval over seeds; then over the known "
        "densities, over the others, and the worst case. Of roomy: the same over the roomy ones. Of best: over the "
        "best of all mappings and seeds at the density. Fits: how often the mapping has room; where it has none, it is "
        "left out. The searches for all densities, and those for one only, may use as many cost-model calls as all "
        "that are tuned to a density together."
    )
    columns = ("mapping", "accelerator", "kept", "interval", "known", "others", "worst", "of roomy", "of best", "fits")
    return Table("Kept over the densities of the inputs", note, columns, rows)


def _weights(results: list[Result]) -> Table:
    rows: list[list[object]] = []
    for accelerator in accelerators_of(results):
        group = of_part(results, WEIGHTS, accelerator)
        kept = np.stack([kept_at_weights(result) for result in group])
        for i, tuned in enumerate(group[0]["densities"]):
            for j, tested in enumerate(group[0]["densities"]):
                values = kept[:, i, j]
                fits = ~np.isnan(values)
                worst = float(values[fits].min()) if fits.any() else None
                interval = _interval(group, list(values[:, None]))
                rows.append(
                    [accelerator, tuned, tested, geometric_mean(values), interval, worst, f"{np.mean(fits):.0%}"]
                )
    note = (
        "Mappings tuned at one density of the weights and tested at another; inputs are dense. Kept, interval, worst "
        "and fits as above."
    )
    columns = ("accelerator", "tuned at", "tested at", "kept", "interval", "worst", "fits")
    return Table("Cross-tested over the densities of the weights", note, columns, rows)


def _orders(results: list[Result]) -> Table:
    rows: list[list[object]] = []
    for accelerator in accelerators_of(results):
        group = of_part(results, ORDERS, accelerator)
        for k, density in enumerate(group[0]["densities"]):
            of_density = [result["rows"][k] for result in group]
            random = [floats(row[f"random, {OUTER}"]) / floats(row[f"random, {INNER}"]) for row in of_density]
            searched = np.array([row[OUTER] / row[INNER] for row in of_density])
            rows.append(
                [
                    accelerator,
                    density,
                    mean_of_runs(random),
                    _interval(group, random),
                    geometric_mean(searched),
                    _interval(group, list(searched[:, None])),
                    f"{np.mean(searched < 1):.0%}",
                    *(
                        geometric_mean(np.array([row[kind] / row[FREE] for row in of_density]))
                        for kind in (INNER, OUTER)
                    ),
                ]
            )
    note = (
        "Both operands have the density. Loops over what is summed up inside all others (inner-product-like) or "
        "outside of them (outer-product-like), at all levels. Random, searched: EDP of outer over inner (above 1: "
        "inner is better), geometric mean with 95 % interval over seeds, for random mappings with all else equal, "
        "and for the best mappings of searches within the orders. Outer wins: share of these searches. Inner, outer / "
        "free: EDP over that of the search with free orders."
    )
    columns = ("accelerator", "density", "random", "interval", "searched", "interval ", "outer wins")
    return Table("Orders", note, (*columns, "inner / free", "outer / free"), rows)


def _details(results: list[Result]) -> Table:
    rows: list[list[object]] = []
    for result in results:
        place = [result["part"], result["workload"], result["accelerator"], result["seed"]]
        if result["part"] == ORDERS:
            for row in result["rows"]:
                rows += [[*place, kind, row["density"], row[kind], None] for kind in (FREE, INNER, OUTER)]
            continue
        if result["part"] == WEIGHTS:
            edp = {
                f"tuned at {d:g}": of_mapping for d, of_mapping in zip(result["densities"], result["edp"], strict=True)
            }
            best = [row[k] for k, row in enumerate(result["edp"])]
        else:
            edp, best = result["edp"], result["edp"][TUNED]
        for name, of_mapping in edp.items():
            for density, value, reference in zip(result["densities"], of_mapping, best, strict=True):
                rows.append([*place, name, density, value, None if value is None else reference / value])
    note = "EDP (pJ*cycles) of every mapping at every density; empty where it has no room."
    return Table(
        "Every figure", note, ("part", "workload", "accelerator", "seed", "mapping", "density", "edp", "kept"), rows
    )
