"""What a derivation says in words and numbers is what the kernel counts."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given

from mapgym.cost import CostModel
from mapgym.cost.derivation import Derivation, Line, derive
from mapgym.errors import SpecificationError
from mapgym.mapping import Mapping
from mapgym.spec.accelerator import Accelerator
from mapgym.spec.levels import Mac, StorageLevel
from mapgym.spec.workload import Workload, conv2d
from random_cases import Case, cases

NUMBER = r"-?[\d,]+(?:\.\d+)?(?:e[+-]?\d+)?"
ARITHMETIC = re.compile(rf"[-+x/() ]*(?:(?:ceil\()?{NUMBER}[-+x/() ]*)+\Z")


def computed(arithmetic: str) -> float:
    """The value of what a line says; only digits and signs are left by the pattern."""
    assert ARITHMETIC.match(arithmetic), arithmetic
    ceil = re.sub(r"ceil\(([\d,]+) / (\d+)\)", r"-(-(\1) // \2)", arithmetic)
    python = ceil.replace(",", "").replace(" x ", " * ")
    return float(eval(python))


def cells(case: Case):
    """The derivation of each cell of each legal mapping, with the kernel's counts."""
    costs = CostModel(case.workload, case.accelerator).evaluate(case.batch, detail=True)
    for i in range(len(case.batch)):
        if costs.legal[i]:
            mapping, cost = case.batch[i], costs[i]
            for s, t in zip(*np.nonzero(mapping.keep), strict=True):
                place = (mapping.levels[s], mapping.tensors[t])
                yield derive(case.workload, case.accelerator, mapping, cost, *place), cost.detail, (s, t)


@given(case=cases(4))
def test_derived_counts_are_those_of_the_kernel(case: Case) -> None:
    for derivation, detail, place in cells(case):
        for name in ("reads", "fills", "updates"):
            assert getattr(derivation, name) == getattr(detail, name)[place], derivation
        assert derivation.energy_pj == pytest.approx(detail.energy_pj[place], rel=1e-12)


@given(case=cases(2))
def test_the_arithmetic_of_each_line_gives_its_value(case: Case) -> None:
    for derivation, _, _ in cells(case):
        for _, lines in derivation.sections:
            run: list[float] = []
            for line in lines:
                if line.what == "first tile":
                    run = []
                if line.arithmetic in ("the sum", "the rest"):
                    assert line.value == sum(run), lines
                    run = []
                else:
                    run.append(line.value)
                    if line.arithmetic != "words that updates cover":
                        check(line)


def check(line: Line) -> None:
    value = computed(line.arithmetic)
    if "pJ" in line.what:
        # Energies are printed with six digits.
        assert value == pytest.approx(line.value, rel=1e-4)
    elif line.what.startswith(("reads: one", "fills: what comes from outside, but nothing")):
        assert line.value == pytest.approx(max(value, 0.0), abs=0.51, rel=1e-5)
    elif line.what.startswith(("reads", "fills")):
        assert line.value == pytest.approx(value, abs=1.0, rel=1e-5)
    elif line.what.startswith("first writes"):
        assert value - 1.0 * line.arithmetic.count("/") <= line.value <= value
    else:
        assert value == pytest.approx(line.value, rel=1e-5)


@pytest.fixture
def small() -> tuple[Workload, Accelerator, Mapping]:
    """A row of 6 outputs with a filter of 3 words: two instances of Buf, each of three outputs."""
    workload = conv2d(C=1, M=1, P=6, Q=1, R=3, S=1)
    levels = (StorageLevel("Buf", 16, mesh_x=2), StorageLevel("DRAM", access_energy_pj=10.0))
    accelerator = Accelerator("two", levels, Mac(mesh_x=2), peer_links=False)
    data = {
        "levels": [
            {"level": "DRAM", "temporal": {"P": 3}, "spatial_x": {"P": 2}},
            {"level": "Buf", "temporal": {"R": 3}},
        ]
    }
    return workload, accelerator, Mapping.from_dict(data, workload, accelerator)


def derived(task: tuple[Workload, Accelerator, Mapping], level: str, tensor: str) -> Derivation:
    workload, accelerator, mapping = task
    cost = CostModel(workload, accelerator).evaluate(mapping, detail=True)
    return derive(workload, accelerator, mapping, cost, level, tensor)


def test_a_halo_by_hand(small: tuple[Workload, Accelerator, Mapping]) -> None:
    # A tile of 3 inputs; each of two more steps moves it by 2 (two instances share an iteration), so that 1 stays.
    derivation = derived(small, "DRAM", "Inputs")
    lines = {line.what: line.value for _, lines in derivation.sections for line in lines}
    assert lines["first tile"] == 3
    assert lines["DRAM: for P in 0..3, moves the tile by +2, 1 of its words stay"] == 4
    assert lines["words for one instance of Buf over the run"] == 7
    assert derivation.reads == 14
    assert derivation.fills == 0
    assert derivation.energy_pj == 140.0


def test_multicast_and_reuse_by_hand(small: tuple[Workload, Accelerator, Mapping]) -> None:
    derivation = derived(small, "DRAM", "Weights")
    texts = [line.what for _, lines in derivation.sections for line in lines]
    assert any("leaves the tile where it is" in text for text in texts)
    assert any("need the same tile: one access serves all" in text for text in texts)
    assert derivation.reads == 3


def test_a_cell_that_is_not_there_is_refused_with_what_is(small: tuple[Workload, Accelerator, Mapping]) -> None:
    small[2].keep[0, 0] = False
    with pytest.raises(SpecificationError, match=r"'Buf' does not keep 'Weights'.*'DRAM'"):
        derived(small, "Buf", "Weights")
    with pytest.raises(SpecificationError, match="no storage level 'Buff'"):
        derived(small, "Buff", "Weights")
    with pytest.raises(SpecificationError, match="no tensor 'weights'"):
        derived(small, "Buf", "weights")
