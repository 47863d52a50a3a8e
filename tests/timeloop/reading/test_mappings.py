"""Timeloop's mappings: each form reads to the mapping that it describes, and what ours cannot say is refused."""

from __future__ import annotations

import numpy as np
import pytest
import yaml

from mapgym.agents.files.mapping_file import read_mapping
from mapgym.cost import CostModel
from mapgym.errors import SpecificationError
from mapgym.mapping import Mapping
from mapgym.mapspace.space import MapSpace
from mapgym.spec.accelerator import Accelerator
from mapgym.spec.levels import Mac, StorageLevel
from mapgym.spec.workload import conv2d
from mapgym.timeloop.reading.mappings import looks_like_timeloop, read_printed_nest, read_timeloop_mapping
from mapgym.timeloop.results.task import same_loops
from timeloop_output import nest_text

LAYER = conv2d("layer", C=4, M=8, P=6, Q=3, R=3, S=3)
MACHINE = Accelerator(
    "machine",
    (
        StorageLevel("RF", 1024, 4, 2),
        StorageLevel("inter_PE_spatial", 1, keep_only=()),
        StorageLevel("Buf", 4096),
        StorageLevel("DRAM"),
    ),
    Mac("MACC", 8, 2),
    fanout_check="cumulative",
)
RF, SPREAD, BUF, DRAM = range(4)


def read(*nodes, key="mapping") -> Mapping:
    return read_timeloop_mapping({key: list(nodes)}, LAYER, MACHINE, "map.yaml")


def temporal(target, factors, permutation=None, **more):
    node = {"target": target, "type": "temporal", "factors": factors, "permutation": permutation}
    return {**{key: value for key, value in node.items() if value is not None}, **more}


class TestDirectives:
    @pytest.mark.parametrize(
        "factors",
        ["R=3 P=6 C=1", "R3 P6 C1", "R=3,P=6,C=1", ["R=3", "P=6"], ["R=3 P=6"], {"R": 3, "P": 6}, "R = 3  P = 6 # all"],
    )
    @pytest.mark.parametrize("permutation", ["RPQ", "R P Q", "R,P,Q", ["R", "P", "Q"]])
    def test_spellings(self, factors, permutation):
        mapping = read(temporal("Buf", factors, permutation))
        assert mapping.temporal_loops(BUF) == [("R", 3), ("P", 6)]
        assert [LAYER.dims[d] for d in mapping.order[BUF]] == ["R", "P", "Q", "N", "C", "S", "M"]
        assert mapping.temporal_loops(DRAM) == []

    def test_zero_is_what_is_left_of_the_bound(self):
        mapping = read(temporal("DRAM", "P=2 C=4"), temporal("RF", "P=0 M=0"))
        assert mapping.temporal_loops(RF) == [("P", 3), ("M", 8)]
        with pytest.raises(SpecificationError, match=r"2 factors of 'P' are 0"):
            read(temporal("DRAM", "P=0"), temporal("RF", "P=0"))
        with pytest.raises(SpecificationError, match=r"its bound 6, and these make 4"):
            read(temporal("DRAM", "P=4"), temporal("RF", "P=0"))

    @pytest.mark.parametrize("target", ["inter_PE_spatial", "PE", 1])
    def test_spatial_loops_lie_on_x_up_to_the_split(self, target):
        node = {"target": target, "type": "spatial", "factors": "M=4 C=2", "permutation": "MC", "split": 1}
        assert read(node).spatial_sides(SPREAD) == ([("M", 4)], [("C", 2)])
        del node["split"]
        assert read(node).spatial_sides(SPREAD) == ([("M", 4), ("C", 2)], [])
        node["split"] = 0
        assert read(node).spatial_sides(SPREAD) == ([], [("M", 4), ("C", 2)])

    @pytest.mark.parametrize("kind", ["bypass", "datatype", "dataspace"])
    def test_bypass(self, kind):
        mapping = read({"target": "Buf", "type": kind, "keep": ["Inputs"], "bypass": ["Weights"]})
        assert mapping.keep[BUF].tolist() == [False, True, True]
        assert mapping.keep[SPREAD].tolist() == [False] * 3
        assert read({"target": "Buf", "type": kind, "bypass": "~Inputs"}).keep[BUF].tolist() == [False, True, False]
        assert read({"target": "Buf", "type": kind, "bypass": "All"}).keep[BUF].tolist() == [False] * 3

    def test_lists_of_nodes(self):
        data = {"mapping": {"version": 0.4, "nodes": [temporal("DRAM", "C=4")]}}
        assert looks_like_timeloop(data)
        assert read_timeloop_mapping(data, LAYER, MACHINE, "m").temporal_loops(DRAM) == [("C", 4)]
        assert not looks_like_timeloop({"levels": []})

    @pytest.mark.parametrize(
        ("node", "words"),
        [
            (temporal("Buff", "R=3"), "'Buff' is not in accelerator"),
            (temporal("Buf", "Z=3"), "unknown dim 'Z'"),
            (temporal("Buf", "R=3", "RRP"), "names a dim twice"),
            (temporal("Buf", "R=3 R=1"), "'R' is given twice"),
            (temporal("Buf", "R<=3"), "without < and >"),
            (temporal("Buf", "P=4,2"), "an imperfect factor"),
            (temporal("Buf", {"P": [4, 2]}), "an imperfect factor"),
            (temporal("Buf", {"P": 1.5}), "give a whole number"),
            (temporal("Buf", "R=3", no_temporal_reuse=["Weights"]), "the key no_temporal_reuse"),
            (temporal("Buf", "R=3", skew=3), "'skew' is 3"),
            (temporal(7, "R=3"), "target 7 is no level"),
            ({"target": "Buf", "type": "temperal"}, "did you mean 'temporal'"),
            ({"target": "Buf", "type": "spatial", "factors": "M=2", "split": "X"}, "split is 'X'"),
            ({"target": "Buf", "type": "bypass", "keep": ["Weight"]}, "unknown tensor 'Weight'"),
            ("Buf", "directive 1 is 'Buf'"),
        ],
    )
    def test_what_is_refused(self, node, words):
        with pytest.raises(SpecificationError, match=r"map.yaml: directive 1") as error:
            read(node)
        assert words in str(error.value)

    def test_a_level_is_described_once(self):
        with pytest.raises(SpecificationError, match="is given twice"):
            read(temporal("Buf", "R=3"), temporal("Buf", "R=1"))


class TestNests:
    @pytest.mark.parametrize("seed", range(20))
    def test_what_is_printed_reads_back(self, seed):
        space = MapSpace(LAYER, MACHINE, ("tile", "order", "parallelism", "bypass"))
        mapping = space.sample(np.random.default_rng(seed), 1)[0]
        cost = CostModel(LAYER, MACHINE).evaluate(mapping, detail=True)
        text = nest_text(LAYER, MACHINE, mapping, cost)
        assert same_loops(read_printed_nest(text, LAYER, MACHINE, "map.txt"), mapping)

    TEXT = """
DRAM [ Weights:288 Inputs:160 (160) Outputs:144 ]
-------------------------------------------------
| for M in [0:8)

Buf [ Inputs:160 ]
------------------
|   for Q in [0:3)
inter_PE_spatial [ ]
|     for C in [0:2) (Spatial-Y)
|       for P in [0:3) (Spatial-X)
RF [ Weights:36 Outputs:2 ]
|         for C in [0:2)
|           for P in [0:2)
|             << Compute >>
"""

    def test_by_hand(self):
        mapping = read_printed_nest(self.TEXT, LAYER, MACHINE, "map.txt")
        assert mapping.temporal_loops(DRAM) == [("M", 8)]
        assert mapping.spatial_sides(SPREAD) == ([("P", 3)], [("C", 2)])
        assert mapping.temporal_loops(RF) == [("P", 2), ("C", 2)]
        assert mapping.keep.tolist() == [[True, False, True], [False] * 3, [False, True, False], [True] * 3]

    @pytest.mark.parametrize(
        ("old", "new", "words"),
        [
            ("for M in [0:8)", "for M in [0:8,3)", "imperfect factor"),
            ("for M in [0:8)", "for M in [2:8)", "does not run from 0"),
            ("for M in [0:8)", "for M of 8", "line 4: cannot read the loop"),
            ("for M in [0:8)", "for Z in [0:8)", "unknown dim 'Z'"),
            ("Buf [", "Buff [", "'Buff' is not in accelerator"),
            ("Inputs:160 ]", "Input:160 ]", "unknown tensor 'Input'"),
            ("inter_PE_spatial [ ]", "", "two loops of"),
            ("Buf [ Inputs:160 ]", "RF [ Inputs:160 ]", "is there twice"),
        ],
    )
    def test_what_is_refused(self, old, new, words):
        text = self.TEXT.replace(old, new)
        if words == "two loops of":
            text = text.replace("|     for C in [0:2) (Spatial-Y)", "|     for Q in [0:2)")
        with pytest.raises(SpecificationError) as error:
            read_printed_nest(text, LAYER, MACHINE, "map.txt")
        assert words in str(error.value)


def test_a_file_of_theirs_may_be_named_where_one_of_ours_may(tmp_path):
    ours = Mapping.trivial(LAYER, MACHINE)
    (tmp_path / "a.map.txt").write_text(TestNests.TEXT)
    assert read_mapping(tmp_path / "a.map.txt", LAYER, MACHINE).temporal_loops(DRAM) == [("M", 8)]
    for name, data in (
        ("theirs.yaml", {"mapping": [temporal("DRAM", "C=4")]}),
        ("ours.yaml", ours.to_dict()),
        ("search.json", {"mapping": ours.to_dict()}),
    ):
        (tmp_path / name).write_text(yaml.safe_dump(data))
    assert read_mapping(tmp_path / "theirs.yaml", LAYER, MACHINE).temporal_loops(DRAM) == [("C", 4)]
    assert same_loops(read_mapping(tmp_path / "ours.yaml", LAYER, MACHINE), ours)
    assert same_loops(read_mapping(tmp_path / "search.json", LAYER, MACHINE), ours)
    (tmp_path / "none.yaml").write_text("7")
    with pytest.raises(SpecificationError, match="holds no mapping"):
        read_mapping(tmp_path / "none.yaml", LAYER, MACHINE)
