"""Problems: the layer that is mapped, by the name of its shape or with the shape written out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mapgym.errors import SpecificationError, suggest
from mapgym.errors.text import quoted
from mapgym.spec.tensor import BANDED, Rank, Tensor
from mapgym.spec.workload import Workload
from mapgym.timeloop.reading.documents import Documents, Ignored
from mapgym.timeloop.reading.expressions import Names, evaluate_number, plain_name
from mapgym.timeloop.reading.hardware import variables_of, whole
from mapgym.timeloop.reading.shapes import DEFAULT_SHAPE, DEFAULTS, SHAPES

_DISTRIBUTIONS = {
    "fixed": "fixed-structured",
    "fixed_structured": "fixed-structured",
    "hypergeometric": "hypergeometric",
    "banded": BANDED,
    "diagonal": BANDED,
}
_SHAPE_KEYS = ("name", "dimensions", "coefficients", "data_spaces")
_WORDS = {
    "version": "a format of files",
    "name": "the file is the name",
    "dnn_name": "the file is the name",
    "notes": "a remark",
    "histograms": "values of words matter to compute-in-memory only",
}


def read_problem(documents: Documents, name: str, ignored: list[Ignored]) -> Workload | None:
    """The workload of the problem of some files; None if they have none.

    Args:
        documents: the files.
        name: what to call it.
        ignored: takes what has no effect.

    Raises:
        SpecificationError: it is no problem, or one that cannot be expressed.
    """
    section = documents.one("problem")
    if section is None:
        return None
    if not isinstance(section.value, Mapping):
        raise SpecificationError(f"{section.file}: problem is {quoted(section.value)}; give a mapping")
    return _Problem(section.value, section.file, variables_of(documents), ignored).workload(name)


class _Problem:
    """Reads one problem."""

    def __init__(self, data: Mapping[str, Any], file: str, variables: Names, ignored: list[Ignored]) -> None:
        self._data, self._file, self._ignored = data, file, ignored
        self._where = f"{file}: problem"
        # Bounds stand under a key of their own, or beside the shape.
        instance = data.get("instance", data)
        if not isinstance(instance, Mapping):
            raise SpecificationError(f"{self._where}: instance is {quoted(instance)}; give the bounds of dims")
        self._instance = instance
        self._names = Names({k: v for k, v in instance.items() if isinstance(v, int | float | str)}, variables)
        self._used = {"shape", "instance", "densities", "commonDensity"}
        self._shape_name = ""

    def workload(self, name: str) -> Workload:
        """The layer."""
        shape = self._shape()
        dims = self._dims(shape)
        bounds = tuple(self._bound(dim) for dim in dims)
        coefficients = self._coefficients(shape)
        spaces = shape.get("data_spaces")
        if not isinstance(spaces, list) or not spaces:
            raise SpecificationError(f"{self._where}: the data-spaces are {quoted(spaces)}; give a list of tensors")
        tensors = [self._tensor(entry, dims, coefficients) for entry in spaces]
        densities = self._densities([tensor.name for tensor in tensors])
        self._list_ignored()
        try:
            workload = Workload(name, dims, bounds, tuple(tensors))
            return workload.with_densities(densities) if densities else workload
        except SpecificationError as error:
            raise SpecificationError(f"{self._where}: {error}") from None

    def _shape(self) -> dict[str, Any]:
        """The shape with underscores in its keys."""
        shape = self._data.get("shape", DEFAULT_SHAPE)
        if isinstance(shape, str):
            self._shape_name = plain_name(shape.strip()).lower().removesuffix(".yaml").removesuffix(".cfg")
            if self._shape_name not in SHAPES:
                raise SpecificationError(
                    f"{self._where}: the shape is {quoted(shape)}; write it out with dimensions and data-spaces, or "
                    f"correct its name: {suggest(self._shape_name, SHAPES)}"
                )
            return SHAPES[self._shape_name]
        if not isinstance(shape, Mapping):
            raise SpecificationError(f"{self._where}: shape is {quoted(shape)}; give a name or a mapping")
        found = {plain_name(key): value for key, value in shape.items()}
        for key in found:
            if key not in _SHAPE_KEYS:
                if "flatten" in key or "factorized" in key:
                    raise SpecificationError(f"{self._where}: shape: {key} is not modelled; give single dims only")
                self._ignored.append(Ignored(self._file, f"problem: shape: {key}", "no part of a shape"))
        return found

    def _dims(self, shape: Mapping[str, Any]) -> tuple[str, ...]:
        dims = shape.get("dimensions")
        if not isinstance(dims, list) or not dims or not all(isinstance(dim, str) for dim in dims):
            raise SpecificationError(f"{self._where}: dimensions is {quoted(dims)}; give a list of names")
        return tuple(dims)

    def _bound(self, dim: str) -> int:
        value = self._instance.get(dim, DEFAULTS.get(self._shape_name))
        if value is None:
            raise SpecificationError(f"{self._where}: has no bound of dim {quoted(dim)}; add it, such as {dim}: 64")
        return self._whole(dim, value)

    def _whole(self, key: str, value: object) -> int:
        self._used.add(key)
        where = f"{self._where}: {key}"
        return whole(evaluate_number(value, self._names, where), where)

    def _coefficients(self, shape: Mapping[str, Any]) -> dict[str, int]:
        """Coefficient -> its value."""
        found: dict[str, int] = {}
        given = shape.get("coefficients") or []
        if not isinstance(given, list) or not all(isinstance(each, Mapping) and "name" in each for each in given):
            raise SpecificationError(f"{self._where}: coefficients is {quoted(given)}; give a list of name and default")
        for each in given:
            name = str(each["name"])
            found[name] = self._whole(name, self._instance.get(name, each.get("default", 1)))
        return found

    def _tensor(self, entry: Any, dims: tuple[str, ...], coefficients: Mapping[str, int]) -> Tensor:
        if not isinstance(entry, Mapping):
            raise SpecificationError(f"{self._where}: a data-space is {quoted(entry)}; give name and projection")
        space = {plain_name(key): value for key, value in entry.items()}
        name = str(space.get("name"))
        where = f"{self._where}: data-space {name}"
        projection = space.get("projection")
        if not isinstance(projection, list) or not projection:
            raise SpecificationError(f"{where}: the projection is {quoted(projection)}; give a list of ranks")
        ranks = tuple(self._rank(rank, dims, coefficients, where) for rank in projection)
        for key in space:
            if key not in ("name", "projection", "read_write"):
                self._ignored.append(Ignored(self._file, f"problem: data-space {name}: {key}", "no effect"))
        is_output = space.get("read_write", False)
        if isinstance(is_output, str):
            is_output = is_output.lower() in ("true", "yes", "on", "y")
        return Tensor(name, ranks, is_output=bool(is_output))

    def _rank(self, rank: Any, dims: tuple[str, ...], coefficients: Mapping[str, int], where: str) -> Rank:
        """A rank: a name, or a sum of terms, each a list of a dim and perhaps a coefficient."""
        terms = [[rank]] if isinstance(rank, str) else rank
        if isinstance(terms, list) and len(terms) == 1 and isinstance(terms[0], str):
            terms = [terms]
        found: dict[str, int] = {}
        for term in terms if isinstance(terms, list) else []:
            parts = term if isinstance(term, list) else [term]
            named = [part for part in parts if part in dims]
            factors = [part for part in parts if part not in dims]
            if len(named) != 1:
                raise SpecificationError(
                    f"{where}: the rank {quoted(rank)} has the term {quoted(term)}; give one of the dims "
                    f"{', '.join(dims)}, and at most one coefficient"
                )
            factor = 1
            for each in factors:
                if isinstance(each, str) and each not in coefficients:
                    raise SpecificationError(
                        f"{where}: the rank {quoted(rank)} names {quoted(each)}, which is neither a dim nor a coefficient; "
                        f"{suggest(each, (*dims, *coefficients))}"
                    )
                factor *= coefficients[each] if isinstance(each, str) else whole(each, f"{where}: a coefficient")
            found[named[0]] = found.get(named[0], 0) + factor
        if not found:
            raise SpecificationError(f"{where}: the rank {quoted(rank)} names no dim; give a list of terms")
        return tuple(found.items())

    def _densities(self, tensors: list[str]) -> dict[str, object]:
        """What :meth:`Workload.with_densities` takes."""
        place = "commonDensity" if "commonDensity" in self._instance else "densities"
        given = self._instance.get(place, self._data.get(place))
        if given is None:
            return {}
        if place == "commonDensity":
            given = dict.fromkeys(tensors, given)
        if not isinstance(given, Mapping):
            raise SpecificationError(f"{self._where}: densities is {quoted(given)}; give tensor: density pairs")
        found: dict[str, object] = {}
        for name, entry in given.items():
            if name not in tensors:
                self._ignored.append(Ignored(self._file, f"problem: densities: {name}", "there is no such tensor"))
                continue
            found[name] = self._density(entry, f"{self._where}: density of {name}")
        return found

    def _density(self, entry: Any, where: str) -> object:
        if not isinstance(entry, Mapping):
            return {"density": evaluate_number(entry, self._names, where), "distribution": "fixed-structured"}
        data = {plain_name(key): value for key, value in entry.items()}
        kind = str(data.get("distribution"))
        distribution = _DISTRIBUTIONS.get(plain_name(kind))
        if distribution is None:
            raise SpecificationError(
                f"{where}: the distribution is {quoted(kind)}; only {', '.join(_DISTRIBUTIONS)} are modelled"
            )
        if distribution == BANDED:
            width = next((data[key] for key in ("band_width", "width") if key in data), None)
            return {"distribution": BANDED, "band_width": whole(width, f"{where}: band-width", least=0)}
        return {"density": evaluate_number(data.get("density"), self._names, where), "distribution": distribution}

    def _list_ignored(self) -> None:
        tables = [self._data] if self._instance is self._data else [self._data, self._instance]
        for table in tables:
            for key in table:
                if key not in self._used:
                    why = _WORDS.get(str(key), "no dim and no coefficient of the shape")
                    self._ignored.append(Ignored(self._file, f"problem: {key}", why))
