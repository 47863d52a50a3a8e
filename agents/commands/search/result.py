"""What ``mapgym search`` has found: as JSON, and for people."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mapgym.agents.certificate import Certificate, outcome_text
from mapgym.agents.commands import console
from mapgym.agents.commands.search.densities import density_data, print_densities
from mapgym.agents.commands.search.front import front_data, print_front, write_front
from mapgym.agents.files.mapping_file import write_mapping
from mapgym.agents.labels import OPTIMAL_GAP, objective_name
from mapgym.cost import Cost
from mapgym.evaluation.evaluator import Evaluator
from mapgym.evaluation.sparsity_aware import DensitySetCost, is_sparsity_aware
from mapgym.evaluation.task import density_text
from mapgym.mapping import Mapping

if TYPE_CHECKING:
    from mapgym.cost.optimum import ProvenFront
    from mapgym.warmstart import Start


@dataclass(frozen=True)
class SearchResult:
    """What a search has found.

    Attributes:
        evaluator: holds it.
        mapping, cost: the best mapping.
        agent: who searched.
        seed: of everything random.
        seconds: that the search took.
        start: what it began with, None without a warm start.
        interrupted: whether Ctrl-C ended it.
        certificate: what is proven about the task.
        proven_front: what is proven about its front of energy and latency.
    """

    evaluator: Evaluator
    mapping: Mapping
    cost: Cost | DensitySetCost
    agent: str
    seed: int
    seconds: float
    start: Start | None
    interrupted: bool
    certificate: Certificate | None
    proven_front: ProvenFront | None = None

    def write(self, path: Path) -> None:
        """Writes the best mapping, or all of a front, as YAML."""
        evaluator, space = self.evaluator, self.evaluator.space
        links = "" if space.accelerator.peer_links else " without links between neighbours"
        value = "front of energy and latency" if evaluator.front else f"EDP {self.cost.edp:.6g} pJ*cycles"
        if is_sparsity_aware(evaluator.objective):
            value = f"{evaluator.best_value:.6g} x the lower bounds, {evaluator.objective}"
        about = f"{space.workload.name} on {space.accelerator.name}{links}, {space.accelerator.rules}: {value}\n"
        about += f"found by {self.agent}, seed {self.seed}, {evaluator.samples} samples"
        if evaluator.front:
            write_front(path, evaluator.front, about)
        else:
            write_mapping(path, self.mapping, about)

    def to_json(self) -> dict[str, object]:
        """All of it in a plain form."""
        evaluator, space, cost, certificate = self.evaluator, self.evaluator.space, self.cost, self.certificate
        gap = None if certificate is None else certificate.gap(evaluator.best_value)
        return {
            "workload": space.workload.name,
            "accelerator": space.accelerator.name,
            "agent": self.agent,
            "seed": self.seed,
            "axes": list(space.axes),
            "peer_links": space.accelerator.peer_links,
            "rules": space.accelerator.rules,
            "objective": evaluator.objective,
            "edp": float(cost.edp),
            "energy_pj": float(cost.energy_pj),
            "latency_cycles": float(cost.latency_cycles),
            "utilization": float(cost.utilization),
            "lower_bound_edp": float(evaluator.lower_bound.edp),
            "lower_bound_energy_pj": float(evaluator.lower_bound.energy_pj),
            "lower_bound_latency_cycles": float(evaluator.lower_bound.latency_cycles),
            "lower_bound_proven": None if certificate is None else certificate.lower_bound,
            "gap": gap,
            "certified": None if gap is None else gap <= OPTIMAL_GAP,
            "optimum": None if certificate is None else certificate.to_dict(),
            "value": evaluator.best_value,
            "densities": {tensor.name: tensor.density for tensor in space.workload.tensors},
            "density_set": density_data(evaluator),
            "samples": evaluator.samples,
            "mappings": evaluator.mappings,
            "seconds": self.seconds,
            "interrupted": self.interrupted,
            "begun_from": None if self.start is None else self.start.account(),
            "mapping": self.mapping.to_dict(),
            "front": None if evaluator.front is None else front_data(evaluator.front),
            "front_certified": None if self.proven_front is None else self.proven_front.certified,
            "front_proven_cycles": None if self.proven_front is None else self.proven_front.proven_cycles,
        }

    def print(self, output: Path | None) -> None:
        """Prints it for people.

        Args:
            output: where it has been written to.
        """
        if self.evaluator.front:
            print_front(self.evaluator.front, self.proven_front, self.evaluator, self.agent, self.seconds, output)
        elif is_sparsity_aware(self.evaluator.objective):
            print_densities(self.evaluator, self.agent, self.seconds, output)
        else:
            self._print_mapping(output)
        if self.start is not None and self.start.sources:
            console.say(f"{'begun from':12s} {', '.join(self.start.sources)}")

    def _print_mapping(self, output: Path | None) -> None:
        evaluator, space, cost = self.evaluator, self.evaluator.space, self.cost
        bound = evaluator.lower_bound
        objective = objective_name(evaluator.objective)
        densities = f" ({text})" if (text := density_text(space.workload)) else ""
        console.say(f"{space.workload.name}{densities} on {space.accelerator.name}, best mapping for {objective}\n")
        console.say(self.mapping.to_text() + "\n")
        for name, value, lowest, unit in (
            ("EDP", cost.edp, bound.edp, "pJ*cycles"),
            ("energy", cost.energy_pj, bound.energy_pj, "pJ"),
            ("latency", cost.latency_cycles, bound.latency_cycles, "cycles"),
        ):
            console.say(f"{name:12s} {value:.6g} {unit}, {value / lowest:.3f} x the lower bound")
        if self.certificate is not None:
            console.say(f"{'optimum':12s} {self.certificate.describe(evaluator.best_value)}")
            console.say(f"{'':12s} {outcome_text(self.certificate, evaluator.objective)}")
        console.say(f"{'utilization':12s} {cost.utilization:.1%} of the MACs")
        console.say(f"{'rules':12s} {space.accelerator.rules}")
        console.say_search(self.agent, f"{evaluator.samples:,} samples", evaluator.samples, self.seconds, output)
