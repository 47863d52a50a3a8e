"""Constraints: their plain form, what they do to a map space, and answers to impossible ones."""

from __future__ import annotations

import numpy as np
import pytest
import yaml

from brute_force_spaces import toy_accelerator, toy_workload
from mapgym.errors import SpecificationError
from mapgym.mapping import Mapping
from mapgym.mapspace import MapSpace, space as mapspace
from mapgym.spec.constraints import Constraints

TEXT = """
factors:
  Registers: {K: {spatial: 2, temporal: 1}}
  Memory: {P: {temporal: 3}}
orders:
  Memory: [R, P]
parallel_dims: {Buffer: [P, R]}
min_utilization: 0.25
"""


def space(constraints, axes=("tile", "order", "parallelism"), base=None, **accelerator) -> MapSpace:
    return MapSpace(toy_workload(), toy_accelerator(**accelerator), axes, constraints, base)


def test_constraints_can_be_written_in_yaml():
    constraints = Constraints.from_dict(yaml.safe_load(TEXT))
    assert constraints.factors["Memory"] == {"P": {"temporal": 3}}
    assert constraints.orders == {"Memory": ("R", "P")}
    assert constraints.may_be_parallel("Buffer", "P")
    assert not constraints.may_be_parallel("Buffer", "K")
    assert constraints.may_be_parallel("Registers", "K")
    assert Constraints.from_dict(constraints.to_dict()) == constraints
    assert hash(Constraints.from_dict(constraints.to_dict())) == hash(constraints)
    assert Constraints.from_dict({}) == Constraints()
    assert Constraints.from_dict({"parallel_dims": None}) == Constraints()


def test_samples_satisfy_all_constraints_at_once():
    limited = space(yaml.safe_load(TEXT))
    batch = limited.sample(np.random.default_rng(0), 300)
    assert len(batch) == 300
    assert limited.contains(batch).all()
    assert (batch.spatial[:, 0, 0] == 2).all()
    assert (batch.temporal[:, 0, 0] == 1).all()
    assert (batch.temporal[:, 2, 1] == 3).all()
    assert (batch.spatial[:, 1, 0] == 1).all()
    assert (batch.used_macs() >= 2).all()  # a quarter of 8
    for mapping in batch:
        named = [dim for dim, _ in mapping.temporal_loops(2) if dim != "K"]
        assert named == [dim for dim in ("R", "P") if dim in named]
        assert mapping.temporal_loops(2)[-1][0] == "K" or "K" not in dict(mapping.temporal_loops(2))


def test_a_fixed_order_holds_even_where_orders_are_not_searched():
    limited = space({"orders": {"Memory": ["R", "P", "K"]}}, ("tile",))
    batch = limited.sample(np.random.default_rng(0), 50)
    for mapping in batch:
        dims = [dim for dim, _ in mapping.temporal_loops(2)]
        assert dims == [dim for dim in "RPK" if dim in dims]


def test_minimum_utilization_is_a_share_of_the_macs():
    batch = space({"min_utilization": 1.0}).sample(np.random.default_rng(0), 100)
    assert (batch.used_macs() == 8).all()
    one_short = space({"min_utilization": 0.75}).sample(np.random.default_rng(0), 200)
    assert set(one_short.used_macs()) <= {6, 8}


def test_a_share_that_float64_cannot_hold_does_not_ask_for_one_more():
    limited = space({"min_utilization": 0.7}, inner=(10, 1), outer=(1, 1))
    assert limited.entries.min_used_macs == 7


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([], "give a mapping with keys"),
        ({"factor": {}}, "unknown key 'factor'; did you mean 'factors'"),
        ({"factors": {"Registers": {"K": {"space": 2}}}}, "unknown key 'space'"),
        ({"factors": {"Registers": {"K": 2}}}, "dim 'K' is 2; give a mapping"),
        ({"factors": {"Registers": {"K": {"spatial": 0}}}}, "spatial is 0; give a whole number of at least 1"),
        ({"factors": {"Registers": {"K": {"spatial": 1.5}}}}, "spatial is 1.5"),
        ({"factors": [1]}, "give a mapping of names"),
        ({"orders": {"Memory": "KPR"}}, "orders of 'Memory' is 'KPR'; give a list of dims"),
        ({"orders": {"Memory": ["K", "K"]}}, "names a dim twice"),
        ({"parallel_dims": "K"}, "parallel_dims is 'K'; give a list of dims"),
        ({"min_utilization": 1.5}, "min_utilization is 1.5; give a number from 0 to 1"),
        ({"min_utilization": float("nan")}, "min_utilization is nan"),
        ({"min_utilization": True}, "min_utilization is True"),
    ],
)
def test_malformed_constraints_are_answered(data, message):
    with pytest.raises(SpecificationError, match=message) as caught:
        Constraints.from_dict(data, "limits.yaml")
    assert str(caught.value).startswith("limits.yaml")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"factors": {"Register": {}}}, "level 'Register', .* did you mean 'Registers'"),
        ({"factors": {"Registers": {"Q": {}}}}, "names the dim 'Q'"),
        ({"orders": {"Memory": ["Q"]}}, "orders of 'Memory' names the dim 'Q'"),
        ({"parallel_dims": ["Q"]}, "parallel_dims names the dim 'Q'"),
        ({"parallel_dims": {"Buffer": ["Q"]}}, "parallel_dims of 'Buffer' names the dim 'Q'"),
        ({"factors": {"Registers": {"K": {"temporal": 3}}}}, "cannot be completed to the bound 4"),
        (
            {"factors": {"Registers": {"K": {"temporal": 4}}, "Buffer": {"K": {"temporal": 2}}}},
            "the product 8 of its fixed factors cannot be completed to the bound 4",
        ),
        ({"factors": {"Registers": {"K": {"spatial": 4}}}}, "exceeds the fan-out of 2 x 1"),
        ({"factors": {"Memory": {"K": {"spatial": 2}}}}, "level has no fan-out or parallel_dims excludes"),
        (
            {"parallel_dims": ["P"], "factors": {"Registers": {"K": {"spatial": 2}}}},
            "level has no fan-out or parallel_dims excludes",
        ),
        (
            {"parallel_dims": ["R"], "min_utilization": 0.5},
            "needs 4 of the 8 MACs of 'toy', but no mapping uses more than 2",
        ),
    ],
)
def test_impossible_constraints_are_found_at_once(data, message):
    with pytest.raises(SpecificationError, match=message):
        space(data)


def test_constraints_against_the_base_are_found_at_once():
    with pytest.raises(SpecificationError, match="the axis is not searched and the base mapping has another factor"):
        space({"factors": {"Registers": {"K": {"spatial": 2}}}}, ("tile", "order"))
    base = Mapping.trivial(toy_workload(), toy_accelerator())
    base.spatial[0, 0] = base.temporal[2, 0] = 2
    base.spatial_split[0] = 3
    with pytest.raises(SpecificationError, match="search the parallelism axis or change the base"):
        space({"parallel_dims": ["P"]}, ("tile",), base)


def test_constraints_that_only_a_search_finds_empty_say_what_to_loosen(monkeypatch):
    # Each axis of the outer mesh could be filled, but not within a capacity of three words.
    limited = space({"min_utilization": 1.0}, capacities=(3, 3))
    monkeypatch.setattr(mapspace, "_MAX_DRAWS", 20_000)
    with pytest.raises(SpecificationError, match=r"in 20000 draws .* loosen min_utilization"):
        limited.sample(np.random.default_rng(0), 1)
