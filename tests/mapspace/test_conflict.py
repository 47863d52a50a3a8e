"""Why a space is empty: what is named excludes all mappings, and nothing of it can be left out."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings, strategies as st

from brute_force_spaces import toy_accelerator, toy_workload
from mapgym.errors import SpecificationError
from mapgym.mapspace import MapSpace
from mapgym.mapspace.conflict import find_conflict
from mapgym.mapspace.construction.construction import Construction
from mapgym.mapspace.definition import Definition
from mapgym.spec.accelerator import Accelerator
from mapgym.spec.constraints import Constraints
from mapgym.spec.levels import Mac, StorageLevel

AXES = ("tile", "order", "parallelism")
MACHINE = toy_accelerator(capacities=(5, None))
LAYER = toy_workload(4, 2, 2)


def conflict_of(constraints: Constraints, seconds: float = 60.0):
    return find_conflict(LAYER, MACHINE, AXES, constraints, None, seconds)


def test_a_capacity_and_the_factors_that_exceed_it():
    whole = {"temporal": "all"}
    constraints = Constraints(
        factors={"Registers": {"K": whole, "P": {"temporal": "<=2"}}, "Memory": {"R": whole}}, orders={"Memory": ["P"]}
    )
    # 4 weights, an input and 4 outputs.
    found = conflict_of(constraints)
    assert found.is_proven
    assert [item.text for item in found.items] == [
        "the capacity of 'Registers' (5 words)", "the temporal factor of 'K' at 'Registers' (all)"
    ]  # fmt: skip
    with pytest.raises(SpecificationError, match=r"must hold at least 9 words .*These exclude each other, .*of 'K'"):
        MapSpace(LAYER, MACHINE, AXES, constraints).sample(np.random.default_rng(0), 1)


def test_a_fan_out_and_the_factors_that_exceed_it():
    constraints = Constraints(factors={"Registers": {"K": {"spatial": 2}, "P": {"spatial": 2}, "R": {"temporal": 1}}})
    found = find_conflict(LAYER, toy_accelerator(capacities=(None, None)), AXES, constraints, None)
    assert found.is_proven
    assert [(item.kind, item.name) for item in found.items] == [("fan-out", ""), ("factors", "K"), ("factors", "P")]


def test_factors_that_do_not_go_together_are_found_when_the_space_is_made():
    factors = {level: {"R": {"temporal": 2}} for level in ("Registers", "Buffer")}
    with pytest.raises(
        SpecificationError, match=r"exclude each other.*'R' at 'Registers' \(2\).*'R' at 'Buffer' \(2\)"
    ):
        MapSpace(LAYER, MACHINE, AXES, Constraints(factors=factors))


def test_what_is_not_looked_at_in_time_is_said():
    factors = {level: {"R": {"temporal": 2}, "K": {"temporal": 1}} for level in ("Registers", "Buffer")}
    found = conflict_of(Constraints(factors=factors), seconds=0.0)
    assert not found.is_proven
    assert "not shown to be a smallest set" in found.text
    assert len(found.items) > 2


def test_an_unknown_name_is_no_conflict():
    with pytest.raises(SpecificationError) as error:
        MapSpace(
            LAYER, MACHINE, AXES, Constraints(orders={"Registers": ["X"]}, factors={"Buffer": {"R": {"temporal": 1}}})
        )
    assert "exclude" not in str(error.value)


limits = st.sampled_from((1, 2, "all", "<=1", ">=2"))
kinds = st.sampled_from(("temporal", "spatial", "spatial_x"))
tables = st.dictionaries(
    st.sampled_from(("Registers", "Buffer", "Memory")),
    st.dictionaries(st.sampled_from("KPR"), st.dictionaries(kinds, limits, min_size=1, max_size=2), max_size=3),
    max_size=3,
)


SMALL = toy_workload(2, 2, 2)


def machine(capacity: int | None, *fanouts: tuple[int, int]) -> Accelerator:
    """Three levels with these fan-outs, from the innermost outwards."""
    (x0, y0), (x1, y1), (x2, y2) = fanouts
    levels = (
        StorageLevel("Registers", capacity, x1 * x2, y1 * y2),
        StorageLevel("Buffer", None, x2, y2),
        StorageLevel("Memory"),
    )
    return Accelerator("machine", levels, Mac(mesh_x=x0 * x1 * x2, mesh_y=y0 * y1 * y2))


FANOUTS = (2, 1), (2, 2), (1, 1)


def has_mappings(constraints: Constraints, accelerator: Accelerator) -> bool:
    try:
        construction = Construction(Definition.of(SMALL, accelerator, AXES, constraints, None))
    except SpecificationError:
        return False
    # Elsewhere draws in vain prove nothing.
    assume(not construction.inexact)
    return True


@settings(max_examples=60, deadline=None)
@given(tables, st.sampled_from(({}, {"Registers": ["K"]})))
def test_nothing_that_is_named_can_be_left_out(factors, x):
    constraints = Constraints(factors=factors, parallel_x=x)
    if has_mappings(constraints, machine(3, *FANOUTS)):
        return
    found = find_conflict(SMALL, machine(3, *FANOUTS), AXES, constraints, None, 60.0)
    assume(found.is_proven)
    named = {(item.kind, item.level, item.name, item.part) for item in found.items}

    def is_possible(names: set[tuple[str, str, str, str]]) -> bool:
        """Whether there are mappings if nothing but these things restricts them."""
        kept = {
            level: {
                dim: {part: one for part, one in parts.items() if ("factors", level, dim, part) in names}
                for dim, parts in by_dim.items()
            }
            for level, by_dim in factors.items()
        }
        sides = x if ("parallel_x", "Registers", "", "") in names else {}
        fanouts = [
            fanout if ("fan-out", level, "", "") in names else (8, 8)
            for level, fanout in zip(("Registers", "Buffer", "Memory"), FANOUTS, strict=True)
        ]
        capacity = 3 if ("capacity", "Registers", "", "") in names else None
        return has_mappings(Constraints(factors=kept, parallel_x=sides), machine(capacity, *fanouts))

    assert not is_possible(named)
    for name in named:
        assert is_possible(named - {name})
