"""The splits of the catalog: nothing that is held out can be learned from."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from mapgym.agents.learned.amortized.data import random_task
from mapgym.errors import SpecificationError
from mapgym.spec import catalog
from mapgym.spec.random_layers import RandomLayers
from mapgym.spec.splits import NAMES, is_held_out, load_split, shape_of, training_layers


def test_every_name_is_in_the_catalog() -> None:
    for name in NAMES:
        split = load_split(name)
        assert set(split.networks) <= set(catalog.network_names())
        assert set(split.accelerators) <= set(catalog.accelerator_names())
        assert split.layers()


def test_splits_do_not_overlap() -> None:
    for first, second in itertools.combinations(map(load_split, NAMES), 2):
        assert not set(first.networks) & set(second.networks)
        assert not set(first.accelerators) & set(second.accelerators)


def test_training_leaves_out_the_shapes_of_validation_and_test() -> None:
    held_out = {shape_of(layer) for name in ("validation", "test") for layer in load_split(name).layers()}
    layers = training_layers()
    assert layers
    assert not held_out & {shape_of(layer) for layer in layers}
    # MobileNetV2 has this very layer, so that what is a training layer by its network is none.
    shared = catalog.workload("mnasnet/expand_160_960")
    assert shape_of(shared) == shape_of(catalog.workload("mobilenet_v2/expand_160_960"))
    assert shared in load_split("training").layers()
    assert shared not in layers


def test_a_shape_has_neither_name_nor_densities() -> None:
    layer = catalog.workload("vgg16/conv2_1")
    assert is_held_out(layer.with_densities({"Weights": 0.5}))
    assert not is_held_out(catalog.workload("resnet18/conv4"))


def test_random_layers_are_not_held_out() -> None:
    rng = np.random.default_rng(0)
    layers = [RandomLayers().draw(rng) for _ in range(300)]
    assert not any(is_held_out(layer) for layer in layers)
    assert {len(layer.dims) for layer in layers} == {4, 6, 7}  # matrix products, depthwise, all others


def test_random_accelerators_are_not_held_out() -> None:
    rng = np.random.default_rng(1)
    names = {random_task(rng)[0].accelerator.name for _ in range(60)}
    assert {"accel_a", "accel_b"} <= names
    assert any(name.startswith("random/") for name in names)
    held_out = {*load_split("validation").accelerators, *load_split("test").accelerators}
    assert not names & held_out


def test_an_unknown_split_is_named() -> None:
    with pytest.raises(SpecificationError, match="no split 'trian'; give one of training, validation, test"):
        load_split("trian")
