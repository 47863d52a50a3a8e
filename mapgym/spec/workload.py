"""Workloads: one DNN layer as dims with bounds and tensors with affine projections.

Dim names are Timeloop's: N (batch) C (input channels) M (output channels) P Q (output rows, columns) R S (filter rows,
columns).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from mapgym.errors import (
    MAX_INTEGER,
    SpecificationError,
    positive_int,
    require_keys,
    require_name,
    suggest,
)
from mapgym.errors.text import quoted
from mapgym.spec.counts import band_nonzeros, check_sizes, rank_length
from mapgym.spec.tensor import BANDED, DENSITY_DISTRIBUTIONS, Rank, Tensor, format_rank, parse_rank, require_dim


@dataclass(frozen=True)
class Workload:
    """One layer: what is computed, not how.

    Attributes:
        name: a line of text; catalog workloads are called "network/layer". Empty where only the shape counts.
        dims: dim names, in a fixed order that mappings share.
        bounds: iterations per dim, each at least 1.
        tensors: operands first, in the order in which bandwidth demands are added up; exactly one is the output.
    """

    name: str
    dims: tuple[str, ...]
    bounds: tuple[int, ...]
    tensors: tuple[Tensor, ...]

    def __post_init__(self) -> None:
        where = f"workload {quoted(self.name)}"
        if self.name != "":  # where only the shape counts
            require_name(self.name, where, "net/conv1")
        if not self.dims or len(self.dims) != len(self.bounds):
            raise SpecificationError(f"{where} needs one bound for each dim, at least one dim")
        for dim in self.dims:
            require_dim(dim, where)
        if len(set(self.dims)) != len(self.dims):
            raise SpecificationError(f"{where} names a dim twice: {quoted(', '.join(self.dims))}; name each dim once")
        for dim, bound in zip(self.dims, self.bounds, strict=True):
            if type(bound) is not int or not 1 <= bound <= MAX_INTEGER:
                positive_int(bound, f"{where}: the bound of dim {quoted(dim)}")
        if len({tensor.name for tensor in self.tensors}) != len(self.tensors):
            raise SpecificationError(f"{where} names a tensor twice")
        outputs = [tensor.name for tensor in self.tensors if tensor.is_output]
        if len(outputs) != 1:
            raise SpecificationError(f"{where} has {len(outputs)} output tensors; mark exactly one with output: true")
        for tensor in self.tensors:
            for dim in tensor.dims:
                if dim not in self.dims:
                    raise SpecificationError(
                        f"{where}: tensor {quoted(tensor.name)} uses unknown dim {quoted(dim)}; "
                        f"{suggest(dim, self.dims)}"
                    )
        check_sizes(dict(zip(self.dims, self.bounds, strict=True)), self.tensors, where)
        if any(tensor.density_distribution == BANDED for tensor in self.tensors):
            object.__setattr__(self, "tensors", tuple(map(self._with_band, self.tensors)))

    @cached_property
    def macs(self) -> int:
        """Multiply-accumulates: the product of all bounds."""
        return math.prod(self.bounds)

    @cached_property
    def output(self) -> Tensor:
        """The tensor that is accumulated."""
        return next(tensor for tensor in self.tensors if tensor.is_output)

    def bound(self, dim: str) -> int:
        """Iterations of one dim; raises SpecificationError for an unknown one."""
        if dim not in self.dims:
            raise SpecificationError(
                f"workload {quoted(self.name)} has no dim {quoted(dim)}; {suggest(dim, self.dims)}"
            )
        return self.bounds[self.dims.index(dim)]

    def tensor(self, name: str) -> Tensor:
        """One tensor by name; raises SpecificationError for an unknown one."""
        for tensor in self.tensors:
            if tensor.name == name:
                return tensor
        names = [tensor.name for tensor in self.tensors]
        raise SpecificationError(f"workload {quoted(self.name)} has no tensor {quoted(name)}; {suggest(name, names)}")

    def tensor_size(self, name: str) -> int:
        """Words of a whole tensor (bounding box)."""
        return self.tensor(name).tile_size(dict(zip(self.dims, self.bounds, strict=True)))

    def band_matrix(self, tensor: Tensor) -> tuple[int, int, int]:
        """Length of a side of the square matrix that a banded tensor is, and the dims of its rows and its columns.

        Raises:
            SpecificationError: it is no square matrix whose rows and columns are dims; ranks of one word do not count.
        """
        bounds = dict(zip(self.dims, self.bounds, strict=True))
        lengths = [rank_length(rank, bounds) for rank in tensor.ranks]
        sides = [r for r, length in enumerate(lengths) if length > 1] or list(range(len(lengths)))[:2]
        ranks = [tensor.ranks[r] for r in sides]
        terms = [[term for term in rank if bounds[term[0]] > 1] or [(rank[0][0], 1)] for rank in ranks]
        plain = all(len(rank) == 1 and rank[0][1] == 1 for rank in terms)
        if len(sides) != 2 or not plain or terms[0] == terms[1] or lengths[sides[0]] != lengths[sides[1]]:
            raise SpecificationError(
                f"workload {quoted(self.name)}: tensor {quoted(tensor.name)} is banded, but its ranks of more than one "
                f"word ({quoted(', '.join(map(format_rank, ranks)))}) are not two single dims of the same bound; give "
                f"it the density_distribution {quoted(DENSITY_DISTRIBUTIONS[0])}"
            )
        return lengths[sides[0]], self.dims.index(terms[0][0][0]), self.dims.index(terms[1][0][0])

    def _with_band(self, tensor: Tensor) -> Tensor:
        """A banded tensor with the density that its band has in this workload; others as they are."""
        if tensor.density_distribution != BANDED:
            return tensor
        side, _, _ = self.band_matrix(tensor)
        if tensor.band_width >= side:
            raise SpecificationError(
                f"workload {quoted(self.name)}: band_width {tensor.band_width} of tensor {quoted(tensor.name)} reaches "
                f"beyond its {side} rows; give at most {side - 1}"
            )
        return replace(tensor, density=band_nonzeros(side, tensor.band_width) / side**2)

    def with_densities(self, densities: Mapping[str, object], distribution: str | None = None) -> Workload:
        """Returns a copy in which the named tensors have other densities.

        Args:
            densities: for each tensor a number, or what else :meth:`mapgym.spec.tensor.Tensor.with_density` takes.
            distribution: where the non-zeros of all tensors lie, but of those that ``densities`` says otherwise of;
                left out, where they lay.

        Raises:
            SpecificationError: no such tensor, or no such density.
        """
        for name in densities:
            self.tensor(name)
        tensors = []
        for tensor in self.tensors:
            if tensor.name in densities:
                tensor = tensor.with_density(densities[tensor.name], distribution)
            elif distribution is not None and tensor.density_distribution != BANDED:
                tensor = tensor.with_density(tensor.density, distribution)
            tensors.append(tensor)
        return replace(self, tensors=tuple(tensors))

    def to_dict(self) -> dict[str, object]:
        """A plain, YAML- and JSON-able form that :meth:`from_dict` reads back."""
        tensors: dict[str, dict[str, object]] = {}
        for tensor in self.tensors:
            entry: dict[str, object] = {"projection": [format_rank(rank) for rank in tensor.ranks]}
            if tensor.is_output:
                entry["output"] = True
            if tensor.density_distribution == BANDED:
                entry["band_width"] = tensor.band_width
            elif tensor.density != 1.0:
                entry["density"] = tensor.density
            if tensor.density != 1.0 or tensor.density_distribution != DENSITY_DISTRIBUTIONS[0]:
                entry["density_distribution"] = tensor.density_distribution
            tensors[tensor.name] = entry
        return {
            "name": self.name,
            "type": "einsum",
            "dims": dict(zip(self.dims, self.bounds, strict=True)),
            "tensors": tensors,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, object], where: str = "workload") -> Workload:
        """Builds a workload from its plain form.

        Args:
            data: ``type`` (one of ``conv2d depthwise_conv2d matmul mttkrp einsum``; einsum when left out) and the
                arguments of the constructor function of that name; for einsum ``dims`` (name: bound) and ``tensors``
                (name: {projection: [rank, ...], output: bool, density: float}), a rank being text such as "2*P + R".
            where: file and key, for error messages.

        Raises:
            SpecificationError: unknown key, type or dim, or a value out of range.
        """
        if not isinstance(data, Mapping):
            raise SpecificationError(f"{where} is {quoted(data)}; give a mapping of keys such as type, name, dims")
        arguments = {str(key): value for key, value in data.items()}
        kind = str(arguments.pop("type", "einsum"))
        name = str(arguments.pop("name", where))
        densities = arguments.pop("densities", {})
        try:
            workload = _construct(kind, name, arguments)
            if not isinstance(densities, Mapping):
                raise SpecificationError(f"densities is {quoted(densities)}; give tensor: density pairs")
            return workload.with_densities(densities) if densities else workload
        except SpecificationError as error:
            raise SpecificationError(f"{where}: {error}") from None


def _construct(kind: str, name: str, arguments: Mapping[str, object]) -> Workload:
    if kind == "einsum":
        require_keys(arguments, ("dims", "tensors"), "einsum")
        return _einsum(name, arguments.get("dims"), arguments.get("tensors"))
    if kind not in CONSTRUCTORS:
        raise SpecificationError(f"unknown type {quoted(kind)}; {suggest(kind, [*CONSTRUCTORS, 'einsum'])}")
    constructor, required, optional = CONSTRUCTORS[kind]
    require_keys(arguments, (*required, *optional), kind)
    for key in required:
        if key not in arguments:
            raise SpecificationError(f"{kind} needs the bound of {quoted(key)}; add it, such as {key}: 64")
    return constructor(name=name, **arguments)


_TENSOR_KEYS = ("projection", "output", "density", "density_distribution", "band_width")


def _einsum(name: str, dims: object, tensors: object) -> Workload:
    if not isinstance(dims, Mapping) or not dims:
        raise SpecificationError(f"dims is {quoted(dims)}; give name: bound pairs such as {{M: 64, K: 64}}")
    if not isinstance(tensors, Mapping) or not tensors:
        raise SpecificationError(f"tensors is {quoted(tensors)}; give name: {{projection: [...]}} pairs")
    built = []
    for tensor_name, entry in tensors.items():
        place = f"tensor {quoted(tensor_name)}"
        if not isinstance(entry, Mapping) or not isinstance(entry.get("projection"), list | tuple):
            raise SpecificationError(f"{place} needs a projection, a list of ranks such as [M, '2*P + R']")
        require_keys(map(str, entry), _TENSOR_KEYS, place)
        built.append(
            Tensor(
                name=str(tensor_name),
                ranks=tuple(parse_rank(rank, place) for rank in entry["projection"]),
                is_output=_boolean(entry.get("output", False), f"{place}: output"),
                density=entry.get("density", 1.0),
                density_distribution=entry.get("density_distribution", "fixed-structured"),
                band_width=entry.get("band_width", 0),
            )
        )
    return Workload(name, tuple(map(str, dims)), tuple(dims.values()), tuple(built))


def _boolean(value: object, where: str) -> bool:
    if not isinstance(value, bool):
        raise SpecificationError(f"{where} is {quoted(value)}; give true or false")
    return value


def _pair(value: int | Sequence[int], what: str) -> tuple[int, int]:
    pair = (value, value) if not isinstance(value, Sequence) or isinstance(value, str) else tuple(value)
    if len(pair) != 2:
        raise SpecificationError(f"{what} is {quoted(value)}; give one number or two (rows, columns)")
    return positive_int(pair[0], what), positive_int(pair[1], what)


def conv2d(
    name: str = "conv2d",
    *,
    N: int = 1,
    C: int,
    M: int,
    P: int,
    Q: int,
    R: int,
    S: int,
    stride: int | Sequence[int] = 1,
    dilation: int | Sequence[int] = 1,
) -> Workload:
    """A 2-D convolution: Outputs[N,P,Q,M] += Weights[C,R,S,M] * Inputs[C,N,stride*Q+dilation*S,stride*P+dilation*R].

    Args:
        name: what to call it.
        N, C, M, P, Q, R, S: bounds (batch, input channels, output channels, output rows and columns, filter rows
            and columns).
        stride: step of the window, one number or (rows, columns).
        dilation: step within the window, one number or (rows, columns).
    """
    (stride_h, stride_w), (dilation_h, dilation_w) = _pair(stride, "stride"), _pair(dilation, "dilation")
    return Workload(
        name,
        ("N", "C", "P", "Q", "R", "S", "M"),
        (N, C, P, Q, R, S, M),
        (
            Tensor("Weights", _ranks("C", "R", "S", "M")),
            Tensor("Inputs", _ranks("C", "N", {"S": dilation_w, "Q": stride_w}, {"R": dilation_h, "P": stride_h})),
            Tensor("Outputs", _ranks("N", "P", "Q", "M"), is_output=True),
        ),
    )


def depthwise_conv2d(
    name: str = "depthwise_conv2d",
    *,
    N: int = 1,
    C: int,
    P: int,
    Q: int,
    R: int,
    S: int,
    stride: int | Sequence[int] = 1,
    dilation: int | Sequence[int] = 1,
) -> Workload:
    """A depthwise 2-D convolution: as :func:`conv2d`, each channel by itself (no M; Outputs[N,P,Q,C])."""
    (stride_h, stride_w), (dilation_h, dilation_w) = _pair(stride, "stride"), _pair(dilation, "dilation")
    return Workload(
        name,
        ("N", "C", "P", "Q", "R", "S"),
        (N, C, P, Q, R, S),
        (
            Tensor("Weights", _ranks("C", "R", "S")),
            Tensor("Inputs", _ranks("C", "N", {"S": dilation_w, "Q": stride_w}, {"R": dilation_h, "P": stride_h})),
            Tensor("Outputs", _ranks("N", "P", "Q", "C"), is_output=True),
        ),
    )


def matmul(name: str = "matmul", *, B: int = 1, M: int, K: int, N: int, shared_weights: bool = False) -> Workload:
    """A batched matrix product: Outputs[B,M,N] += Inputs[B,M,K] * Weights[B,K,N].

    Args:
        name: what to call it.
        B, M, K, N: bounds (batch, rows, reduction, columns).
        shared_weights: True when all of the batch uses the same Weights[K,N]; the layer is then the 1x1 convolution
            with N=B, P=M, C=K and M=N, with the dim names of a convolution.
    """
    if _boolean(shared_weights, "shared_weights"):
        return conv2d(name, N=B, C=K, M=N, P=M, Q=1, R=1, S=1)
    return Workload(
        name,
        ("B", "M", "K", "N"),
        (B, M, K, N),
        (
            Tensor("Weights", _ranks("B", "K", "N")),
            Tensor("Inputs", _ranks("B", "M", "K")),
            Tensor("Outputs", _ranks("B", "M", "N"), is_output=True),
        ),
    )


def mttkrp(name: str = "mttkrp", *, I: int, J: int, K: int, L: int) -> Workload:  # noqa: E741 - the kernel's own name
    """Matricised tensor times Khatri-Rao product: Outputs[I,J] += A[I,K,L] * B[K,J] * C[L,J]."""
    return Workload(
        name,
        ("I", "J", "K", "L"),
        (I, J, K, L),
        (
            Tensor("A", _ranks("I", "K", "L")),
            Tensor("B", _ranks("K", "J")),
            Tensor("C", _ranks("L", "J")),
            Tensor("Outputs", _ranks("I", "J"), is_output=True),
        ),
    )


def _ranks(*ranks: str | dict[str, int]) -> tuple[Rank, ...]:
    return tuple(((rank, 1),) if isinstance(rank, str) else tuple(rank.items()) for rank in ranks)


_WINDOW = ("C", "P", "Q", "R", "S")
_WINDOW_OPTIONS = ("N", "stride", "dilation")
CONSTRUCTORS: dict[str, tuple[Callable[..., Workload], tuple[str, ...], tuple[str, ...]]] = {
    "conv2d": (conv2d, (*_WINDOW, "M"), _WINDOW_OPTIONS),
    "depthwise_conv2d": (depthwise_conv2d, _WINDOW, _WINDOW_OPTIONS),
    "matmul": (matmul, ("M", "K", "N"), ("B", "shared_weights")),
    "mttkrp": (mttkrp, ("I", "J", "K", "L"), ()),
}
"""Workload type -> (constructor function, the keys that its YAML form must have, those that it may have)."""
