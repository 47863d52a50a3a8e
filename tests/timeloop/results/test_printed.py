"""What is printed: numbers with their digits, statistics by hand, energies and architectures of other versions."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from mapgym.errors import SpecificationError
from mapgym.timeloop.results.attributes import read_attributes
from mapgym.timeloop.results.printed import read_optional, read_printed
from mapgym.timeloop.results.stats import parse_stats

TEXT = """Buffer and Arithmetic Levels
----------------------------
Level 0
-------
=== MAC ===

    SPECS
    -----
    Word bits             : 8
    Instances             : 1 (1*1)

    STATS
    -----
    Cycles                       : 12
    Energy (total)               : 9.00 pJ

Level 1
-------
=== Some Buffer ===

    SPECS
    -----
        Size                 : 16

    MAPPING
    -------
    Loop nest:
      for K in [0:3)
        for M in [0:4) (Spatial-X)

    STATS
    -----
    Cycles               : 12
    T: 1:
        Scalar reads (per-instance)              : 7
        Actual scalar format reads (per-instance)
            Rank 1 (metadata, payload): (0,  36)
            Rank 0 (metadata, payload): (188,  0)

Networks
--------
Network 0
---------
Some Buffer <==> MAC

    SPECS
    -----
        Legacy sub-type :

    STATS
    -----
    T: 1:
        Ingresses                               : 21.00
            @multicast 1 @scatter 1: 21.00

Total topology energy: 9.00 pJ

Operational Intensity Stats
---------------------------
    Total ops : 24

=== Some Buffer ===
    Op per Byte : 1.00
=== Hidden ===

Summary Stats
-------------
Utilization: 6.25%
Cycles: 12
EDP(J*cycle): 1.12e+04

Computes = 12
fJ/Compute
    MAC                   = 750.00
    Some Buffer <==> MAC  = 0.00
    Total                 = 750.00
"""


def test_statistics_by_hand():
    stats = parse_stats(TEXT, Path("a.stats.txt"))
    assert stats.mac.name == "MAC"
    assert stats.mac.stats == {"Cycles": "12", "Energy (total)": "9.00 pJ"}
    (level,) = stats.levels
    assert (level.name, level.specs) == ("Some Buffer", {"Size": "16"})
    assert level.loops == ["for K in [0:3)", "for M in [0:4) (Spatial-X)"]
    tensor = level.tensors["T: 1"]
    assert tensor.lines == {"Scalar reads (per-instance)": "7"}
    assert tensor.ranks == {"Actual scalar format reads (per-instance)": {1: ("0", "36"), 0: ("188", "0")}}
    (network,) = stats.networks
    assert network.name == "Some Buffer <==> MAC"
    assert network.tensors["T: 1"].lines["Ingresses"] == "21.00"
    assert stats.order == ("Some Buffer", "Hidden")
    assert stats.summary["Total topology energy"] == "9.00 pJ"
    assert stats.summary["Computes"] == "12"
    assert stats.per_compute == {"fJ/Compute": {"MAC": "750.00", "Some Buffer <==> MAC": "0.00", "Total": "750.00"}}
    assert not stats.is_sparse


@pytest.mark.parametrize(
    ("text", "value", "half"),
    [
        ("12", 12, 0),
        ("-", None, None),
        ("- pJ", None, None),
        ("", None, None),
        ("0.56", 0.56, 0.005),
        ("6.25%", 0.0625, 0.00005),
        ("1.12e+04", 11200, 50),
        ("313.40 pJ", 313.4, 0.005),
        ("2e3", 2000, 500),
    ],
)
def test_digits(text, value, half):
    number = read_optional(text, "x")
    if value is None:
        assert number is None
    else:
        assert number.value == pytest.approx(value, rel=1e-12)
        assert number.half == pytest.approx(half, rel=1e-12)


@pytest.mark.parametrize("text", ["nan", "inf", "x1", "1" * 50, "1e99999", "--1"])
def test_what_is_no_number(text):
    with pytest.raises(SpecificationError, match="which is no number"):
        read_printed(text, "here")


@given(st.floats(0, 1e9, allow_nan=False), st.integers(0, 8))
def test_a_number_is_shown_by_what_it_prints(number, digits):
    printed = read_printed(f"{number:.{digits}f}", "x")
    if digits:
        assert printed.shows(number)
        assert printed.lies_within(number, number)
        assert not printed.shows(number + 2.1 * printed.half + 1e-6 * number)


def test_architectures_flat_and_in_trees():
    flat = {"local": [{"name": "chip.RF[1..16]", "attributes": {"meshX": 8, "word-bits": 8}}]}
    assert read_attributes(flat)["RF"].mesh() == (8, 2)
    assert read_attributes(flat)["RF"].number("word_bits") == 8
    tree = {
        "subtree": [
            {
                "name": "chip",
                "local": [{"name": "Buf"}],
                "subtree": [{"name": "PE[0..11]", "local": [{"name": "RF[0..1]", "attributes": {}}]}],
            }
        ]
    }
    found = read_attributes(tree)
    assert {name: entry.mesh() for name, entry in found.items()} == {"Buf": (1, 1), "RF": (24, 1)}
    assert read_attributes([1]) == {}
