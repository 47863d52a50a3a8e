"""Random layers and accelerators keep to their ranges, and to the layers that were drawn before."""

from __future__ import annotations

import hashlib
import math

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from mapgym.errors import SpecificationError
from mapgym.spec.random_accelerators import RandomAccelerators
from mapgym.spec.random_layers import FAMILIES, RandomLayers, within
from mapgym.spec.splits import is_held_out, training_layers

DIMS_OF = {"convolution": 7, "depthwise": 6, "product": 4}


def test_draws__are_those_that_trained_policies_have_seen() -> None:
    rng = np.random.default_rng(0)
    layers, accelerators = RandomLayers(), RandomAccelerators()
    digest = hashlib.sha256()
    for _ in range(300):
        layer, accelerator = layers.draw(rng), accelerators.draw(rng)
        digest.update(repr((layer.dims, layer.bounds, accelerator.fanout_x, accelerator.fanout_y)).encode())
        digest.update(repr([level.capacity_words for level in accelerator.levels]).encode())
    assert digest.hexdigest()[:16] == "bc5797ca37aaeb9c"


@given(
    st.integers(0, 2**32),
    st.lists(st.sampled_from(FAMILIES), min_size=1, unique=True),
    st.floats(0, 1),
    st.tuples(st.integers(1, 64), st.integers(1, 64)).map(sorted),
)
@settings(max_examples=40, deadline=None)
def test_layers__keep_to_their_ranges(seed: int, families: list[str], varied: float, limits: list[int]) -> None:
    asked = RandomLayers(families, varied, {"P": limits, "K": limits, "C": limits}, (1, 1e12))
    layer = asked.draw(np.random.default_rng(seed))
    assert len(layer.dims) in {DIMS_OF[family] for family in families}
    assert all(limits[0] <= layer.bound(dim) <= limits[1] for dim in "PKC" if dim in layer.dims)
    assert layer.macs <= 1e12
    assert not is_held_out(layer)
    assert layer.name.startswith("random/") is (layer not in training_layers())


@given(
    st.integers(0, 2**32),
    st.tuples(st.integers(2, 5), st.integers(2, 5)).map(sorted),
    st.tuples(st.integers(1, 10**6), st.integers(1, 10**6)).map(sorted),
    st.tuples(st.integers(1, 5), st.integers(1, 5)).map(sorted),
)
@settings(max_examples=60, deadline=None)
def test_accelerators__keep_to_their_ranges(
    seed: int, levels: list[int], capacities: list[int], fanouts: list[int]
) -> None:
    asked = RandomAccelerators(0.0, levels, capacities, fanouts, (1, 2**20), (4, 8), limited=1.0)
    accelerator = asked.draw(np.random.default_rng(seed))
    assert levels[0] <= len(accelerator.levels) <= levels[1]
    assert accelerator.levels[-1].capacity_words is None
    for level, x, y in zip(accelerator.levels[:-1], accelerator.fanout_x, accelerator.fanout_y, strict=False):
        assert capacities[0] - 1 <= level.capacity_words <= capacities[1]
        assert 4 <= level.shared_bandwidth_words_per_cycle <= 8
        assert fanouts[0] <= x <= fanouts[1]
        assert y == 1 or fanouts[0] <= y <= fanouts[1]
    assert 1 <= accelerator.mac.instances <= 2**20


@given(st.integers(1, 10**6), st.integers(1, 10**4), st.integers(0, 10**4), st.integers(0, 2**32))
def test_within__keeps_what_is_inside_and_reaches_both_ends(value: int, least: int, more: int, seed: int) -> None:
    limits, rng = (least, least + more), np.random.default_rng(seed)
    found = within(rng, value, limits)
    assert found == value if limits[0] <= value <= limits[1] else limits[0] <= found <= limits[1]
    assert {within(rng, 10, (1, 3)) for _ in range(200)} == {1, 2, 3}


@pytest.mark.parametrize(
    ("kind", "arguments", "message"),
    [
        (RandomLayers, {"families": []}, "families is empty"),
        (RandomLayers, {"families": "convolutions"}, "did you mean 'convolution'"),
        (RandomLayers, {"varied": 1.5}, "between 0 and 1"),
        (RandomLayers, {"bounds": {"X": (1, 2)}}, "X"),
        (RandomLayers, {"bounds": {"C": (4, 2)}}, "bounds of C"),
        (RandomLayers, {"bounds": {"C": (1.5, 2)}}, "whole numbers"),
        (RandomLayers, {"bounds": 5}, "bounds is 5"),
        (RandomLayers, {"macs": (1, math.inf)}, "macs"),
        (RandomLayers, {"macs": "ab"}, "macs"),
        (RandomAccelerators, {"levels": (1, 3)}, "at least 2"),
        (RandomAccelerators, {"mac_units": (1, 2**21)}, r"at most 2\*\*20"),
        (RandomAccelerators, {"training": True}, "training"),
        (RandomAccelerators, {"bandwidths": (0, 4)}, "bandwidths"),
        (RandomAccelerators, {"rules": "timeloop-1"}, "timeloop-1"),
    ],
)
def test_what_is_no_range__is_refused(kind, arguments, message: str) -> None:
    with pytest.raises(SpecificationError, match=message):
        kind(**arguments)


def test_ranges_that_nothing_falls_into__are_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mapgym.spec.random_layers.MOST_TRIES", 50)
    with pytest.raises(SpecificationError, match="none of 50 draws"):
        RandomLayers(bounds=dict.fromkeys("NCPQRSMBK", (1, 1))).draw(np.random.default_rng(0))
    with pytest.raises(SpecificationError, match="give wider ranges"):
        RandomAccelerators(0.0, fanouts=(1, 1), mac_units=(2, 4)).draw(np.random.default_rng(0))
