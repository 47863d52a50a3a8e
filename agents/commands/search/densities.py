"""What ``mapgym search --objective sparsity-aware`` prints."""

from __future__ import annotations

from pathlib import Path

from mapgym.agents.commands import console
from mapgym.agents.labels import OBJECTIVE_NAMES, samples_text
from mapgym.evaluation.evaluator import Evaluator
from mapgym.evaluation.sparsity_aware import DensitySetBound, DensitySetCost, SparsityAware
from mapgym.evaluation.task import density_text


def density_data(evaluator: Evaluator) -> list[dict[str, float]] | None:
    """What the best mapping costs at each density, in a plain, JSON-able form; None for other objectives."""
    cost, bound = evaluator.best_cost, evaluator.lower_bound
    if not isinstance(cost, DensitySetCost) or not isinstance(bound, DensitySetBound):
        return None
    return [
        {
            "density": density,
            "weight": weight,
            "edp": latency * energy,
            "energy_pj": energy,
            "latency_cycles": latency,
            "edp_over_lower_bound": latency * energy / at.edp,
            "energy_over_lower_bound": energy / at.energy_pj,
            "latency_over_lower_bound": latency / at.latency_cycles,
        }
        for density, weight, latency, energy, at in zip(
            bound.aware.densities,
            bound.aware.shares,
            cost.density_latency_cycles.tolist(),
            cost.density_energy_pj.tolist(),
            bound.bounds,
            strict=True,
        )
    ]


def print_densities(evaluator: Evaluator, agent: str, seconds: float, output: Path | None) -> None:
    """Prints the best mapping with its cost at every density."""
    mapping, space, entries = evaluator.best_mapping, evaluator.space, density_data(evaluator)
    assert mapping is not None  # the caller has checked that something was found
    assert entries is not None
    aware = SparsityAware.parse(evaluator.objective)
    others = density_text(space.workload.with_densities({aware.tensor: 1.0}))
    layer = f"{space.workload.name}{f' ({others})' if others else ''}"
    console.say(f"{layer} on {space.accelerator.name}, best mapping over densities of {aware.tensor}\n")
    console.say(mapping.to_text() + "\n")
    headings = ("weight", "EDP (pJ*cycles)", "x bound", "energy (pJ)", "x bound", "cycles", "x bound")
    table = console.new_table("", (f"density of {aware.tensor}",), headings)
    for entry in entries:
        cells = [f"{entry['density']:g}", f"{entry['weight']:.3g}"]
        for metric in ("edp", "energy_pj", "latency_cycles"):
            name = metric.partition("_")[0]
            cells += [f"{entry[metric]:.6g}", f"{entry[f'{name}_over_lower_bound']:.3f}"]
        table.add_row(*cells)
    console.out().print(table)
    name = OBJECTIVE_NAMES[aware.objective]
    console.say(f"\n{'value':12s} {evaluator.best_value:.6g}, the geometric mean of {name} over its lower bounds")
    samples = samples_text(evaluator.samples, evaluator.objective)
    console.say_search(agent, samples, evaluator.samples, seconds, output)
