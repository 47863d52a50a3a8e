"""The named dataflows, as a table.

A template speaks of dims by the letters that they have in a convolution, which stand for roles here, so that it fits
any workload (:func:`dim_roles` finds the role of each dim):

    N  batch: in inputs and outputs          M  output channels: in outputs, not in inputs
    P  output rows, sliding over the inputs  C  input channels: reduced, not sliding
    Q  output columns, likewise              R  filter rows, reduced, sliding with P
    G  groups: in all three tensors          S  filter columns, reduced, sliding with Q

The channels of a depthwise convolution and the batch of a batched matrix product are groups; the rows, reduction and
columns of a matrix product are N, C and M.
"""

from __future__ import annotations

from dataclasses import dataclass

from mapgym.errors import SpecificationError, suggest
from mapgym.errors.text import quoted
from mapgym.spec.workload import Workload


@dataclass(frozen=True)
class Dataflow:
    """What a dataflow fixes. Lists of roles are in order of precedence; roles left out are never used there.

    Attributes:
        name: what people call it.
        summary: one line for lists.
        columns: what lies along the X side of the array.
        rows: what lies along the Y side of the array. An array that is one row is seen as the most square grid.
        lanes: what lies along the multipliers inside a processing element.
        element: what the buffers of a processing element are filled with.
        order: the loops around a processing element, innermost first; they decide which tensor stays there.
        buffer: what the shared buffers are filled with.
        holds: which of W (weights), I (inputs) and O (outputs) a processing element stores, if that can be chosen.
        bypass: which of them skip the shared buffers, if that can be chosen.
    """

    name: str
    summary: str
    columns: str
    rows: str
    lanes: str
    element: str
    order: str
    buffer: str
    holds: str
    bypass: str = ""


DATAFLOWS = {
    dataflow.name: dataflow
    for dataflow in (
        Dataflow(
            "weight-stationary",
            "weights stay in the elements while positions stream past",
            columns="MG", rows="CRS", lanes="CM", element="SRCMG", order="QPNSRCMG", buffer="QPNSRCMG",
            holds="W",
        ),
        Dataflow(
            "output-stationary",
            "partial sums stay in the elements until they are complete",
            columns="MGN", rows="PQN", lanes="CM", element="QPMNG", order="SRCQPMNG", buffer="SRCQPMNG",
            holds="O",
        ),
        Dataflow(
            "input-stationary",
            "inputs stay in the elements while output channels stream past",
            columns="PQN", rows="CG", lanes="CQ", element="QPNCG", order="MSRQPNCG", buffer="MSRQPNCG",
            holds="I",
        ),
        Dataflow(
            "row-stationary",
            "an element convolves a filter row with an input row",
            columns="PN", rows="RC", lanes="CM", element="SCM", order="QNPMCRSG", buffer="QPMCRSNG",
            holds="WIO",
        ),
        Dataflow(
            "nvdla",
            "NVDLA-like: input times output channels, weights stay for a stripe of positions",
            columns="MG", rows="CG", lanes="C", element="SRCMG", order="QPSRCNMG", buffer="QPSRCNMG",
            holds="W",
        ),
        Dataflow(
            "tpu",
            "TPU-like: a systolic array of reduction times output channels, weights preloaded",
            columns="MG", rows="CRSG", lanes="CM", element="CSRMG", order="QPNCSRMG", buffer="NQPCSRMG",
            holds="W", bypass="W",
        ),
        Dataflow(
            "shidiannao",
            "ShiDianNao-like: the array holds a patch of an output map, one output in each element",
            columns="QN", rows="PM", lanes="CM", element="SRC", order="SRCMQPNG", buffer="SRCQPMNG",
            holds="O",
        ),
        Dataflow(
            "eyeriss",
            "Eyeriss-like: row-stationary, folded over channels, weights skip the global buffer",
            columns="PMNG", rows="RCMG", lanes="CM", element="SCM", order="QNMCRSPG", buffer="QPNCRSMG",
            holds="WIO", bypass="W",
        ),
    )
}  # fmt: skip
"""The dataflows by name."""


def find_dataflow(name: str) -> Dataflow:
    """The dataflow of a name; raises SpecificationError for an unknown one."""
    if name not in DATAFLOWS:
        raise SpecificationError(f"unknown dataflow {quoted(name)}; {suggest(name, DATAFLOWS)}")
    return DATAFLOWS[name]


def tensor_roles(workload: Workload) -> dict[str, str]:
    """Tensor name -> W, I or O.

    Operands called Weights and Inputs are what they say. Otherwise the largest operand is the inputs, and all others
    are weights.
    """
    operands = [tensor.name for tensor in workload.tensors if not tensor.is_output]
    inputs = "Inputs" if "Inputs" in operands else max(operands, key=workload.tensor_size, default="")
    return {**{name: "I" if name == inputs else "W" for name in operands}, workload.output.name: "O"}


def dim_roles(workload: Workload) -> tuple[str, ...]:
    """The role of each dim, one letter each."""
    kinds = tensor_roles(workload)
    inside = {
        kind: {dim for tensor in workload.tensors if kinds[tensor.name] == kind for dim in tensor.dims}
        for kind in "WIO"
    }
    # Windows in the order in which the output lists their positions: rows first, then columns.
    windows = sorted(
        (
            [dim for dim, _ in rank]
            for tensor in workload.tensors
            if kinds[tensor.name] == "I"
            for rank in tensor.ranks
            if len(rank) > 1
        ),
        key=lambda dims: min((workload.output.dims.index(dim) for dim in dims if dim in inside["O"]), default=0),
    )
    sliding = {dim: min(place, 1) for place, dims in enumerate(windows) for dim in dims}
    roles = []
    for dim in workload.dims:
        if dim not in inside["O"]:
            roles.append("RS"[sliding[dim]] if dim in sliding else "C")
        elif dim not in inside["I"]:
            roles.append("M")
        elif dim in inside["W"]:
            roles.append("G")
        else:
            roles.append("PQ"[sliding[dim]] if dim in sliding else "N")
    return tuple(roles)
