from __future__ import annotations

import numpy as np
import pytest

from mapgym.agents import make_agent
from mapgym.agents.search.dataflow.dataflow import best_mapping
from mapgym.agents.search.dataflow.filling import Variant, fill, fill_all
from mapgym.agents.search.dataflow.templates import DATAFLOWS, dim_roles, find_dataflow, tensor_roles
from mapgym.errors import SpecificationError
from mapgym.evaluation.evaluator import Budget, Evaluator
from mapgym.mapspace import MapSpace
from mapgym.spec import catalog
from mapgym.spec.accelerator import Accelerator
from mapgym.spec.constraints import Constraints
from mapgym.spec.levels import Mac, StorageLevel
from mapgym.spec.workload import Workload, conv2d, depthwise_conv2d, matmul, mttkrp
from places import DOCS

AXES = ("tile", "order", "parallelism", "bypass")
PLAIN = Variant(in_turn=False, outer_order="", holds=False, bypass=False)
WORKLOADS = [
    conv2d("conv", N=2, C=12, M=8, P=6, Q=5, R=3, S=3, stride=2),
    depthwise_conv2d("depthwise", N=1, C=16, P=7, Q=14, R=3, S=3),
    matmul("matmul", B=3, M=30, K=16, N=8),
    mttkrp("mttkrp", I=6, J=4, K=10, L=3),
]
CONV = conv2d("conv", N=2, C=8, M=8, P=4, Q=6, R=3, S=3)


@pytest.mark.parametrize(
    ("workload", "roles"),
    [(WORKLOADS[0], "NCPQRSM"), (WORKLOADS[1], "NGPQRS"), (WORKLOADS[2], "GNCM"), (WORKLOADS[3], "NMCC")],
    ids=lambda case: getattr(case, "name", ""),
)
def test_roles_of_dims(workload: Workload, roles: str) -> None:
    assert "".join(dim_roles(workload)) == roles


def test_the_largest_operand_is_the_inputs_where_none_is_called_so() -> None:
    assert tensor_roles(WORKLOADS[3]) == {"A": "I", "B": "W", "C": "W", "Outputs": "O"}


def test_templates_name_roles_once_and_order_all() -> None:
    for flow in DATAFLOWS.values():
        assert sorted(flow.order) == sorted("NGCMPQRS"), flow.name
        for roles in (flow.columns, flow.rows, flow.lanes, flow.element, flow.buffer):
            assert len(set(roles)) == len(roles), flow.name
            assert set(roles) <= set("NGCMPQRS"), flow.name


@pytest.mark.parametrize("workload", WORKLOADS, ids=lambda workload: workload.name)
@pytest.mark.parametrize("machine", ["tiny", "accel_b", "accel_b_2d", "eyeriss_like", "simba_like"])
@pytest.mark.parametrize("axes", [AXES, AXES[:3]], ids=["bypass", "keep all"])
def test_every_dataflow_gives_members_of_every_space(workload: Workload, machine: str, axes: tuple[str, ...]) -> None:
    accelerator = catalog.accelerator(machine)
    if any(level.keep_only for level in accelerator.levels) and workload.tensors[0].name != "Weights":
        pytest.skip("the accelerator's scratchpads are for other tensors")
    space = MapSpace(workload, accelerator, axes)
    for flow in DATAFLOWS.values():
        batch = fill_all(space, flow)
        assert len(batch)
        assert np.all(space.contains(batch))


def two_levels(**options: int) -> Accelerator:
    """A register file in each of 4 by 4 elements, a buffer, a memory."""
    return Accelerator(
        "flat",
        (
            StorageLevel("Registers", capacity_words=options.get("registers", 30), mesh_x=4, mesh_y=4),
            StorageLevel("Buffer", capacity_words=options.get("buffer", 400)),
            StorageLevel("Memory"),
        ),
        Mac(mesh_x=4, mesh_y=4),
    )


def test_weight_stationary_by_hand() -> None:
    """4 of C on Y, 4 of M on X; an element takes 3 x 3 weights, 9 inputs and 1 output: 19 of 30 words.

    Another factor 2 of C (18 + 18 + 1) or M (18 + 9 + 2 = 29) for the element: C does not fit, M does. The buffer
    then has 4 of C and all 8 of M: 288 weights; rows of 6 columns (4 * 3 * 8 = 96 inputs, 48 outputs) make 432 words,
    of 3 columns (60 inputs, 24 outputs) 372 of 400. Then no factor of P (4 * 4 * 5 + 48 = 128: 416) or N fits.
    """
    space = MapSpace(CONV, two_levels())
    text = fill(space, DATAFLOWS["weight-stationary"], PLAIN).to_text()
    assert text.splitlines() == [
        "Memory [Weights, Inputs, Outputs]",
        "  for C in 0..2",
        "    for N in 0..2",
        "      for P in 0..4",
        "        for Q in 0..2",
        "          Buffer [Weights, Inputs, Outputs]",
        "            for Q in 0..3",
        "              parallel-for C in 0..4 on Y",
        "                parallel-for M in 0..4 on X",
        "                  Registers [Weights, Inputs, Outputs]",
        "                    for M in 0..2",
        "                      for R in 0..3",
        "                        for S in 0..3",
        "                          multiply-accumulate",
    ]


def test_outer_loops_and_kept_tensors_follow_the_variant() -> None:
    space = MapSpace(CONV, two_levels(), AXES)
    mapping = fill(space, DATAFLOWS["weight-stationary"], Variant(False, "SRC", holds=False, bypass=False))
    assert mapping.temporal_loops(2)[0] == ("C", 2)
    mapping = fill(space, DATAFLOWS["weight-stationary"], Variant(False, "", holds=True, bypass=True))
    assert mapping.keep.tolist() == [[True, False, False], [True, True, True], [True, True, True]]
    mapping = fill(space, DATAFLOWS["tpu"], Variant(True, "", holds=False, bypass=True))
    assert mapping.keep.tolist() == [[True, True, True], [False, True, True], [True, True, True]]


def test_an_array_of_one_row_is_seen_as_a_square() -> None:
    space = MapSpace(catalog.workload("paper/resnet_conv4"), catalog.accelerator("accel_b"))
    mapping = fill(space, DATAFLOWS["nvdla"], PLAIN)
    assert mapping.spatial_sides(1) == ([("C", 16), ("M", 16)], [])
    assert mapping.spatial_sides(0) == ([("C", 4)], [])


def test_what_the_grid_leaves_idle_is_used() -> None:
    """5 input channels fill one row of 16 in a grid of 16 x 16; the output channels take what is left of it."""
    space = MapSpace(matmul("skinny", M=8, K=5, N=64), catalog.accelerator("accel_a"))
    mapping = fill(space, DATAFLOWS["nvdla"], PLAIN)
    assert int(mapping.batch().used_macs()[0]) == 5 * 32


def test_row_stationary_on_the_array_of_eyeriss() -> None:
    """Filter rows, folded over 4 input channels, on the 12 rows; all 14 output rows on the 14 columns."""
    space = MapSpace(catalog.workload("paper/resnet_conv4"), catalog.accelerator("eyeriss_rf"))
    x_loops, y_loops = fill(space, DATAFLOWS["eyeriss"], PLAIN).spatial_sides(1)
    assert (x_loops, sorted(y_loops)) == ([("P", 14)], [("C", 4), ("R", 3)])


def test_constraints_are_obeyed_and_impossible_ones_named() -> None:
    constraints = Constraints(factors={"Registers": {"C": {"temporal": 2}}}, orders={"Memory": ["Q", "M"]})
    space = MapSpace(CONV, two_levels(), constraints=constraints)
    assert all(np.all(space.contains(fill_all(space, flow))) for flow in DATAFLOWS.values())
    full = MapSpace(CONV, two_levels(), constraints=Constraints(min_utilization=1.0, parallel_dims=("M", "N", "C")))
    assert best_mapping(full, DATAFLOWS["weight-stationary"]).batch().used_macs()[0] == 16
    with pytest.raises(SpecificationError, match="follows the dataflow 'shidiannao'"):
        best_mapping(only_channels_parallel(full), DATAFLOWS["shidiannao"])


def only_channels_parallel(space: MapSpace) -> MapSpace:
    return MapSpace(
        space.workload, space.accelerator, constraints=Constraints(min_utilization=1.0, parallel_dims=("C", "M"))
    )


def test_one_arbitrary_mapping_where_no_dataflow_is_allowed() -> None:
    space = only_channels_parallel(MapSpace(CONV, two_levels()))
    evaluator = Evaluator(space, budget=Budget(samples=100))
    make_agent("dataflow", dataflow="shidiannao").search(evaluator, 0)
    assert (evaluator.samples, evaluator.best_mapping is not None) == (1, True)


def test_the_agent_prices_one_dataflow_or_all() -> None:
    space = MapSpace(CONV, two_levels())
    best = {}
    for name in ("all", *DATAFLOWS):
        evaluator = Evaluator(space, budget=Budget(samples=1000))
        make_agent("dataflow", dataflow=name).search(evaluator, 0)
        best[name] = evaluator.best_value
        assert evaluator.samples < 80
    assert best["all"] == min(best.values())
    assert len(set(best.values())) > 3


def test_unknown_names_are_answered_with_the_nearest() -> None:
    with pytest.raises(SpecificationError, match="did you mean 'eyeriss'"):
        find_dataflow("eyeris")
    with pytest.raises(SpecificationError, match="did you mean 'tpu'"):
        make_agent("dataflow", dataflow="tpuu")


def test_documentation_shows_the_table() -> None:
    page = (DOCS / "agents/dataflow.md").read_text()
    words = {"W": "weights", "I": "inputs", "O": "outputs", "WIO": "all", "": ""}
    for flow in DATAFLOWS.values():
        lists = [flow.columns, flow.rows, flow.lanes, flow.element, flow.order, flow.buffer]
        cells = [f"`{flow.name}`", *map(" ".join, lists), words[flow.holds], words[flow.bypass]]
        assert f"| {' | '.join(cells)} |".replace("|  |", "| |") in page
