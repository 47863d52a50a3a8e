"""Problems of Timeloop, in all their forms, as workloads."""

from __future__ import annotations

from collections.abc import Mapping as AbcMapping
from pathlib import Path
from typing import Any

from mapgym.errors import SpecificationError, suggest
from mapgym.errors.text import quoted
from mapgym.spec.tensor import Rank, Tensor
from mapgym.spec.workload import Workload
from mapgym.timeloop.reading.expressions import Names, evaluate_number
from mapgym.timeloop.reading.hardware import whole
from mapgym.timeloop.reading.shapes import DEFAULT_SHAPE, DEFAULTS, SHAPES

_DISTRIBUTIONS = {"fixed": "fixed-structured", "fixed_structured": "fixed-structured", "diagonal": "banded"}


def read_problem(data: object, where: str, names: Names | None = None) -> Workload:
    """The workload of a problem.

    Args:
        data: what the key ``problem`` has: a shape by name or spelled out, and bounds, in ``instance`` or beside it.
        where: the file, for messages.
        names: what names in expressions stand for.

    Raises:
        SpecificationError: there is no such shape, a bound is missing, or something cannot be expressed.
    """
    problem = _keyed(data)
    if not problem:
        raise SpecificationError(f"{where}: problem is {quoted(data)}; give a shape and the bounds of its dims")
    shape = _shape(problem.get("shape"), where)
    spaces, dims = shape.get("data_spaces"), shape.get("dimensions")
    if not isinstance(spaces, list) or not isinstance(dims, list):
        raise SpecificationError(
            f"{where}: the problem has no shape with dimensions and data_spaces; give one that spells them out"
        )
    instance = _keyed(problem.get("instance")) or problem
    names = Names(instance, names)
    given = {str(key): value for key, value in instance.items() if not isinstance(value, AbcMapping | list)}
    bounds = tuple(
        _whole(_bound(given, str(dim), shape, where), names, f"{where}: the bound of {quoted(dim)}") for dim in dims
    )
    coefficients = {"": 1}
    for entry in map(_keyed, shape.get("coefficients") or []):
        name = str(entry.get("name"))
        value = given.get(name, entry.get("default", 1))
        coefficients[name] = whole(evaluate_number(value, names, f"{where}: {name}"), f"{where}: {quoted(name)}", 0)
    tensors = []
    for entry in map(_keyed, spaces):
        name, projection = str(entry.get("name")), entry.get("projection")
        if not isinstance(projection, list):
            raise SpecificationError(f"{where}: {quoted(name)} has the projection {quoted(projection)}; give a list")
        place = f"{where}: the projection of {quoted(name)}"
        # A coefficient of 0 stands for a dim that does not move the tensor.
        ranks = tuple(filter(None, (_rank(rank, coefficients, names, place) for rank in projection)))
        tensors.append(Tensor(name, ranks, is_output=_is_true(entry.get("read_write"))))
    name = str(problem.get("name") or shape.get("name") or "problem")
    try:
        workload = Workload(name, tuple(map(str, dims)), bounds, tuple(tensors))
    except SpecificationError as error:
        raise SpecificationError(f"{where}: {error}") from None
    return with_densities(workload, instance.get("densities"), where, names)


def _shape(shape: object, where: str) -> dict[str, Any]:
    """A shape that is spelled out; those of Timeloop's own files may be named only."""
    if isinstance(shape, AbcMapping):
        spelled = _keyed(shape)
        if not isinstance(spelled.get("name", ""), str):
            raise SpecificationError(f"{where}: the shape has the name {quoted(spelled['name'])}; give text")
        return spelled
    if shape is None:
        return {"name": DEFAULT_SHAPE, **SHAPES[DEFAULT_SHAPE]}
    name = Path(str(shape)).name.lower().removesuffix(".yaml").replace("-", "_")
    if name not in SHAPES:
        raise SpecificationError(f"{where}: unknown shape {quoted(shape)}; spell it out, or {suggest(name, SHAPES)}")
    return {"name": name, **SHAPES[name]}


def _bound(given: AbcMapping[str, object], dim: str, shape: AbcMapping[str, Any], where: str) -> object:
    if dim in given:
        return given[dim]
    if shape.get("name") in DEFAULTS:
        return DEFAULTS[shape["name"]]
    raise SpecificationError(f"{where}: the bound of {quoted(dim)} is missing; give one in the instance")


def _is_true(value: object) -> bool:
    return value is True or str(value).lower() in ("true", "yes")


def with_densities(workload: Workload, data: object, where: str, names: Names | None = None) -> Workload:
    """The workload with the densities of an instance, which name a distribution or are numbers."""
    given: dict[str, object] = {}
    names = Names() if names is None else names
    if data is not None and not isinstance(data, AbcMapping):
        raise SpecificationError(f"{where}: densities is {quoted(data)}; give tensor: density pairs")
    for name, entry in (data or {}).items():
        if not isinstance(entry, AbcMapping):
            given[str(name)] = evaluate_number(entry, names, f"{where}: the density of {quoted(name)}")
            continue
        entry = _keyed(entry)
        kind = str(entry.get("distribution", "fixed-structured"))
        if kind in ("real-data", "actual-data", "real_data", "actual_data"):
            raise SpecificationError(
                f"{where}: the zeros of {quoted(name)} are those of real data, which mapgym does not read; give a "
                "density and a distribution such as hypergeometric"
            )
        kind = _DISTRIBUTIONS.get(kind, kind)
        key = "band_width" if kind == "banded" else "density"
        value = entry.get(key)
        if value is not None:
            value = evaluate_number(value, names, f"{where}: the {key} of {quoted(name)}")
        given[str(name)] = {"distribution": kind, key: value}
    try:
        return workload.with_densities(given) if given else workload
    except SpecificationError as error:
        raise SpecificationError(f"{where}: densities: {error}") from None


def _rank(data: object, coefficients: dict[str, int], names: Names, where: str) -> Rank:
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
        factor = whole(evaluate_number(factor, names, where), where, 0)
        if factor:
            terms[str(parts[0])] = terms.get(str(parts[0]), 0) + factor
    return tuple(terms.items())


def _keyed(data: object) -> dict[str, Any]:
    """A mapping with underscores in its keys; empty for anything else."""
    return {str(key).replace("-", "_"): value for key, value in data.items()} if isinstance(data, AbcMapping) else {}


def _whole(value: object, names: Names, where: str) -> int:
    return whole(evaluate_number(value, names, where), where)
