"""What the amortized policy is trained on: layers and accelerators, from the catalog's training split and at random.

Half of the layers are those of the training networks with some of their bounds changed, half are drawn from families of
layers that networks are made of, with bounds that are usual ones, any, or prime. Layers that are held out
(:func:`mapgym.spec.splits.is_held_out`) are never drawn.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import TypeVar

import numpy as np

from mapgym.errors import SpecificationError
from mapgym.mapspace import MapSpace
from mapgym.spec import catalog
from mapgym.spec.accelerator import Accelerator
from mapgym.spec.levels import Mac, StorageLevel
from mapgym.spec.rules import DEFAULT_RULES
from mapgym.spec.splits import TRAINING, is_held_out, load_split, training_layers
from mapgym.spec.workload import Workload, conv2d, depthwise_conv2d, matmul

AXES = ("tile", "order", "parallelism")
_FEWEST_MACS, _MOST_MACS = 1e4, 1e13
_SIDES = (4, 6, 7, 8, 10, 12, 13, 14, 16, 20, 24, 27, 28, 32, 48, 55, 56, 64, 96, 112, 128, 224)
_CHANNELS = (3, 8, 16, 24, 32, 40, 48, 64, 72, 80, 96, 112, 120, 128, 144, 160, 192, 240, 256, 320, 384, 480, 512)
_WIDE_CHANNELS = (*_CHANNELS[4:], 576, 640, 672, 768, 960, 1024, 1152, 1280, 1536, 2048)
_WIDTHS = (64, 128, 256, 320, 384, 512, 640, 768, 1024, 1280, 1536, 2048, 2560, 3072, 4096, 5120, 8192, 11008, 14336)
_HEADS = (1, 2, 4, 6, 8, 12, 16, 20, 32, 64, 128)
_HEAD_WIDTHS = (32, 40, 48, 64, 80, 96, 128, 256)
_BATCHES = (1, 1, 1, 1, 2, 4, 8, 16, 32)
_FILTERS = (1, 1, 1, 3, 3, 3, 5, 7, 11)
_LARGEST_PRIME = 600
_MOST_MAC_UNITS = 2**14


def random_layer(rng: np.random.Generator) -> Workload:
    """A layer that is not held out."""
    while True:
        try:
            layer = _varied_layer(rng) if rng.random() < 0.5 else _family_layer(rng)
        except SpecificationError:
            continue  # too large to count
        if _FEWEST_MACS <= layer.macs <= _MOST_MACS and not is_held_out(layer):
            return layer


def random_accelerator(rng: np.random.Generator, rules: str = DEFAULT_RULES) -> Accelerator:
    """An accelerator of the training split (seven of ten), or a random one; links between neighbours for half."""
    names = load_split(TRAINING).accelerators
    accelerator = catalog.accelerator(_one_of(rng, names)) if rng.random() < 0.7 else _made_up_accelerator(rng)
    return replace(accelerator, peer_links=bool(rng.random() < 0.5), rules=rules)


def random_task(rng: np.random.Generator, rules: str = DEFAULT_RULES) -> tuple[MapSpace, str]:
    """A map space and an objective: mostly EDP with every tensor kept, sometimes another, or with bypass."""
    while True:
        layer, accelerator = random_layer(rng), random_accelerator(rng, rules)
        if rng.random() < 0.03:
            name = _one_of(rng, load_split(TRAINING).accelerators)
            accelerator = catalog.accelerator(f"{name}_sparse").counted_by(rules)
            densities = {tensor.name: float(rng.uniform(0.1, 1.0)) for tensor in layer.tensors if not tensor.is_output}
            layer = layer.with_densities(densities)
        axes = (*AXES, "bypass") if rng.random() < 0.12 else AXES
        objective = ("edp", "energy", "latency")[int(rng.choice(3, p=(0.8, 0.1, 0.1)))]
        try:
            return MapSpace(layer, accelerator, axes), objective
        except SpecificationError:
            continue  # a random accelerator can be too small to hold one word of each tensor


@cache
def _training_layers() -> tuple[Workload, ...]:
    return tuple(training_layers())


def _varied_layer(rng: np.random.Generator) -> Workload:
    """A layer of a training network, two of five as it is, otherwise with some bounds changed."""
    layer = _one_of(rng, _training_layers())
    if rng.random() < 0.4:
        return layer
    bounds = []
    for dim, bound in zip(layer.dims, layer.bounds, strict=True):
        if dim in "RS" or rng.random() < 0.6:
            bounds.append(bound)
        elif dim == "N" and len(layer.dims) > 4:
            bounds.append(_one_of(rng, _BATCHES))
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
            B=_one_of(rng, _BATCHES),
            M=_rows(rng),
            K=_width(rng, _WIDTHS),
            N=_width(rng, (*_WIDTHS, 1000)),
            shared_weights=True,
        )
    if kind < 0.35:
        queries, keys = _rows(rng), _rows(rng)
        keys = queries if rng.random() < 0.6 else max(keys, 2)
        inner, outer = (_one_of(rng, _HEAD_WIDTHS), keys) if rng.random() < 0.5 else (keys, _one_of(rng, _HEAD_WIDTHS))
        return matmul("attention", B=_one_of(rng, _HEADS), M=queries, K=inner, N=outer)
    if kind < 0.42:
        return matmul("product", B=_one_of(rng, _HEADS), M=_rows(rng), K=_width(rng, _WIDTHS), N=_width(rng, _WIDTHS))
    filter_side = _one_of(rng, _FILTERS)
    stride = 2 if rng.random() < 0.25 else 1
    if rng.random() < 0.05:
        filter_side = stride = _one_of(rng, (2, 4, 8, 14, 16))
    rows = _side(rng)
    window = {
        "N": _one_of(rng, _BATCHES),
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
        return _one_of(rng, usual)
    if kind < 0.88:
        return 8 * int(rng.integers(1, 200))
    return int(rng.integers(1, 1500)) if kind < 0.95 else _prime(rng)


def _side(rng: np.random.Generator) -> int:
    kind = rng.random()
    return _one_of(rng, _SIDES) if kind < 0.8 else int(rng.integers(1, 230)) if kind < 0.93 else _prime(rng)


def _prime(rng: np.random.Generator) -> int:
    number = int(rng.integers(3, _LARGEST_PRIME))
    while any(number % divisor == 0 for divisor in range(2, math.isqrt(number) + 1)):
        number += 1
    return number


def _made_up_accelerator(rng: np.random.Generator) -> Accelerator:
    """Two to four levels, on one or two mesh sides, with capacities and energies on log scales."""
    levels = int(rng.choice((2, 3, 4), p=(0.1, 0.65, 0.25)))
    is_flat, is_limited = bool(rng.random() < 0.4), bool(rng.random() < 0.15)
    meshes = [[_MOST_MAC_UNITS, 2]]
    while math.prod(meshes[-1]) > _MOST_MAC_UNITS:
        # Fan-out of each level, outermost first: none below main memory, as in chips.
        fanouts = [(1, 1), *((_fanout(rng), 1 if is_flat else _fanout(rng)) for _ in range(levels - 1))]
        meshes = np.cumprod([(1, 1), *fanouts], axis=0).tolist()
    capacities = [None, *np.sort(2.0 ** rng.uniform(3, 20, levels - 1))[::-1].astype(int).tolist()]
    storage = []
    for k, words in enumerate(capacities):
        block = _one_of(rng, (1, 4, 8)) if k < levels - 1 else 1
        # As in the catalog: a small SRAM costs as much as a multiply-accumulate, main memory 200 times that.
        energy = (200.0 if words is None else 1.0 + words / 10_000) * block * 2.0 ** rng.normal(0, 0.5)
        # In tables of energies, writing costs about as much as reading, or somewhat more.
        table = {"write": energy * 2.0 ** rng.normal(0.2, 0.3)} if rng.random() < 0.5 else {}
        storage.append(
            StorageLevel(
                f"Level{k}",
                capacity_words=words,
                mesh_x=meshes[k][0],
                mesh_y=meshes[k][1],
                access_energy_pj=energy,
                action_energies_pj=tuple(table.items()),
                block_size_words=block,
                shared_bandwidth_words_per_cycle=2.0 ** rng.uniform(1, 7) if is_limited else None,
                energy_per_hop_pj=2.0 ** rng.uniform(-6, 0) if rng.random() < 0.3 else 0.0,
            )
        )
    mac = Mac(mesh_x=meshes[-1][0], mesh_y=meshes[-1][1], energy_pj=2.0 ** rng.uniform(-2, 0.5))
    return Accelerator("made up", tuple(storage[::-1]), mac)


def _fanout(rng: np.random.Generator) -> int:
    """Parallelism on one mesh side below one instance: often none, usually a power of two."""
    kind = rng.random()
    if kind < 0.3:
        return 1
    return int(2 ** rng.integers(1, 8)) if kind < 0.8 else int(rng.integers(3, 33))


_Choice = TypeVar("_Choice")


def _one_of(rng: np.random.Generator, choices: Sequence[_Choice]) -> _Choice:
    return choices[int(rng.integers(len(choices)))]
