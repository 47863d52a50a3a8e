"""What ``mapgym search --objective pareto`` prints and writes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from mapgym.agents.commands import console
from mapgym.agents.files.mapping_file import yaml_comment
from mapgym.evaluation.evaluator import Evaluator
from mapgym.evaluation.front import ParetoFront
from mapgym.system.files import write_text
from mapgym.system.yaml_loader import dump_yaml

if TYPE_CHECKING:
    from mapgym.cost.optimum import ProvenFront


def front_data(front: ParetoFront) -> list[dict[str, object]]:
    """The points of a front in a plain, YAML- and JSON-able form, fastest first."""
    return [
        {
            "latency_cycles": float(cost.latency_cycles),
            "energy_pj": float(cost.energy_pj),
            "edp": float(cost.edp),
            "utilization": float(cost.utilization),
            "mapping": mapping.to_dict(),
        }
        for mapping, cost in front
    ]


def write_front(path: Path, front: ParetoFront, about: str) -> None:
    """Writes all mappings of a front as one YAML file, atomically."""
    write_text(path, yaml_comment(about) + dump_yaml({"front": front_data(front)}))


def print_front(
    front: ParetoFront,
    proven: ProvenFront | None,
    evaluator: Evaluator,
    agent: str,
    seconds: float,
    output: Path | None,
) -> None:
    """Prints a front as a table, fastest mapping first, and what is proven about it."""
    space, bound = evaluator.space, evaluator.lower_bound
    title = f"{space.workload.name} on {space.accelerator.name}: what no other mapping beats in energy and latency"
    headings = ("cycles", "x bound", "energy (pJ)", "x bound", "EDP (pJ*cycles)", "x bound", "utilization")
    table = console.new_table(title, right=headings)
    for _, cost in front:
        latency, energy = cost.latency_cycles / bound.latency_cycles, cost.energy_pj / bound.energy_pj
        cells = [f"{cost.latency_cycles:.7g}", f"{latency:.3f}", f"{cost.energy_pj:.7g}", f"{energy:.3f}"]
        table.add_row(*cells, f"{cost.edp:.6g}", f"{latency * energy:.3f}", f"{cost.utilization:.1%}")
    console.out().print(table)
    value = f"value {evaluator.best_value:.4f} (1 would be both bounds at once)"
    console.say(f"\n{'front':12s} {len(front)} mappings, {value}")
    if proven is not None:
        console.say(f"{'proven':12s} {_proof_text(proven)}")
    console.say_search(agent, f"{evaluator.samples:,} samples", evaluator.samples, seconds, output)


def _proof_text(proven: ProvenFront) -> str:
    if proven.certified:
        return "no mapping of the map space beats one of these, or lies beside them, by more than the gap asked for"
    if proven.proven_cycles:
        return f"the same up to {proven.proven_cycles:.7g} cycles; beyond that the search was stopped"
    return "nothing yet; give it more --seconds"
