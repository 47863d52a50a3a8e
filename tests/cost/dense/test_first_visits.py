"""First visits of outputs and overlaps of tiles, against sets of words."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

import random_cases
from mapgym.cost import CostModel
from mapgym.mapping import Mapping, MappingBatch
from mapgym.spec.accelerator import Accelerator
from mapgym.spec.levels import Mac, StorageLevel
from mapgym.spec.tensor import Tensor
from mapgym.spec.workload import Workload
from reference_holes import covered_words
from reference_model import Nest, read_nest
from reference_traffic import Vector, fresh_words, step_vector, tile_lengths

MOST_POINTS = 30_000


def points_of(steps: list[tuple[Vector, int]], box: Vector) -> set[Vector]:
    """All words of a box that is moved by every combination of iterations."""
    points = set(itertools.product(*map(range, box)))
    for vector, bound in steps:
        points = {
            tuple(p + i * v for p, v in zip(point, vector, strict=True)) for point in points for i in range(bound)
        }
    return points


@given(
    lengths=st.lists(st.integers(1, 5), min_size=1, max_size=3),
    translation=st.lists(st.integers(-6, 6), min_size=3, max_size=3),
)
def test_fresh_words_are_a_difference_of_sets(lengths, translation):
    moved = tuple(translation[: len(lengths)])
    here = set(itertools.product(*map(range, lengths)))
    before = {tuple(p - t for p, t in zip(point, moved, strict=True)) for point in here}
    boxes = [set(itertools.product(*(range(a, a + n) for a, n in box))) for box in fresh_words(tuple(lengths), moved)]
    assert set().union(*boxes) == here - before
    assert sum(map(len, boxes)) == len(here - before)


@settings(deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_the_words_that_boxes_cover_are_a_union_of_sets(seed):
    rng = np.random.default_rng(seed)
    workload = random_cases.pick(rng, (random_cases.random_holes, random_cases.random_diagonal))(rng)
    unit = {dim: random_cases.pick(rng, (1, 1, 2, 3)) for dim in workload.dims}
    extents = {dim: unit[dim] * random_cases.pick(rng, (1, 2, 3)) for dim in workload.dims}
    steps = [(step_vector(workload.output, dim, unit[dim]), extents[dim] // unit[dim]) for dim in workload.dims]
    points = points_of(steps, tile_lengths(workload.output, unit))
    assert covered_words(workload.output, extents, unit) == len(points)


def words_updated(tensor: Tensor, nest: Nest, s: int, inner: int) -> int:
    """Words that come to one instance of level s in tiles of level ``inner`` during the run, each counted once."""
    steps: list[tuple[Vector, int]] = []
    for q in range(inner + 1, len(nest.temporal)):
        for loops, strides, is_seen in zip(
            (nest.spatial[q], nest.temporal[q]), nest.strides[q], (q <= s, True), strict=True
        ):
            if is_seen:
                steps += [
                    (step_vector(tensor, dim, stride), bound)
                    for (dim, bound), stride in zip(loops, strides, strict=True)
                ]
    box = tile_lengths(tensor, nest.extents[inner]) if inner >= 0 else (1,) * len(tensor.ranks)
    return len(points_of([(v, n) for v, n in steps if any(v)], box))


@settings(deadline=None, max_examples=150)
@given(seed=st.integers(0, 2**32 - 1))
def test_there_are_no_more_first_visits_than_words(seed):
    rng = np.random.default_rng(seed)
    workload = random_cases.pick(rng, (random_cases.random_holes, random_cases.random_diagonal))(rng)
    if max(workload.macs, workload.tensor_size("Outputs")) > MOST_POINTS:
        return
    accelerator = random_cases.random_accelerator(rng, workload)
    mappings = [random_cases.random_mapping(rng, workload, accelerator) for _ in range(4)]
    costs = CostModel(workload, accelerator).evaluate(
        MappingBatch.concatenate([mapping.batch() for mapping in mappings]), detail=True
    )
    t = workload.tensors.index(workload.output)
    for i, mapping in enumerate(mappings):
        if not costs.legal[i]:
            continue
        nest, inner = read_nest(mapping), -1
        for s in range(len(accelerator.levels)):
            if mapping.keep[s, t]:
                detail = costs.detail.at(i)
                assert 0 < detail.partition_words[s, t] <= words_updated(workload.output, nest, s, inner)
                if not accelerator.peer_links:
                    assert detail.reads[s, t] == detail.updates[s, t] - detail.partition_words[s, t] >= 0
                inner = s


def first_visits(tensor: Tensor, **bounds: int) -> int:
    """Of single words, by one MAC, one after the other."""
    inputs = Tensor("Inputs", ((("C", 1),),))
    workload = Workload("large", (*bounds, "C"), (*bounds.values(), 3), (inputs, tensor))
    accelerator = Accelerator("one", (StorageLevel("Memory"),), Mac())
    detail = CostModel(workload, accelerator).evaluate(Mapping.trivial(workload, accelerator), detail=True).detail
    assert detail.reads[0, 1] == detail.updates[0, 1] - detail.partition_words[0, 1]
    assert detail.updates[0, 1] == 3 * math.prod(bounds.values())
    return int(detail.partition_words[0, 1])


def output(*ranks: tuple[tuple[str, int], ...]) -> Tensor:
    return Tensor("Outputs", ranks, is_output=True)


@pytest.mark.parametrize(
    ("ranks", "bounds", "expected"),
    [
        ([[("P", 4)]], {"P": 10**6}, 10**6),
        ([[("P", 4), ("R", 1)]], {"P": 10**6, "R": 2}, 2 * 10**6),
        ([[("P", 4), ("R", 1)]], {"P": 10**6, "R": 4}, 4 * 10**6),
        ([[("P", 4), ("R", 1)]], {"P": 10**6, "R": 5}, 4 * 10**6 + 1),
        ([[("P", 3), ("R", 2)]], {"P": 10**6, "R": 3}, 3 * 10**6),
        ([[("P", 6), ("R", 3)]], {"P": 10**5, "R": 10**3}, 2 * (10**5 - 1) + 10**3),
        ([[("P", 1)], [("P", 1)]], {"P": 5000}, 5000),
        ([[("P", 1), ("R", 1)], [("P", 1)]], {"P": 100, "R": 100}, 10**4),
    ],
)
def test_first_visits_of_large_outputs_are_counted_exactly(ranks, bounds, expected):
    assert first_visits(output(*map(tuple, ranks)), **bounds) == expected


def test_dims_of_an_output_that_meet_are_told_apart():
    # Outputs[I+K, I+L]: (I, K, L) and (I+1, K-1, L-1) are the same word: 4*4*4 - 3*3*3.
    assert first_visits(output((("I", 1), ("K", 1)), (("I", 1), ("L", 1))), I=4, K=4, L=4) == 64 - 27
    # Three dims in one rank, steps 5, 7 and 11: counted one by one.
    sums = {5 * a + 7 * b + 11 * c for a in range(4) for b in range(6) for c in range(5)}
    assert first_visits(output((("A", 5), ("B", 7), ("D", 11))), A=4, B=6, D=5) == len(sums)
