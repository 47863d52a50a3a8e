"""Tables of the study of certified optima."""

from __future__ import annotations

from collections.abc import Iterable
from statistics import geometric_mean, median

from mapgym.agents.files.tables import Table
from mapgym.agents.labels import OPTIMAL_GAP
from mapgym.agents.studies.cells import Result
from mapgym.agents.studies.certified.published import TOLERANCE
from mapgym.agents.studies.certified.study import OPTIMUM, PROVEN, SEARCH, ratio

_SOLVER = "exact"
Place = tuple[str, str]
"""Workload and accelerator of a result."""


def optima(results: Iterable[Result]) -> dict[Place, Result]:
    """What is proven about each task."""
    return {place(result): result for result in results if result["part"] == OPTIMUM}


def place(result: Result) -> Place:
    """The task of a result."""
    return result["workload"], result["accelerator"]


def searches(results: Iterable[Result]) -> list[Result]:
    """The results of searches."""
    return [result for result in results if result["part"] == SEARCH]


def certified_tables(results: list[Result]) -> list[Table]:
    """The mappers in a line each for every accelerator; published optima; every optimum and every search."""
    tables = [_overview(results)]
    if any(result["part"] == PROVEN for result in results):
        tables.append(_published(results))
    return [*tables, _details(results)]


def _overview(results: list[Result]) -> Table:
    proven = optima(results)
    rows: list[list[object]] = []
    for accelerator in dict.fromkeys(accelerator for _, accelerator in proven):
        here = [optimum for (_, machine), optimum in proven.items() if machine == accelerator]
        done = [optimum for optimum in here if optimum["value"] is not None]
        certified = [optimum for optimum in done if optimum["certified"]]
        gaps = [optimum["value"] / optimum["lower_bound"] for optimum in done]
        times = [optimum["seconds"] for optimum in done]
        rows.append([accelerator, _SOLVER, f"{len(done)}/{len(here)}", f"{len(certified)}/{len(done)}", *_spread(gaps)])
        rows[-1] += [median(times) if times else None, max(times) if times else None]
        of_machine = [result for result in searches(results) if result["accelerator"] == accelerator]
        for agent in dict.fromkeys(result["agent"] for result in of_machine):
            runs = [result for result in of_machine if result["agent"] == agent]
            found = [result for result in runs if result["value"] is not None]
            known = [(result, ratio(result["value"], proven[place(result)])) for result in found]
            ratios = [share for _, share in known if share is not None]
            optimal = sum(share <= 1.0 + OPTIMAL_GAP for share in ratios)
            times = [result["seconds"] for result in found]
            rows.append([accelerator, agent, f"{len(found)}/{len(runs)}", f"{optimal}/{len(ratios)}", *_spread(ratios)])
            rows[-1] += [median(times) if times else None, max(times) if times else None]
    note = (
        "Best objective over the certified optimum (over the proven bound where none is certified): searches that "
        "found a mapping (an agent refuses what it cannot map), those of them at the optimum to 1e-6, geometric mean "
        "and worst; wall time of a search, median and longest. The line of exact is the proof itself: how many optima "
        "are certified, and the gaps that are left. All mappings are priced by the same cost model."
    )
    columns = ("accelerator", "agent", "searches", "optimal", "mean", "worst", "median s", "most s")
    return Table("Mappers over the certified optimum", note, columns, rows)


def _spread(ratios: list[float]) -> list[object]:
    return [f"{geometric_mean(ratios):.5f}", f"{max(ratios):.5f}"] if ratios else [None, None]


def _published(results: list[Result]) -> Table:
    rows: list[list[object]] = []
    for result in results:
        if result["part"] != PROVEN:
            continue
        equal = all(
            value is None or abs(value - result["energy_per_mac"]) <= TOLERANCE
            for value in (result["ours"], result["goma"])
        )
        words = f"{result['buffer_words'] // 1024} Ki, {result['register_words']}"
        sizes = f"{result['rows']} x {result['columns']} x {result['depth']}"
        energies = (_six(result[key]) for key in ("energy_per_mac", "ours", "goma"))
        verdict = ("yes" if equal else "NO") if result["certified"] else "not certified"
        rows.append([words, result["elements"], sizes, *energies, verdict, result["seconds"], result["goma_seconds"]])
    note = (
        'Optima that a transcription of GOMA\'s model has proven (docs/exact.md, "What is checked"), in pJ for each '
        "multiply-accumulate, beside our solver's and those of the agent goma: equal to all six digits?"
    )
    columns = ("buffer, registers (words)", "elements", "M x N x K", "published", "exact", "goma", "equal")
    return Table("Published optima", note, (*columns, "exact s", "goma s"), rows)


def _six(value: float | None) -> str | None:
    return None if value is None else f"{value:.6f}"


def _details(results: list[Result]) -> Table:
    proven = optima(results)
    rows: list[list[object]] = []
    for result in results:
        if result["part"] == PROVEN:
            continue
        optimum = proven[place(result)]
        value = result["value"]
        rows.append(
            [
                *(result[key] for key in ("workload", "accelerator", "objective")),
                result.get("agent", _SOLVER),
                result.get("seed"),
                value,
                ratio(value, optimum),
                optimum.get("lower_bound"),
                str(optimum["certified"]).lower(),
                result.get("samples"),
                result.get("seconds"),
                result["note"],
            ]
        )
    note = (
        "Every optimum and every search. Ratio: over the certified optimum; over the proven lower bound where no "
        "optimum is certified, and then the true ratio is smaller."
    )
    columns = ("workload", "accelerator", "objective", "agent", "seed", "value", "ratio", "lower_bound", "certified")
    return Table("All searches", note, (*columns, "samples", "seconds", "note"), rows)
