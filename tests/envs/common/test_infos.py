"""What environments say beside observations."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, strategies as st

from mapgym.envs import MapSpaceOneShotEnv, MapSpaceOneShotVectorEnv
from mapgym.envs.common.infos import NOTHING, Info, Infos, blank_infos
from mapgym.envs.common.inputs import require_columns
from mapgym.errors import SpecificationError

NAMES = ("latency", "energy", "gap")
BLANK = {"event": np.False_, **dict.fromkeys(NAMES, np.float64(NOTHING))}


@given(groups=st.lists(st.sets(st.integers(0, 5)), max_size=4))
def test_figures__are_said_of_some_environments_in_any_number_of_parts(groups: list[set[int]]) -> None:
    # Parts that are said together, when nothing has been said before, take another way than later ones.
    infos, blank = Infos(6, blank_infos(BLANK, 6)), blank_infos(BLANK, 6)
    expected = np.full((3, 6), float(NOTHING))
    happened = np.zeros(6, np.bool_)
    rng = np.random.default_rng(0)
    for group in groups:
        rows = np.array(sorted(group), np.int64)
        table = rng.random((3, len(rows)))
        infos.set_rows(NAMES, rows, table)
        infos.mark("event", rows)
        expected[:, rows], happened[rows] = table, True
    for name, values in zip(NAMES, expected, strict=True):
        assert np.array_equal(infos.data[name], values)
        assert (blank[name] == NOTHING).all()
    assert np.array_equal(infos.data["event"], happened)
    assert list(infos.data) == list(blank)


def test_figures__of_a_single_environment_are_numbers() -> None:
    info = Info(BLANK)
    info.set_rows(NAMES, np.zeros(0, np.int64), np.zeros((3, 0)))
    info.mark("event", np.zeros(0, np.int64))
    assert info.data == BLANK
    info.set_rows(NAMES, np.zeros(1, np.int64), np.array([[1.0], [2.0], [3.0]]))
    info.mark("event", np.zeros(1, np.int64))
    assert info.data == {"event": True, "latency": 1.0, "energy": 2.0, "gap": 3.0}
    assert {type(info.data[name]) for name in NAMES} == {np.float64}
    assert BLANK["event"] == np.False_


@pytest.mark.parametrize("outside", [-1, -(2**63), 2**63 - 1, 10**6])
@pytest.mark.parametrize("column", [0, 3, -1])
def test_columns__outside_are_refused_at_both_ends(outside: int, column: int) -> None:
    env = MapSpaceOneShotEnv()
    env.reset(seed=0)
    space = env.action_space
    edges = (np.zeros_like(space.nvec), space.nvec - 1)
    for edge in edges:
        require_columns(edge, space, "here")
        action = edge.copy()
        action[column] = outside
        with pytest.raises(SpecificationError, match=f"but {outside} in column {column % len(action)}"):
            env.step(action)
    # The episode has not been touched.
    assert not env.step(edges[1])[4]["budget_exhausted"]


def test_blank_infos__are_not_shared_between_steps() -> None:
    envs = MapSpaceOneShotVectorEnv(2)
    first = envs.reset(seed=0)[1]
    first["ratio"] = "overwritten"
    del first["gap"]
    second = envs.reset(seed=0)[1]
    assert (second["ratio"] == NOTHING).all()
    assert "gap" in second
