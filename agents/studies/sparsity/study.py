"""What zeros mean for mappings: tuned at one density and used at another, or searched for several at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping as AbcMapping, Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from mapgym.agents.base import load_compiled_code, make_agent
from mapgym.agents.studies.cells import Cell, Result
from mapgym.agents.studies.order.study import all_orders
from mapgym.cost import CostModel
from mapgym.evaluation.evaluator import Budget, Evaluator
from mapgym.evaluation.sparsity_aware import ACTIVATIONS, DENSITIES, SparsityAware
from mapgym.mapping import Mapping, MappingBatch
from mapgym.mapspace import MapSpace
from mapgym.spec.accelerator import Accelerator
from mapgym.spec.constraints import Constraints
from mapgym.spec.workload import Workload

WEIGHTS, INPUTS, ORDERS = "weights", "inputs", "orders"
"""The parts of the study, as "part" of a result."""

WEIGHT_DENSITIES = (1.0, 0.5, 0.1, 0.01)
INPUT_DENSITIES = (1.0, 0.9, 0.8, 0.65, 0.5, 0.3, 0.2, 0.1, 0.05)
"""At which mappings are tested; those that are not among ``DENSITIES`` are unknown to the sparsity-aware search."""

STATIC_DENSITIES = (1.0, 0.5, 0.1)
TUNED, ROOMY, AWARE, AWARE_OF_ALL = "tuned", "tuned, roomy", "sparsity-aware", "aware of all"
STATIC = {f"tuned at {density:g} only": density for density in STATIC_DENSITIES}
MAPPINGS = (AWARE, AWARE_OF_ALL, ROOMY, *STATIC)
"""What is compared with the mappings that are tuned to each density."""

RANDOM_MAPPINGS = 50
INNER, OUTER, FREE = "inner-product-like", "outer-product-like", "any order"


def sparsity_cells(
    workloads: Sequence[Workload], accelerators: Sequence[Accelerator], agent: str, samples: int, seeds: int
) -> list[Cell]:
    """Three pieces of work, one for each part, for each layer, accelerator and seed.

    Args:
        workloads: the layers.
        accelerators: sparse hardware.
        agent: who searches.
        samples: cost-model calls for each density that a mapping is tuned to.
        seeds: searches of each kind.
    """
    parts = {WEIGHTS: _cross_test, INPUTS: _search_inputs, ORDERS: _compare_orders}
    cells = []
    for seed in range(seeds):
        for accelerator in accelerators:
            for workload in workloads:
                settings = {
                    "workload": workload.to_dict(),
                    "accelerator": accelerator.to_dict(),
                    "agent": agent,
                    "samples": samples,
                    "seed": seed,
                }
                about = {"workload": workload.name, "accelerator": accelerator.name, "seed": seed}
                for part, compute in parts.items():
                    name = f"{part}, {workload.name} on {accelerator.name}, seed {seed}"
                    task = _Searches(workload, accelerator, agent, samples, seed)
                    whole = {"part": part, "densities": _tested(part), "static": STATIC_DENSITIES, "aware": DENSITIES}
                    cells.append(Cell(name, settings | whole, partial(_with, about | {"part": part}, compute, task)))
    return cells


def _tested(part: str) -> tuple[float, ...]:
    return INPUT_DENSITIES if part == INPUTS else WEIGHT_DENSITIES


def _with(about: Result, compute: Callable[[_Searches], Result], task: _Searches) -> Result:
    load_compiled_code(MapSpace(task.workload, task.accelerator))
    return about | {"densities": list(_tested(about["part"]))} | compute(task)


class _Searches:
    """Searches and prices of one layer on one accelerator, with one seed."""

    def __init__(self, workload: Workload, accelerator: Accelerator, agent: str, samples: int, seed: int) -> None:
        self.workload, self.accelerator = workload, accelerator
        self.samples = samples
        self.seed = seed
        self._agent = agent

    def best(
        self,
        densities: AbcMapping[str, float],
        samples: int,
        objective: str = "edp",
        constraints: Constraints | None = None,
        initial: MappingBatch | None = None,
    ) -> Mapping:
        """The best mapping that a search with these densities of the tensors finds."""
        space = MapSpace(self.workload.with_densities(densities), self.accelerator, constraints=constraints)
        evaluator = Evaluator(space, objective, Budget(samples=samples))
        make_agent(self._agent).search(evaluator, self.seed, initial)
        mapping = evaluator.best_mapping
        assert mapping is not None  # there is time enough to price a legal mapping
        return mapping

    def edp(self, mapping: Mapping, densities: AbcMapping[str, float]) -> float | None:
        """EDP (pJ*cycles) of a mapping at these densities; None if it has no room."""
        cost = CostModel(self.workload.with_densities(densities), self.accelerator).evaluate(mapping)
        return float(cost.edp) if cost.legal else None


def _cross_test(task: _Searches) -> Result:
    """Every mapping tuned at a density of the weights, at every other."""
    tuned = [task.best({"Weights": density}, task.samples) for density in WEIGHT_DENSITIES]
    edp = [[task.edp(mapping, {"Weights": density}) for density in WEIGHT_DENSITIES] for mapping in tuned]
    sparsest, densest = edp[0][-1], edp[-1][-1]
    assert sparsest is not None  # what has room for dense weights has room for all others
    assert densest is not None
    return {
        "edp": edp,
        "summary": f"at {WEIGHT_DENSITIES[-1]:g}, the mapping tuned to dense weights keeps {densest / sparsest:.1%}",
    }


def _search_inputs(task: _Searches) -> Result:
    """Mappings tuned to each density of the inputs, to one, and searched for several.

    What covers all densities may use as many cost-model calls as all of the tuned mappings together.
    """
    whole = task.samples * len(INPUT_DENSITIES)
    tuned = [task.best({ACTIVATIONS: density}, task.samples) for density in INPUT_DENSITIES]
    edp = {
        _tuned_at(density): _at_inputs(task, mapping) for density, mapping in zip(INPUT_DENSITIES, tuned, strict=True)
    }
    # Its map space is that of dense inputs, its costs are those of one density.
    roomy = [task.best({ACTIVATIONS: 1.0}, task.samples, SparsityAware([density])) for density in INPUT_DENSITIES]
    edp[ROOMY] = [_at_inputs(task, mapping)[k] for k, mapping in enumerate(roomy)]
    for name, densities in ((AWARE, DENSITIES), (AWARE_OF_ALL, INPUT_DENSITIES)):
        edp[name] = _at_inputs(task, task.best({ACTIVATIONS: 1.0}, whole, SparsityAware(densities)))
    for name, density in STATIC.items():
        edp[name] = _at_inputs(task, task.best({ACTIVATIONS: density}, whole))
    own = [edp[_tuned_at(density)][k] for k, density in enumerate(INPUT_DENSITIES)]
    kept = [np.log(best / value) for best, value in zip(own, edp[AWARE], strict=True) if best and value]
    return {
        "edp": {TUNED: own, **edp},
        "summary": f"the sparsity-aware mapping keeps {np.exp(np.mean(kept)):.1%} of the tuned ones' performance",
    }


def _tuned_at(density: float) -> str:
    return f"tuned at {density:g}"


def _at_inputs(task: _Searches, mapping: Mapping) -> list[float | None]:
    return [task.edp(mapping, {ACTIVATIONS: density}) for density in INPUT_DENSITIES]


def _compare_orders(task: _Searches) -> Result:
    """EDP with loop orders that are like an inner product and like an outer product, by density of both operands.

    At all levels the loops over what is summed up (the dims that the output does not have) are inside all others, so
    that an output stays until it is complete; or they are outside of them. Which order the loops have among themselves
    is the best one. Compared are random mappings, all else being equal, and the best mappings of searches within these
    orders, which begin at the mapping that was found with free orders.
    """
    workload, accelerator = task.workload, task.accelerator
    operands = [tensor.name for tensor in workload.tensors if not tensor.is_output]
    orders = {kind: _orders_like(workload, inner=kind == INNER) for kind in (INNER, OUTER)}
    random = MapSpace(workload, accelerator).sample(np.random.default_rng(task.seed), RANDOM_MAPPINGS)
    rows = []
    for density in WEIGHT_DENSITIES:
        densities = dict.fromkeys(operands, density)
        model = CostModel(workload.with_densities(densities), accelerator)
        free = task.best(densities, task.samples)
        row: Result = {"density": density, FREE: task.edp(free, densities)}
        for kind, of_kind in orders.items():
            row[f"random, {kind}"] = [_reordered(model, one, of_kind)[1] for one in random]
            batch, edp = _reordered(model, free, of_kind)
            names = [workload.dims[d] for d in batch.order[0, 0]]
            constraints = Constraints(orders=dict.fromkeys(accelerator.level_names, names))
            found = task.best(densities, task.samples, constraints=constraints, initial=batch if edp else None)
            row[kind] = task.edp(found, densities)
        rows.append(row)
    ratios = ", ".join(f"{row[OUTER] / row[INNER]:.3g} at {row['density']:g}" for row in rows)
    return {"rows": rows, "summary": f"EDP of outer- over inner-product-like: {ratios}"}


def _reordered(model: CostModel, mapping: Mapping, orders: NDArray[np.int8]) -> tuple[MappingBatch, float | None]:
    """The mapping, as a batch, with the best of some orders at all of its levels, and its EDP.

    The EDP is None if there is no room for the metadata in any of the orders.
    """
    batch = MappingBatch.concatenate([mapping.batch()] * len(orders)).copy()
    batch.order[:] = orders[:, None, :]
    edp = model.evaluate(batch).edp
    best = int(np.argmin(edp))
    return batch[[best]], float(edp[best]) if np.isfinite(edp[best]) else None


def _orders_like(workload: Workload, *, inner: bool) -> NDArray[np.int8]:
    """int8[any, dim]: the orders in which what is summed up is inside, or outside, of all other loops."""
    summed = np.array([dim not in workload.output.dims for dim in workload.dims])
    orders = all_orders(workload.bounds)
    moving = np.array(workload.bounds) > 1
    is_summed = summed[orders]
    # Dims of bound 1 come last in every order, and have no loops.
    inside = np.where(inner, is_summed, ~is_summed)[:, : int(moving.sum())]
    count = int((summed if inner else ~summed)[moving].sum())
    return orders[inside[:, :count].all(axis=1)]
