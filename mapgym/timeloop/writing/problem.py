"""A workload as a Timeloop problem."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mapgym.spec.tensor import BANDED, DENSITY_DISTRIBUTIONS
from mapgym.spec.workload import Workload


def problem_of(workload: Workload, names: Mapping[str, str]) -> dict[str, Any]:
    """The section ``problem``: the shape in full, and the bounds.

    Args:
        workload: the layer.
        names: of dims and tensors -> Timeloop's.
    """
    coefficients = sorted({c for tensor in workload.tensors for rank in tensor.ranks for _, c in rank if c != 1})
    taken = set(names.values())

    def called(c: int) -> str:
        name = f"Times{c}"
        while name in taken:
            name += "_"
        return name

    spaces = []
    for tensor in workload.tensors:
        projection = [[[names[dim]] if c == 1 else [names[dim], called(c)] for dim, c in rank] for rank in tensor.ranks]
        space: dict[str, Any] = {"name": names[tensor.name], "projection": projection}
        if tensor.is_output:
            space["read-write"] = True
        spaces.append(space)
    shape: dict[str, Any] = {"name": "layer", "dimensions": [names[dim] for dim in workload.dims]}
    if coefficients:
        shape["coefficients"] = [{"name": called(c), "default": c} for c in coefficients]
    shape["data-spaces"] = spaces
    instance: dict[str, Any] = {names[dim]: bound for dim, bound in zip(workload.dims, workload.bounds, strict=True)}
    instance |= {called(c): c for c in coefficients}
    densities: dict[str, Any] = {}
    for tensor in workload.tensors:
        if tensor.density_distribution == BANDED:
            densities[names[tensor.name]] = {"distribution": BANDED, "band_width": tensor.band_width}
        elif tensor.density != 1.0 or tensor.density_distribution != DENSITY_DISTRIBUTIONS[0]:
            entry = {"distribution": tensor.density_distribution, "density": tensor.density}
            densities[names[tensor.name]] = entry
    if densities:
        instance["densities"] = densities
    return {"shape": shape, "instance": instance}
