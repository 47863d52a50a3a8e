"""Random layers, such as networks have, for what is to learn from more layers than a catalog holds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any, TypeVar

import numpy as np

from mapgym.errors import SpecificationError, require_keys, require_one_of
from mapgym.errors.text import quoted
from mapgym.spec.splits import is_held_out, training_layers
from mapgym.spec.workload import Workload, conv2d, depthwise_conv2d, matmul

FAMILIES = ("convolution", "depthwise", "product")
_FAMILY_OF_DIMS = {7: "convolution", 6: "depthwise", 4: "product"}
DIMS = ("N", "C", "P", "Q", "R", "S", "M", "B", "K")
"""Dims of the families; products have B, M, K and N, the others N, C, P, Q, R, S and convolutions M."""

MOST_TRIES = 10_000
"""Draws after which ranges that nothing falls into are given up."""

_SIDES = (4, 6, 7, 8, 10, 12, 13, 14, 16, 20, 24, 27, 28, 32, 48, 55, 56, 64, 96, 112, 128, 224)
_CHANNELS = (3, 8, 16, 24, 32, 40, 48, 64, 72, 80, 96, 112, 120, 128, 144, 160, 192, 240, 256, 320, 384, 480, 512)
_WIDE_CHANNELS = (*_CHANNELS[4:], 576, 640, 672, 768, 960, 1024, 1152, 1280, 1536, 2048)
_WIDTHS = (64, 128, 256, 320, 384, 512, 640, 768, 1024, 1280, 1536, 2048, 2560, 3072, 4096, 5120, 8192, 11008, 14336)
_HEADS = (1, 2, 4, 6, 8, 12, 16, 20, 32, 64, 128)
_HEAD_WIDTHS = (32, 40, 48, 64, 80, 96, 128, 256)
_BATCHES = (1, 1, 1, 1, 2, 4, 8, 16, 32)
_FILTERS = (1, 1, 1, 3, 3, 3, 5, 7, 11)
_LARGEST_PRIME = 600

_Choice = TypeVar("_Choice")


@dataclass(frozen=True)
class RandomLayers:
    """Draws layers: those of the training networks with some bounds changed, and families that networks are made of.

    Bounds of families are usual ones (three of four), any, or prime: sides of up to 230, or a prime of up to 607; up to
    2,048 channels; matrices of up to 4,096 rows and 14,336 columns; filters of up to 16; batches of up to 32; up to 128
    heads. Bounds of training layers change by a factor of up to 4. Layers that are held out
    (:func:`mapgym.spec.splits.is_held_out`) are never drawn.

    Attributes:
        families: which of "convolution", "depthwise" and "product" (matrix products, those of attention included).
        varied: the share of the layers of training networks, between 0 and 1.
        bounds: for dims of some names, the least and the largest bound: one that falls outside is drawn anew, on a
            logarithmic scale.
        macs: the least and the largest number of multiply-accumulates; a layer that falls outside is drawn anew.

    Raises:
        SpecificationError: an unknown family or dim, or what is no range.
    """

    families: tuple[str, ...] = FAMILIES
    varied: float = 0.5
    bounds: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    macs: tuple[float, float] = (1e4, 1e13)

    def __post_init__(self) -> None:
        families = (self.families,) if isinstance(self.families, str) else tuple(self.families)
        if not families:
            raise SpecificationError(f"random layers: families is empty; give some of {', '.join(FAMILIES)}")
        for family in families:
            require_one_of(family, FAMILIES, "random layers: families")
        if not isinstance(self.bounds, Mapping):
            raise SpecificationError(f"random layers: bounds is {quoted(self.bounds)}; give such as {{'C': (16, 512)}}")
        require_keys(map(str, self.bounds), DIMS, "random layers: bounds")
        bounds = {dim: whole_range(given, f"random layers: bounds of {dim}") for dim, given in self.bounds.items()}
        object.__setattr__(self, "families", families)
        object.__setattr__(self, "varied", share(self.varied, "random layers: varied"))
        object.__setattr__(self, "bounds", bounds)
        object.__setattr__(self, "macs", number_range(self.macs, "random layers: macs", least=1.0))

    def draw(self, rng: np.random.Generator) -> Workload:
        """A layer.

        Args:
            rng: everything random.

        Raises:
            SpecificationError: no layer falls into the ranges.
        """
        for _ in range(MOST_TRIES):
            try:
                layer = _varied_layer(rng) if rng.random() < self.varied else _family_layer(rng)
                layer = self._within_bounds(rng, layer)
            except SpecificationError:
                continue  # too large to count
            family = _FAMILY_OF_DIMS[len(layer.dims)]
            is_asked_for = family in self.families and self.macs[0] <= layer.macs <= self.macs[1]
            if is_asked_for and not is_held_out(layer):
                shape = "-".join(f"{dim}{bound}" for dim, bound in zip(layer.dims, layer.bounds, strict=True))
                return layer if "/" in layer.name else replace(layer, name=f"random/{family}-{shape}")
        raise SpecificationError(
            f"random layers: none of {MOST_TRIES:,} draws was of {' or '.join(self.families)} with {self.macs[0]:g} to "
            f"{self.macs[1]:g} multiply-accumulates and these bounds; give wider ranges"
        )

    def _within_bounds(self, rng: np.random.Generator, layer: Workload) -> Workload:
        if not self.bounds:
            return layer
        pairs = zip(layer.dims, layer.bounds, strict=True)
        bounds = tuple(within(rng, bound, self.bounds[d]) if d in self.bounds else bound for d, bound in pairs)
        # What has changed is no layer of the catalog.
        return layer if bounds == layer.bounds else replace(layer, name="changed", bounds=bounds)


def within(rng: np.random.Generator, value: int, limits: tuple[int, int]) -> int:
    """A value in its range; one outside of it is drawn anew, on a logarithmic scale."""
    least, most = limits
    if least <= value <= most:
        return value
    return min(most, int(least * (1 + (most + 1 - least) / least) ** rng.random()))


def whole_range(given: Any, where: str) -> tuple[int, int]:
    """The least and the largest of a range of whole numbers above 0; raises SpecificationError if it is none."""
    least, most = number_range(given, where, least=1.0)
    if least != int(least) or most != int(most):
        raise SpecificationError(f"{where} is {quoted(given)}; give two whole numbers, such as (1, 64)")
    return int(least), int(most)


def number_range(given: Any, where: str, least: float) -> tuple[float, float]:
    """The least and the largest of a range of numbers; raises SpecificationError if it is none."""
    pair = list(given) if isinstance(given, Sequence) and not isinstance(given, str) else []
    is_pair = len(pair) == 2 and all(isinstance(n, int | float) and not isinstance(n, bool) for n in pair)
    if not is_pair or not least <= pair[0] <= pair[1] < math.inf:
        raise SpecificationError(
            f"{where} is {quoted(given)}; give the least and the largest number, in this order, at least {least:g}"
        )
    return float(pair[0]), float(pair[1])


def share(given: Any, where: str) -> float:
    """A number between 0 and 1; raises SpecificationError if it is none."""
    if isinstance(given, bool) or not isinstance(given, int | float) or not 0.0 <= given <= 1.0:
        raise SpecificationError(f"{where} is {quoted(given)}; give a number between 0 and 1")
    return float(given)


def one_of(rng: np.random.Generator, choices: Sequence[_Choice]) -> _Choice:
    """One of some choices, all as likely."""
    return choices[int(rng.integers(len(choices)))]


@cache
def _training_layers() -> tuple[Workload, ...]:
    return tuple(training_layers())


def _varied_layer(rng: np.random.Generator) -> Workload:
    """A layer of a training network, two of five as it is, otherwise with some bounds changed."""
    layer = one_of(rng, _training_layers())
    if rng.random() < 0.4:
        return layer
    bounds = []
    for dim, bound in zip(layer.dims, layer.bounds, strict=True):
        if dim in "RS" or rng.random() < 0.6:
            bounds.append(bound)
        elif dim == "N" and len(layer.dims) > 4:
            bounds.append(one_of(rng, _BATCHES))
        elif bound == 1:
            bounds.append(1)
        else:
            scaled = max(1, round(bound * 2.0 ** rng.uniform(-2, 2)))
            bounds.append(scaled if rng.random() < 0.4 else max(8, scaled // 8 * 8))
    return replace(layer, name="varied", bounds=tuple(bounds))


def _family_layer(rng: np.random.Generator) -> Workload:
    kind = rng.random()
    if kind < 0.2:
        return matmul(
            "product",
            B=one_of(rng, _BATCHES),
            M=_rows(rng),
            K=_width(rng, _WIDTHS),
            N=_width(rng, (*_WIDTHS, 1000)),
            shared_weights=True,
        )
    if kind < 0.35:
        queries, keys = _rows(rng), _rows(rng)
        keys = queries if rng.random() < 0.6 else max(keys, 2)
        inner, outer = (one_of(rng, _HEAD_WIDTHS), keys) if rng.random() < 0.5 else (keys, one_of(rng, _HEAD_WIDTHS))
        return matmul("attention", B=one_of(rng, _HEADS), M=queries, K=inner, N=outer)
    if kind < 0.42:
        return matmul("product", B=one_of(rng, _HEADS), M=_rows(rng), K=_width(rng, _WIDTHS), N=_width(rng, _WIDTHS))
    filter_side = one_of(rng, _FILTERS)
    stride = 2 if rng.random() < 0.25 else 1
    if rng.random() < 0.05:
        filter_side = stride = one_of(rng, (2, 4, 8, 14, 16))
    rows = _side(rng)
    window = {
        "N": one_of(rng, _BATCHES),
        "P": rows,
        "Q": rows if rng.random() < 0.9 else _side(rng),
        "R": filter_side,
        "S": filter_side if rng.random() < 0.95 else 1,
        "stride": stride,
    }
    if kind < 0.57:
        return depthwise_conv2d("depthwise", C=_width(rng, _WIDE_CHANNELS), **window)
    channels = _CHANNELS if filter_side > 1 else _WIDE_CHANNELS
    return conv2d("convolution", C=_width(rng, channels), M=_width(rng, channels[1:]), **window)


def _rows(rng: np.random.Generator) -> int:
    """Rows of a matrix: one, a power of two, a prime (class token), or any."""
    kind = rng.random()
    if kind < 0.15:
        return 1
    if kind < 0.5:
        return int(2 ** rng.integers(1, 13))
    if kind < 0.75:
        return _prime(rng)
    return int(2.0 ** rng.uniform(1, 12))


def _width(rng: np.random.Generator, usual: tuple[int, ...]) -> int:
    """A usual number of channels, a multiple of 8, any, or a prime."""
    kind = rng.random()
    if kind < 0.75:
        return one_of(rng, usual)
    if kind < 0.88:
        return 8 * int(rng.integers(1, 200))
    return int(rng.integers(1, 1500)) if kind < 0.95 else _prime(rng)


def _side(rng: np.random.Generator) -> int:
    kind = rng.random()
    return one_of(rng, _SIDES) if kind < 0.8 else int(rng.integers(1, 230)) if kind < 0.93 else _prime(rng)


def _prime(rng: np.random.Generator) -> int:
    number = int(rng.integers(3, _LARGEST_PRIME))
    while any(number % divisor == 0 for divisor in range(2, math.isqrt(number) + 1)):
        number += 1
    return number
