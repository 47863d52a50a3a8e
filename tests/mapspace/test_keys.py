"""Vectors of keys: every vector is a mapping of the space, and every mapping has a vector."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

import brute_force_spaces as brute
from mapgym.agents.search.pruned.exhaustive import ExhaustiveSearch
from mapgym.errors import SpecificationError
from mapgym.mapping import MappingBatch
from mapgym.mapspace import MapSpace
from mapgym.mapspace.keys import KeyEncoding
from mapgym.spec import catalog
from mapgym.spec.constraints import Constraints
from mapgym.spec.workload import conv2d, matmul
from mapgym.testing.agents import small_accelerator

AXES = ("tile", "order", "parallelism", "bypass")
CONV = conv2d("conv", N=2, C=12, M=8, P=6, Q=5, R=3, S=3, stride=2)
SPACES = [
    MapSpace(CONV, small_accelerator(), axes=AXES),
    MapSpace(CONV, small_accelerator(peer_links=False), axes=AXES),
    MapSpace(CONV, small_accelerator(fanout_check="cumulative"), axes=AXES),
    MapSpace(CONV, small_accelerator(), constraints=Constraints(min_utilization=0.75)),
    MapSpace(CONV, small_accelerator(), constraints=Constraints(factors={"Memory": {"C": {"temporal": 3}}})),
    MapSpace(CONV, small_accelerator(), constraints=Constraints(orders={"Buffer": ["C", "M"]}, parallel_dims=("C",))),
    *(MapSpace(CONV, small_accelerator(), axes=(axis,), base=None) for axis in AXES),
    MapSpace(catalog.workload("paper/resnet_conv4"), catalog.accelerator("accel_b_2d"), axes=AXES),
    MapSpace(catalog.workload("paper/bert_kqv"), catalog.accelerator("eyeriss_like"), axes=AXES),
]


@pytest.mark.parametrize("space", SPACES, ids=range(len(SPACES)))
def test_every_vector_is_a_member_in_canonical_form(space: MapSpace) -> None:
    encoding = KeyEncoding(space)
    keys = np.random.default_rng(0).random((300, encoding.size))
    # Corners of the cube, where ties are, and what lies outside of it.
    keys[:100] = np.round(keys[:100])
    keys[100:110] = 5 * keys[100:110] - 2
    batch = encoding.decode(keys)
    assert np.all(space.contains(batch))
    assert brute.rows(batch) == brute.rows(space.canonical(batch))
    assert brute.rows(batch) == brute.rows(encoding.decode(np.clip(keys, 0, 1)))


@pytest.mark.parametrize("space", SPACES, ids=range(len(SPACES)))
def test_decoding_an_encoded_mapping_gives_it_back(space: MapSpace) -> None:
    batch = space.canonical(space.sample(np.random.default_rng(1), 500))
    encoding = KeyEncoding(space)
    keys = encoding.encode(batch)
    assert keys.min() >= 0
    assert keys.max() <= 1
    assert brute.rows(encoding.decode(keys)) == brute.rows(batch)


@pytest.mark.parametrize("peer_links", [True, False])
def test_every_mapping_of_a_small_space_has_a_vector(peer_links: bool) -> None:
    space = MapSpace(brute.toy_workload(4, 3, 1), brute.toy_accelerator(peer_links=peer_links), axes=AXES)
    agent = ExhaustiveSearch()
    agent.start(space, np.random.default_rng(0), "edp")
    batches = []
    while len(batch := agent.ask(1)):
        batches.append(batch)
    everything = MappingBatch.concatenate(batches)
    encoding = KeyEncoding(space)
    assert brute.rows(encoding.decode(encoding.encode(everything))) == brute.rows(everything)


@settings(max_examples=50, deadline=None)
@given(st.data())
def test_random_spaces(data: st.DataObject) -> None:
    bounds = {dim: data.draw(st.sampled_from([1, 2, 3, 4, 6, 8, 12, 30])) for dim in "BMKN"}
    axes = data.draw(st.sets(st.sampled_from(AXES), min_size=1))
    workload = matmul("matmul", **bounds)
    accelerator = small_accelerator(peer_links=data.draw(st.booleans()))
    base = MapSpace(workload, accelerator, axes=AXES).sample(np.random.default_rng(0), 1)[0]
    space = MapSpace(workload, accelerator, axes=tuple(axes), base=base)
    encoding = KeyEncoding(space)
    batch = space.canonical(encoding.decode(np.random.default_rng(1).random((20, encoding.size))))
    assert np.all(space.contains(batch))
    assert brute.rows(space.canonical(encoding.decode(encoding.encode(batch)))) == brute.rows(batch)


def test_a_hand_made_vector() -> None:
    """One dim of 16, three levels; the registers hold 12 words, and a tile of 4 x 1 has 4 + 1 + 4."""
    space = MapSpace(matmul("line", M=16, K=1, N=1), small_accelerator(peer_links=False))
    encoding = KeyEncoding(space)
    assert encoding.names == (
        "tile factor of M at Registers",
        "parallel factor of M at Buffer",
        "tile factor of M at Buffer",
        "place of M among the loops of Registers",
        "place of M among the loops of Buffer",
        "place of M among the loops of Memory",
    )

    def factors(*keys: float) -> tuple[list[int], int, int]:
        mapping = encoding.decode(np.array([[*keys, 0.0, 0.0, 0.0]]))[0]
        m = space.workload.dims.index("M")
        return mapping.temporal[:, m].tolist(), int(mapping.spatial[1, m]), int(mapping.spatial_split[1])

    # No tiles and nothing parallel; half of 2^4 is a tile of 4; all of it is more than fits.
    assert factors(0.0, 0.5, 0.0) == ([1, 1, 16], 1, 0)
    assert factors(0.5, 0.5, 0.0) == ([4, 1, 4], 1, 0)
    assert factors(1.0, 0.5, 0.5) == ([4, 2, 2], 1, 0)
    # Parallel factors are on X above 1/2 and on Y below, and at most 2.
    assert factors(0.25, 1.0, 1.0) == ([2, 4, 1], 2, 1)
    assert factors(0.25, 0.0, 1.0) == ([2, 4, 1], 2, 0)


def test_where_dims_compete_the_higher_tile_key_comes_first() -> None:
    """Registers of 12 words hold a tile of 4 x 1 x 1 or of 1 x 4 x 1, not of 4 x 4."""
    space = MapSpace(matmul("square", M=4, K=1, N=4), small_accelerator(), axes=("tile",))
    encoding = KeyEncoding(space)
    columns = [encoding.names.index(f"tile factor of {dim} at Registers") for dim in "MN"]
    for keys, expected in (((1.0, 0.9), [4, 1]), ((0.9, 1.0), [1, 4])):
        vector = np.zeros((1, encoding.size))
        vector[0, columns] = keys
        assert encoding.decode(vector).temporal[0, 0][_positions(space, "MN")].tolist() == expected


def _positions(space: MapSpace, dims: str) -> list[int]:
    return [space.workload.dims.index(dim) for dim in dims]


def test_a_space_of_one_mapping_has_two_idle_keys() -> None:
    space = MapSpace(matmul("point", M=1, K=1, N=1), small_accelerator())
    encoding = KeyEncoding(space)
    assert encoding.size == 2
    assert len(set(brute.rows(encoding.decode(np.random.default_rng(0).random((9, 2)))))) == 1


def test_wrong_keys_are_named() -> None:
    encoding = KeyEncoding(SPACES[0])
    with pytest.raises(SpecificationError, match=rf"shape \(3, 4\), expected \(n, {encoding.size}\)"):
        encoding.decode(np.zeros((3, 4)))
    with pytest.raises(SpecificationError, match="not a number"):
        encoding.decode(np.full((1, encoding.size), np.nan))
