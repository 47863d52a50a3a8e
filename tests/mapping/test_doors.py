"""What hands arrays to compiled code looks at them first: no index from outside reaches beyond an array."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest

from mapgym.agents.base import make_agent
from mapgym.agents.search.local.edits import Edits
from mapgym.cost import CostModel
from mapgym.errors import SpecificationError
from mapgym.evaluation.evaluator import Budget, Evaluator
from mapgym.mapping import Mapping, MappingBatch, legality_kernels
from mapgym.mapping.mapping import ARRAYS
from mapgym.mapspace import MapSpace
from mapgym.mapspace.construction.construction import Construction
from mapgym.mapspace.keys import KeyEncoding
from mapgym.mapspace.projection import Target, mesh_sides
from mapgym.spec.catalog import accelerator, workload
from mapgym.spec.workload import matmul
from mapgym.warmstart.transfer import transfer, transfer_batch

LAYER, MACHINE = workload("toy/tiny_gemm"), accelerator("accel_b_2d")
SPACE = MapSpace(LAYER, MACHINE, ("tile", "order", "parallelism", "bypass"))
KEYS = KeyEncoding(SPACE)
DIMS = len(LAYER.dims)


def rng():
    return np.random.default_rng(0)


DOORS = {
    "canonical": SPACE.canonical,
    "encode": SPACE.encode,
    "random_neighbor": lambda batch: SPACE.random_neighbor(rng(), batch),
    "repair": SPACE.repair,
    "project": lambda batch: SPACE.project(Target.of(batch)),
    "neighbors": lambda batch: SPACE.neighbors(batch[-1], check=False),
    "transfer_batch": lambda batch: transfer_batch(batch, LAYER, SPACE),
    "transfer": lambda batch: transfer(batch[-1], LAYER, SPACE),
    "mesh_sides": mesh_sides,
    "keys": KEYS.encode,
    "edits": lambda batch: Edits(SPACE, rng(), 0.5, distinct=False).apply(batch),
}
"""Every public function that uses the orders of a batch as indices."""

DAMAGE = [
    (name, value)
    for name, values in (
        ("order", (-128, -1, 0, DIMS, 31, 32, 63, 64, 127)),
        ("spatial_order", (-128, -1, 0, DIMS, 31, 32, 63, 64, 127)),
        ("spatial_split", (-128, -1, DIMS + 1, 127)),
    )
    for value in values
]


@pytest.mark.parametrize(("name", "value"), DAMAGE)
@pytest.mark.parametrize("door", DOORS)
def test_orders_and_splits_that_were_overwritten_are_refused(door, name, value):
    batch = SPACE.sample(rng(), 4)
    getattr(batch, name)[-1] = value
    with pytest.raises(
        SpecificationError, match=rf"mapping \d of the batch: {name} is (not a permutation|out of range)"
    ):
        DOORS[door](batch)


@pytest.mark.parametrize(("name", "value"), DAMAGE)
def test_what_judges_legality_says_that_the_order_is_wrong(name, value):
    batch = SPACE.sample(rng(), 4)
    getattr(batch, name)[1] = value
    costs = CostModel(LAYER, MACHINE).evaluate(batch)
    assert (costs.status >> 8).tolist() == [0, legality_kernels.ORDER, 0, 0]
    assert SPACE.status(batch).tolist() == costs.status.tolist()
    assert SPACE.contains(batch).tolist() == [True, False, True, True]
    assert np.isinf(costs.edp[1])


def has_orders(batch):
    permuted = [(np.sort(array) == np.arange(DIMS)).all() for array in (batch.order, batch.spatial_order)]
    return all(permuted) and ((batch.spatial_split >= 0) & (batch.spatial_split <= DIMS)).all()


@pytest.mark.parametrize("seed", range(20))
def test_any_content_of_a_batch_is_answered(seed):
    generator = np.random.default_rng(seed)
    batch = SPACE.sample(generator, 50)
    for array in batch.arrays():
        raw = array.view(np.int8).reshape(-1)
        hit = generator.random(len(raw)) < 0.02
        raw[hit] = (
            generator.integers(0, 2, hit.sum()) if array.dtype == bool else generator.integers(-128, 128, hit.sum())
        )
    status = SPACE.status(batch)
    assert (CostModel(LAYER, MACHINE).evaluate(batch).status == status).all()
    assert not SPACE.contains(batch)[status != 0].any()
    ordered = batch[np.array([i for i in range(len(batch)) if has_orders(batch[[i]])])]
    for door in DOORS.values():
        with contextlib.suppress(SpecificationError):
            door(ordered)
    assert SPACE.contains(SPACE.repair(ordered)[0]).any()


@pytest.mark.parametrize("agent", ["gamma", "gamma-timeloop-compat", "genetic", "evolution", "hill-climb", "annealing"])
def test_a_search_survives_a_warm_start_of_any_content(agent):
    space = MapSpace(LAYER, MACHINE)
    given = space.sample(rng(), 6)
    given.order[0], given.spatial_order[1], given.spatial_split[2] = 127, -1, 127
    given.temporal[3], given.spatial[4] = 0, 2**31 - 1
    evaluator = Evaluator(space, budget=Budget(samples=300))
    make_agent(agent).search(evaluator, 0, given)
    assert evaluator.samples == 300
    assert space.contains(evaluator.best_mapping)


@pytest.mark.parametrize("door", [name for name in DOORS if name not in ("mesh_sides", "project", "edits")])
def test_mappings_of_another_task_are_refused(door):
    other = MappingBatch.trivial(matmul(M=4, K=4, N=4, B=4), accelerator("accel_b"), 2)
    with pytest.raises(SpecificationError, match=r"the mapping has the|are not mappings of|cannot be transferred"):
        DOORS[door](other)


def rebuilt(kind, arrays, batch, **changed):
    return kind(*(changed.get(name, array) for name, array in zip(ARRAYS, arrays, strict=True)), *batch.names)


@pytest.mark.parametrize("value", [-1, DIMS, 127])
@pytest.mark.parametrize("name", ["order", "spatial_order"])
def test_an_order_of_dims_that_there_are_not_is_refused_when_a_mapping_is_made(name, value):
    batch = SPACE.sample(rng(), 3)
    wrong = getattr(batch, name).copy()
    wrong[2, 0, 0] = value
    with pytest.raises(SpecificationError, match=f"{name!r} has values out of range; give 0 to {DIMS - 1}"):
        rebuilt(MappingBatch, batch.arrays(), batch, **{name: wrong})
    with pytest.raises(SpecificationError, match=f"{name!r} has values out of range"):
        rebuilt(Mapping, batch[2].arrays(), batch, **{name: wrong[2]})


def test_a_split_outside_of_the_dims_is_refused_when_a_mapping_is_made():
    batch = SPACE.sample(rng(), 3)
    for value in (-1, DIMS + 1):
        with pytest.raises(SpecificationError, match=f"'spatial_split' has values out of range; give 0 to {DIMS}"):
            rebuilt(MappingBatch, batch.arrays(), batch, spatial_split=np.full_like(batch.spatial_split, value))


@pytest.mark.parametrize("kind", [Mapping, MappingBatch])
@pytest.mark.parametrize("name", ARRAYS)
def test_arrays_of_wrong_shapes_are_refused(kind, name):
    batch = SPACE.sample(rng(), 3)
    arrays = (batch if kind is MappingBatch else batch[0]).arrays()
    array = dict(zip(ARRAYS, arrays, strict=True))[name]
    for wrong in (
        array[..., :-1],
        array[None],
        array.reshape(1, 1, 1, 1, -1),
        array[..., :0],
        np.zeros((), array.dtype),
    ):
        with pytest.raises(SpecificationError, match=r"has shape"):
            rebuilt(kind, arrays, batch, **{name: wrong})


@pytest.mark.parametrize(
    "values",
    [[["a"]], [[1, 2], [3]], None, "text", [[object()]], np.array([["1"]]), [[2**70]], [[1j]], [[float("nan")]]],
)
def test_what_is_no_array_of_numbers_is_refused(values):
    batch = SPACE.sample(rng(), 1)
    for name in ARRAYS:
        with pytest.raises(SpecificationError, match=f"{name!r} has (values that|shape)"):
            rebuilt(MappingBatch, batch.arrays(), batch, **{name: values})


def test_arrays_in_other_layouts_become_plain_ones_and_nothing_is_compiled_for_them():
    batch = SPACE.sample(rng(), 3)
    expected = SPACE.canonical(batch)
    frozen = [array.copy() for array in batch.arrays()]
    for array in frozen:
        array.flags.writeable = False
    variants = [
        [array.tolist() for array in batch.arrays()],
        [np.asfortranarray(array) for array in batch.arrays()],
        [np.ma.masked_array(array) for array in batch.arrays()],
        [array.astype(array.dtype.newbyteorder()) for array in batch.arrays()],
        frozen,
    ]
    compiled = len(legality_kernels.first_disorder.signatures)
    for arrays in variants:
        made = rebuilt(MappingBatch, arrays, batch)
        assert all(type(a) is np.ndarray and a.flags.carray for a in made.arrays())
        assert made == batch
        assert SPACE.canonical(made) == expected
        single = rebuilt(Mapping, [array[0] for array in arrays], batch)
        assert single == batch[0]
    assert len(legality_kernels.first_disorder.signatures) == compiled


@pytest.mark.parametrize("order", [[[0, 1, 2]], "abc", np.zeros((2, 3)), [[5, 6, 7]] * 3, [[0, 1]] * 3, None, 7])
def test_the_order_of_neighbours_is_a_permutation_for_each_level(order):
    mapping = SPACE.sample(rng(), 1)[0]
    if order is None:
        assert len(SPACE.neighbors(mapping, order))
        return
    with pytest.raises(SpecificationError, match=r"give a permutation of the dims for each level"):
        SPACE.neighbors(mapping, order)


@pytest.mark.parametrize("codes", [[[0.5]], [["a"]], [[2**70]], [[0], [0, 0]], None, [[None]]])
def test_codes_that_are_no_whole_numbers_are_refused(codes):
    with pytest.raises(SpecificationError, match=r"give rows of whole numbers|codes have shape"):
        SPACE.decode(codes)


@pytest.mark.parametrize("rows", [[-1], [2], [0, 5], [-(2**40)]])
def test_only_states_that_there_are_become_mappings(rows):
    construction = Construction(SPACE.definition)
    states = np.tile(construction.initial_state, (2, 1))
    assert len(construction.export(states, np.array([], np.int64))) == 0
    with pytest.raises(SpecificationError, match=r"there are 2 states"):
        construction.export(states, np.array(rows))
    with pytest.raises(SpecificationError, match=r"there are 2 states"):
        construction.export(states[:, :-1].copy(), np.array([0]))


@pytest.mark.parametrize("name", ["order", "spatial_order"])
@pytest.mark.parametrize("number", [-1, 7, 127])
def test_a_mapping_whose_orders_were_written_over_is_not_written_out(name, number):
    mapping = Mapping.trivial(workload("resnet18/conv1"), accelerator("tiny"))
    getattr(mapping, name)[0, 0] = number
    for write in (mapping.to_text, mapping.to_dict):
        with pytest.raises(SpecificationError, match=f"mapping array '{name}' has values out of range; give 0 to 6"):
            write()
