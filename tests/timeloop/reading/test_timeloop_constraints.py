"""Timeloop's constraints: each form reads to the same, means what Timeloop means; what ours cannot say is refused."""

from __future__ import annotations

import functools
import math

import numpy as np
import pytest
import yaml
from hypothesis import given, settings, strategies as st

from brute_force_spaces import enumerate_structures, is_legal
from mapgym.errors import SpecificationError
from mapgym.mapping import Mapping, MappingBatch
from mapgym.mapspace import MapSpace
from mapgym.spec.accelerator import Accelerator
from mapgym.spec.constraints import Constraints
from mapgym.spec.levels import Mac, StorageLevel
from mapgym.spec.tensor import Tensor
from mapgym.spec.workload import Workload
from mapgym.timeloop.reading.constraint_lists import SECTIONS
from mapgym.timeloop.reading.constraints import ReadConstraints, read_timeloop_constraints
from mapgym.timeloop.reading.documents import read_text_document

LAYER = Workload(
    "layer",
    ("K", "P", "R"),
    (4, 2, 2),
    (
        Tensor("Weights", ((("K", 1),), (("R", 1),))),
        Tensor("Inputs", ((("P", 1), ("R", 1)),)),
        Tensor("Outputs", ((("K", 1),), (("P", 1),)), is_output=True),
    ),
)
MACHINE = Accelerator(
    "machine", (StorageLevel("RF", None, 2, 2), StorageLevel("Buf"), StorageLevel("DRAM")), Mac(mesh_x=2, mesh_y=2)
)
SPREAD = Accelerator(
    "spread",
    (StorageLevel("RF", None, 4, 2), StorageLevel("inter_PE_spatial", keep_only=()), StorageLevel("DRAM")),
    Mac(mesh_x=4, mesh_y=2),
)


def read(text: str, accelerator: Accelerator = MACHINE, workload: Workload = LAYER, **more) -> ReadConstraints:
    documents = read_text_document(text, "c.yaml")
    return read_timeloop_constraints(documents.every(*SECTIONS), workload, accelerator, **more)


def read_list(*targets: dict, accelerator: Accelerator = MACHINE, workload: Workload = LAYER) -> ReadConstraints:
    return read(yaml.safe_dump({"constraints": {"targets": list(targets)}}), accelerator, workload)


ONE = "{target: Buf, type: temporal, factors: K=2 P<=2 R>=2, permutation: RP}"


@pytest.mark.parametrize(
    "text",
    [
        f"mapspace: {{constraints: [{ONE}]}}",
        f"mapspace: {{constraints: mine, constraints_mine: [{ONE}], constraints_other: []}}",
        f"architecture_constraints: {{targets: [{ONE}]}}",
        f"mapspace_constraints: [{ONE}]",
        f"constraints: {{version: 0.4, targets: [{ONE}]}}",
        "constraints: [{target: 1, constraints: [{type: temporal, factors: [K=2, P<=2, R>=2], permutation: [R, P]}]}]",
        "constraints: [{target: Buf, type: Temporal, attributes: {factors: 'K2 P<=2 R>=2 # K=4', permutation: 'R,P'}}]",
        "architecture: {nodes: [{name: Buf, constraints: {temporal: {factors: K=2 P<=2 R>=2, permutation: [R, P]}}}]}",
    ],
)
def test_each_form_reads_to_the_same(text):
    found = read(text)
    factors = {"Buf": {dim: {"temporal": one} for dim, one in (("K", 2), ("P", "<=2"), ("R", ">=2"))}}
    assert found.constraints == Constraints(factors=factors, orders={"Buf": ["R", "P", "*"]})
    assert found.accelerator is MACHINE
    assert not found.ignored


def test_spatial_constraints_with_a_split():
    found = read_list({"target": "Buf", "type": "spatial", "factors": "R=1 K=0", "permutation": "RKP", "split": 2})
    assert found.constraints == Constraints(
        factors={"Buf": {"R": {"spatial": 1}, "K": {"spatial": "all"}}},
        spatial_orders={"Buf": ["R", "K", "P"]},
        parallel_x={"Buf": ["R", "K"]},
        parallel_y={"Buf": ["P"]},
    )


@pytest.mark.parametrize(
    ("permutation", "split", "on_x"),
    [("K", 0, []), ("K", 999, ["K", "P", "R"]), ("KP", 1, ["K"]), ("K_P", 2, ["K", "R"]), (None, 0, [])],
)
def test_what_lies_before_a_split_is_on_x(permutation, split, on_x):
    found = read_list({"target": "Buf", "type": "spatial", "permutation": permutation, "split": split})
    assert sorted(found.constraints.parallel_x["Buf"]) == on_x
    assert sorted(found.constraints.parallel_y["Buf"]) == sorted({"K", "P", "R"} - set(on_x))


def test_dims_that_the_workload_does_not_have_count_for_the_split():
    found = read_list({"target": "Buf", "type": "spatial", "factors": "N=1", "permutation": "NKPR", "split": 2})
    assert found.constraints.parallel_x == {"Buf": ("K",)}
    assert [(entry.file, entry.why) for entry in found.ignored] == [("c.yaml", "the workload has no such dim")] * 2


def test_kept_tensors_and_words_for_them():
    found = read_list(
        {"target": "RF", "type": "bypass", "keep": ["Weights"], "bypass": ["Inputs", "Outputs"]},
        {"target": "Buf", "type": "dataspace", "keep_only": ["Outputs"]},
        {"target": "DRAM", "type": "datatype", "keep": ["*"]},
    )
    assert found.constraints.keep == {
        "RF": ("Weights",), "Buf": ("Outputs",), "DRAM": ("Weights", "Inputs", "Outputs")
    }  # fmt: skip
    assert found.constraints.bypass == {"RF": ("Inputs", "Outputs"), "Buf": ("Weights", "Inputs")}


def test_short_words_of_factors():
    found = read_list(
        {"target": "RF", "type": "temporal", "factors_only": ["K=2", "R=-1"]},
        {"target": "Buf", "type": "temporal", "no_iteration_over_dataspaces": ["Inputs"]},
        {"target": "DRAM", "type": "temporal", "must_iterate_over_dataspaces": ["Inputs"]},
    )
    one = {"temporal": 1}
    assert found.constraints.factors == {
        "RF": {"K": {"temporal": 2}, "P": one}, "Buf": {"P": one, "R": one}, "DRAM": {"K": one}
    }  # fmt: skip


def test_what_is_a_property_of_the_hardware_changes_it():
    found = read_list(
        {"target": "RF", "type": "temporal", "no_reuse": ["Inputs"]},
        {"target": "Buf", "type": "spatial", "no_multicast_no_reduction": ["Weights"], "no_link_transfer": ["*"]},
    )
    inner, buffer, _ = found.accelerator.levels
    assert inner.no_temporal_reuse == ("Inputs",)
    assert buffer.no_multicast == ("Weights",)
    assert not found.accelerator.peer_links
    assert found.constraints == Constraints()


def test_constraints_inside_nodes_are_about_the_copies_of_a_node():
    text = """
architecture:
  nodes:
  - !Container {name: system, constraints: {spatial: {factors: [K=1]}}}
  - !Component {name: DRAM, class: DRAM, constraints: {temporal: {factors: [R=1]}}}
  - !Container {name: 'PE[0..1]', spatial: {meshX: 1}, constraints: {spatial: {factors: [P=1], split: 999}}}
  - !Parallel {nodes: [!Component {name: RF, class: regfile, constraints: {dataspace: {keep: [Inputs]}}}]}
"""
    found = read(text, SPREAD)
    assert found.constraints == Constraints(
        factors={"DRAM": {"R": {"temporal": 1}}, "inter_PE_spatial": {"P": {"spatial": 1}}},
        parallel_x={"inter_PE_spatial": ["K", "P", "R"]},
        parallel_y={"inter_PE_spatial": []},
        keep={"RF": ["Inputs"]},
    )
    assert ["system" in entry.key for entry in found.ignored] == [True]


def test_a_factor_beyond_the_bound_is_left_free_and_named():
    found = read_list({"target": "RF", "type": "temporal", "factors": "K=16 R=2"})
    assert found.constraints.factors == {"RF": {"R": {"temporal": 2}}}
    assert "K=16" in found.ignored[0].key


def test_dims_of_other_layers_are_left_out():
    text = "constraints: [{target: RF, type: temporal, factors: G=3 K=2, permutation: GK}]"
    assert read(text, other_dims=("G",)).ignored == []
    with pytest.raises(SpecificationError, match="has no dim 'G'"):
        read(text)


@pytest.mark.parametrize(
    ("bounds", "capacity", "factors"), [((4, 6), 8, (4, 2)), ((5, 3), 4, (1, 3)), ((64, 64), 8, (8, 1)), ((), 4, ())]
)
def test_maximised_dims_take_the_largest_product(bounds, capacity, factors):
    dims = tuple("KP"[: len(bounds)])
    tensors = (Tensor("A", tuple(((dim, 1),) for dim in ("K", "P"))), Tensor("Z", ((("K", 1),),), is_output=True))
    workload = Workload("w", ("K", "P"), (*bounds, 1, 1)[:2], tensors)
    machine = Accelerator("m", (StorageLevel("RF"), StorageLevel("DRAM")), Mac(mesh_x=capacity))
    found = read_list(
        {"target": "RF", "type": "spatial", "maximize_dims": [list(dims)]}, accelerator=machine, workload=workload
    )
    given = {dim: {"spatial": factor} for dim, factor in zip(dims, factors, strict=True)}
    assert found.constraints.factors == ({"RF": given} if given else {})


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ({"target": "Bf", "type": "temporal"}, "level 'Bf' is not in accelerator 'machine'; did you mean 'Buf'"),
        ({"target": "Buf", "type": "tempral"}, "did you mean 'temporal'"),
        ({"target": "Buf", "type": "temporal", "factors": "X=2"}, "no dim 'X'"),
        ({"target": "Buf", "type": "temporal", "factors": "K<2"}, "write such as 'R=3 S<=4 C>=2'"),
        ({"target": "Buf", "type": "temporal", "factors": "K=2 K=4"}, "'K' is given twice"),
        ({"target": "Buf", "type": "temporal", "permutation": "KK"}, "names a dim twice"),
        ({"target": "Buf", "type": "temporal", "permutation": "XY"}, "none of these dims"),
        ({"target": "Buf", "type": "temporal", "remainders": 2}, "remainders is 2, and our mappings have perfect"),
        ({"target": "Buf", "type": "temporal", "rmw_first_update": ["Outputs"]}, "rmw_first_update"),
        ({"target": "Buf", "type": "spatial", "split": "K"}, "split is 'K'"),
        ({"target": "Buf", "type": "spatial", "permutation": "K", "split": 2}, "falls among the dims"),
        ({"target": "Buf", "type": "spatial", "no_link_transfer": ["Inputs"]}, "all links are there or none"),
        ({"target": "Buf", "type": "bypass", "keep": ["Wieghts"]}, "did you mean 'Weights'"),
        ({"target": "Buf", "type": "bypass", "keep": ["Inputs"], "bypass": ["Inputs"]}, "kept and bypassed"),
        ({"target": "DRAM", "type": "bypass", "bypass": ["Inputs"]}, "outermost level"),
        ({"target": "RF", "type": "utilization", "min": 2}, "least share of the MACs"),
        ({"target": "RF", "type": "max_overbooked_proportion", "proportion": 0.1}, "may not exceed a capacity"),
    ],
)
def test_what_cannot_be_is_refused_in_one_sentence(target, message):
    with pytest.raises(SpecificationError, match=message) as error:
        read_list(target)
    assert str(error.value).startswith("c.yaml: constraints: targets 1, ")


def test_contradicting_constraints_are_refused():
    first, second = ({"target": "Buf", "type": "temporal", "factors": f"K={number}"} for number in (2, 4))
    with pytest.raises(SpecificationError, match=r"targets 2, .*another constraint says =2"):
        read_list(first, second)
    orders = ({"target": "Buf", "type": "temporal", "permutation": order} for order in ("KP", "PK"))
    with pytest.raises(SpecificationError, match="another permutation"):
        read_list(*orders)


@functools.cache
def everything() -> tuple[MappingBatch, list[bool]]:
    batch = enumerate_structures(LAYER, MACHINE, ("tile", "order", "parallelism"))
    return batch, [is_legal(LAYER, MACHINE, mapping) for mapping in batch]


def follows(mapping: Mapping, constraint: dict) -> bool:
    """Whether a mapping obeys one temporal or spatial constraint, by a plain reading of Timeloop's words."""
    s = MACHINE.level_index(constraint["target"])
    x, y = mapping.spatial_sides(s)
    is_temporal = constraint["type"] == "temporal"
    loops = [mapping.temporal_loops(s)] if is_temporal else [x, y]
    for factor in constraint["factors"].split():
        dim, sign, number = factor[0], factor[1:-1], int(factor[-1])
        wanted = number or LAYER.bound(dim)
        is_now = math.prod(loop for side in loops for name, loop in dict(side).items() if name == dim)
        if not {"=": is_now == wanted, "<=": is_now <= wanted, ">=": is_now >= wanted}[sign]:
            return False
    named = constraint["permutation"]
    for side in loops:
        places = [named.index(dim) if dim in named else len(named) for dim, _ in side]
        if places != sorted(places):
            return False
    split = constraint.get("split")
    if not is_temporal and split is not None:
        place = {dim: named.index(dim) for dim in named}
        return all(place[dim] < split for dim in dict(x)) and all(place[dim] >= split for dim in dict(y))
    return True


factor_words = st.tuples(st.sampled_from("KPR"), st.sampled_from(["=1", "=2", "=0", "<=2", ">=2", "<=1"])).map("".join)
one_constraint = st.fixed_dictionaries(
    {
        "target": st.sampled_from(MACHINE.level_names),
        "type": st.sampled_from(["temporal", "spatial"]),
        "factors": st.lists(factor_words, max_size=2, unique_by=lambda word: word[0]).map(" ".join),
        "permutation": st.permutations("KPR").map("".join),
        "split": st.none() | st.integers(0, 3),
    }
)


@settings(max_examples=60, deadline=None)
@given(st.lists(one_constraint, max_size=3, unique_by=lambda one: (one["target"], one["type"])))
def test_the_space_is_what_a_plain_reading_says(targets):
    for target in targets:
        if target["type"] == "temporal":
            target.pop("split")
    batch, is_legal_now = everything()
    expected = [
        legal and all(follows(mapping, target) for target in targets)
        for mapping, legal in zip(batch, is_legal_now, strict=True)
    ]
    found = read_list(*targets)
    try:
        space = MapSpace(LAYER, found.accelerator, constraints=found.constraints)
    except SpecificationError:
        assert not any(expected)
        return
    np.testing.assert_array_equal(space.contains(batch), expected)
