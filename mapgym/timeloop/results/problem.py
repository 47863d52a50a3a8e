"""The workload behind results: the problem that Timeloop was given, as its front end has left it.

Shapes are spelled out there: dims, data spaces with projections, coefficients and their defaults.
"""

from __future__ import annotations

from collections.abc import Mapping as AbcMapping
from typing import Any

from mapgym.errors import SpecificationError
from mapgym.errors.text import quoted
from mapgym.spec.tensor import Rank, Tensor
from mapgym.spec.workload import Workload

_DISTRIBUTIONS = {"fixed": "fixed-structured", "fixed_structured": "fixed-structured", "diagonal": "banded"}


def read_problem(data: object, where: str) -> Workload:
    """The workload of a problem.

    Args:
        data: what the key ``problem`` has.
        where: the file, for messages.

    Raises:
        SpecificationError: it lacks a shape that is spelled out, or a bound.
    """
    problem = _keyed(data)
    shape = _keyed(problem.get("shape"))
    spaces = shape.get("data_spaces")
    dims = shape.get("dimensions")
    if not isinstance(spaces, list) or not isinstance(dims, list):
        raise SpecificationError(
            f"{where}: the problem has no shape with dimensions and data_spaces; give one that spells them out with "
            "--problem FILE"
        )
    instance = _keyed(problem.get("instance")) or problem
    bounds = tuple(_whole(instance.get(str(dim)), f"{where}: the bound of {quoted(dim)}") for dim in dims)
    coefficients = {"": 1}
    for entry in shape.get("coefficients") or []:
        name = str(_keyed(entry).get("name"))
        coefficients[name] = _whole(instance.get(name, _keyed(entry).get("default", 1)), f"{where}: {quoted(name)}")
    tensors = []
    for entry in map(_keyed, spaces):
        name, projection = str(entry.get("name")), entry.get("projection")
        if not isinstance(projection, list):
            raise SpecificationError(f"{where}: {quoted(name)} has the projection {quoted(projection)}; give a list")
        place = f"{where}: the projection of {quoted(name)}"
        ranks = tuple(_rank(rank, coefficients, place) for rank in projection)
        tensors.append(Tensor(name, ranks, is_output=entry.get("read_write") is True))
    workload = Workload(str(shape.get("name") or "problem"), tuple(map(str, dims)), bounds, tuple(tensors))
    return with_densities(workload, instance.get("densities"), where)


def with_densities(workload: Workload, data: object, where: str) -> Workload:
    """The workload with the densities of an instance, which name a distribution or are numbers."""
    given: dict[str, object] = {}
    for name, entry in (data or {}).items() if isinstance(data, AbcMapping) else ():
        if not isinstance(entry, AbcMapping):
            given[str(name)] = entry
            continue
        kind = str(entry.get("distribution", "fixed-structured"))
        kind = _DISTRIBUTIONS.get(kind, kind)
        key = "band_width" if kind == "banded" else "density"
        given[str(name)] = {"distribution": kind, key: entry.get(key)}
    try:
        return workload.with_densities(given) if given else workload
    except SpecificationError as error:
        raise SpecificationError(f"{where}: densities: {error}") from None


def _rank(data: object, coefficients: dict[str, int], where: str) -> Rank:
    """A rank: a list of terms, each [dim] or [dim, coefficient]; a coefficient is a name or a number."""
    terms: dict[str, int] = {}
    for term in data if isinstance(data, list) else [data]:
        parts = term if isinstance(term, list) else [term]
        if not 1 <= len(parts) <= 2:
            raise SpecificationError(f"{where} has the term {quoted(term)}; give [dim] or [dim, coefficient]")
        factor = parts[1] if len(parts) == 2 else 1
        if isinstance(factor, str):
            if factor not in coefficients:
                raise SpecificationError(f"{where}: {quoted(factor)} is no coefficient; add it to coefficients")
            factor = coefficients[factor]
        terms[str(parts[0])] = terms.get(str(parts[0]), 0) + _whole(factor, where)
    return tuple(terms.items())


def _keyed(data: object) -> dict[str, Any]:
    """A mapping with underscores in its keys; empty for anything else."""
    return {str(key).replace("-", "_"): value for key, value in data.items()} if isinstance(data, AbcMapping) else {}


def _whole(value: object, where: str) -> int:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise SpecificationError(f"{where} is {quoted(value)}; give a whole number of at least 1")
    return value
