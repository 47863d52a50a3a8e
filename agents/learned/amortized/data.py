"""What the amortized policy is trained on: tasks of random layers and accelerators, none of them held out."""

from __future__ import annotations

import numpy as np

from mapgym.errors import SpecificationError
from mapgym.mapspace import MapSpace
from mapgym.spec import catalog
from mapgym.spec.random_accelerators import RandomAccelerators
from mapgym.spec.random_layers import RandomLayers, one_of
from mapgym.spec.rules import DEFAULT_RULES
from mapgym.spec.splits import TRAINING, load_split

AXES = ("tile", "order", "parallelism")


def random_task(rng: np.random.Generator, rules: str = DEFAULT_RULES) -> tuple[MapSpace, str]:
    """A map space and an objective: mostly EDP with every tensor kept, sometimes another, or with bypass."""
    layers, accelerators = RandomLayers(), RandomAccelerators(rules=rules)
    while True:
        layer, accelerator = layers.draw(rng), accelerators.draw(rng)
        if rng.random() < 0.03:
            name = one_of(rng, load_split(TRAINING).accelerators)
            accelerator = catalog.accelerator(f"{name}_sparse").counted_by(rules)
            densities = {tensor.name: float(rng.uniform(0.1, 1.0)) for tensor in layer.tensors if not tensor.is_output}
            layer = layer.with_densities(densities)
        axes = (*AXES, "bypass") if rng.random() < 0.12 else AXES
        objective = ("edp", "energy", "latency")[int(rng.choice(3, p=(0.8, 0.1, 0.1)))]
        try:
            return MapSpace(layer, accelerator, axes), objective
        except SpecificationError:
            continue  # a random accelerator can be too small to hold one word of each tensor
