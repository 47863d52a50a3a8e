"""From memories and arrays between them to levels with meshes."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, strategies as st

from mapgym.errors import SpecificationError
from mapgym.interop.nesting import Fanout, nest
from mapgym.spec.levels import Mac, StorageLevel


def test_an_array_of_three_axes_has_a_dummy_level():
    parts = [StorageLevel("Off"), Fanout("a", 2), Fanout("b", 3), Fanout("c", 5), StorageLevel("In"), Fanout("d", 7)]
    machine = nest("three", parts, Mac())
    assert [(level.name, level.mesh_x, level.mesh_y, level.keep_only) for level in machine.levels] == [
        ("In", 10, 3, None),
        ("c array", 2, 3, ()),
        ("Off", 1, 1, None),
    ]
    assert (machine.mac.mesh_x, machine.mac.mesh_y) == (70, 3)
    assert not machine.peer_links


@given(st.lists(st.one_of(st.integers(1, 3), st.none()), max_size=11))
def test_each_axis_keeps_its_own_fan_out(row):
    """None is a memory, a number an axis of an array."""
    parts = [StorageLevel("outermost")]
    parts += [StorageLevel(f"m{i}") if each is None else Fanout(f"f{i}", each) for i, each in enumerate(row)]
    machine = nest("row", parts, Mac())
    assert machine.mac.instances == math.prod(each for each in row if each is not None)
    for i, each in enumerate(row):
        if each is None:
            outside = math.prod(size for size in row[:i] if size is not None)
            assert machine.levels[machine.level_index(f"m{i}")].instances == outside
    # No two axes share a side of a level.
    sides = sorted(fanout for fanout in (*machine.fanout_x, *machine.fanout_y) if fanout > 1)
    assert sides == sorted(each for each in row if each is not None and each > 1)


def test_too_many_levels():
    with pytest.raises(SpecificationError, match="13 storage levels"):
        nest("deep", [StorageLevel(f"m{i}") for i in range(13)], Mac())
