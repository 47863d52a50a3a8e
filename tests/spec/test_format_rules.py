"""Which formats go together: what is refused when read, what a mapping may keep, and what it is told."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
import yaml
from hypothesis import given, settings, strategies as st

import mapgym.spec.accelerator
from mapgym import CostModel, MapSpace
from mapgym.agents.cli import main
from mapgym.cost.optimum import find_optimum
from mapgym.errors import SpecificationError
from mapgym.mapping import Mapping
from mapgym.mapping.legality_kernels import FORMATS, LEGAL, METADATA
from mapgym.mapspace.construction.construction import Construction
from mapgym.spec import catalog
from mapgym.spec.accelerator import Accelerator
from mapgym.spec.levels import Mac, StorageLevel
from mapgym.spec.workload import matmul

LAYER = matmul("layer", M=4, K=4, N=2).with_densities({"Weights": 0.5})
WEIGHTS, INPUTS, OUTPUTS = (LAYER.tensors.index(LAYER.tensor(name)) for name in ("Weights", "Inputs", "Outputs"))
RF, BUF, DRAM = range(3)
ALL = ("tile", "order", "parallelism", "bypass")


def machine(dram=(), buf=(), rf=(), tensor="Weights", **changes) -> Accelerator:
    """Three levels with formats for one tensor; changes are by level name."""
    levels = tuple(
        StorageLevel(name, formats=((tensor, tuple(ranks)),) if ranks else (), **changes.get(name, {}))
        for name, ranks in (("RF", rf), ("Buf", buf), ("DRAM", dram))
    )
    return Accelerator("three", levels, Mac())


def kept(accelerator: Accelerator, *levels: int, tensor: int = WEIGHTS) -> Mapping:
    """Everything in the registers but for one loop, one tensor at the outermost level and some others."""
    mapping = Mapping.trivial(LAYER, accelerator)
    mapping.temporal[RF], mapping.temporal[DRAM] = mapping.temporal[DRAM].copy(), 1
    mapping.keep[:-1, tensor] = False
    mapping.keep[list(levels), tensor] = True
    return mapping


@pytest.mark.parametrize(
    ("dram", "buf", "rf", "levels"),
    [
        (["CP"], ["UOP", "CP"], [], ("'Buf'", "'DRAM'")),
        (["UOP", "CP"], ["UOP", "CP"], ["2*UOP", "CP"], ("'RF'", "'Buf'")),
        # Not next to each other, but a mapping may bypass what lies between.
        (["UOP", "CP"], [], ["2*UOP", "CP"], ("'RF'", "'DRAM'")),
        (["3*UOP", "CP"], ["2*UOP", "RLE"], [], ("'Buf'", "'DRAM'")),
        (["2*UOP", "B", "CP"], ["UOP", "CP"], [], ("'Buf'", "'DRAM'")),
        (["2*UB", "B"], ["UOP", "B"], [], ("'Buf'", "'DRAM'")),
    ],
)
def test_ranks_that_are_not_the_innermost_ones_outside_are_refused(dram, buf, rf, levels):
    with pytest.raises(SpecificationError, match=r"three.*formats.*innermost ranks.*keep_only") as refusal:
        machine(dram, buf, rf)
    assert all(level in str(refusal.value) for level in levels)


def test_levels_that_cannot_meet_need_not_agree():
    machine(["CP"], ["UOP", "CP"], Buf={"keep_only": ("Inputs", "Outputs")})
    machine(["3*UOP", "CP"], ["2*UOP", "CP"], ["UOP", "CP"])
    machine(["3*UOP"], ["5*UB"])


def test_too_few_ranks_for_an_uncompressed_format_inside_are_refused_if_it_can_be_reached():
    with pytest.raises(SpecificationError, match="innermost ranks"):
        machine(["CP"], ["2*UOP"], Buf={"decompression_supported": True})
    accelerator = machine(["CP"], ["2*UOP"])
    assert CostModel(LAYER, accelerator).evaluate(kept(accelerator, BUF)).status == FORMATS << 8 | BUF


def test_the_kernel_answers_tables_that_no_accelerator_has(monkeypatch):
    monkeypatch.setattr(mapgym.spec.accelerator, "check_ranks", lambda *_: None)
    accelerator = machine(["CP"], ["5*UOP", "CP"], tensor="Weights")
    mapping = kept(accelerator, BUF)
    assert CostModel(LAYER, accelerator).evaluate(mapping).status == METADATA << 8 | DRAM
    assert MapSpace(LAYER, accelerator, ALL).status(mapping.batch())[0] == METADATA << 8 | DRAM
    # Where another tensor has more ranks, there is room beyond the list of this one.
    levels = tuple(
        replace(level, formats=(*level.formats, ("Inputs", ("9*UOP", "CP")))) for level in accelerator.levels
    )
    assert CostModel(LAYER, replace(accelerator, levels=levels)).evaluate(mapping).status == METADATA << 8 | DRAM


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"formats": {"Weights": ["CP", "UOP"]}}, "formats of 'Weights' have the uncompressed rank UOP inside the"),
        ({"formats": {"Weights": ["UOP", "B", "UB", "CP"]}}, "uncompressed rank UB inside the compressed rank B"),
        ({"formats": [["Weights", ["B"]], ["Weights", ["B"]]]}, "formats of 'Weights' are given twice"),
        ({"formats": {1: ["B"]}}, "give the name of a tensor"),
        ({"formats": {"Weights": ["9" * 5000 + "*UOP"]}}, "unknown rank"),
        ({"decompression_supported": "yes"}, "decompression_supported is 'yes'; give true or false"),
        ({"compression_supported": 1}, "compression_supported is 1; give true or false"),
        (
            {"actions": [{"type": "gating", "target": "Weights", "condition_on": ["Inputs"] * 3}]},
            "condition_on of the action on 'Weights' .* name each tensor once",
        ),
        ({"actions": [{"type": "gating", "target": "Weights", "condition_on": [{}]}]}, "name a tensor and a list"),
    ],
)
def test_mistakes_of_one_level_are_answered_with_file_level_and_key(change, message):
    data = catalog.accelerator("tiny").to_dict()
    data["levels"][1] |= change
    with pytest.raises(SpecificationError, match=rf"hardware\.yaml: .*Buf.*{message}"):
        Accelerator.from_dict(data, "hardware.yaml")


@pytest.mark.parametrize("block", [1, 3, 12, 32, 64])
@pytest.mark.parametrize("formats", [["4*UOP"], ["4*B"]])
def test_formats_take_any_block(formats, block):
    assert machine(formats, DRAM={"block_size_words": block}).is_sparse


def test_what_a_level_supports_survives_a_round_trip():
    accelerator = machine(["8*UOP", "CP"], Buf={"decompression_supported": True, "compression_supported": True})
    assert Accelerator.from_dict(accelerator.to_dict()) == accelerator
    assert "compression" not in str(machine().to_dict())


@pytest.mark.parametrize(
    ("accelerator", "levels", "why"),
    [
        # Compressed outside, uncompressed inside.
        (machine(["9*CP"]), (), ""),
        (machine(["9*CP"]), (BUF,), "Buf stores Weights uncompressed.*DRAM.*decompression_supported: true"),
        (machine(["9*CP"], Buf={"decompression_supported": True}), (BUF,), ""),
        (machine(["9*CP"], Buf={"decompression_supported": True}), (RF, BUF), ""),
        (machine(["9*CP"], Buf={"decompression_supported": True}), (RF,), "RF stores Weights uncompressed"),
        (machine(["9*CP"], ["9*UB"]), (BUF,), "Buf stores Weights uncompressed"),
        # The other way round.
        (machine([], ["9*CP"]), (), ""),
        (machine([], ["9*CP"]), (BUF,), "Buf stores Weights compressed, but gets it uncompressed from DRAM"),
        (machine(["9*UOP"], ["9*RLE"]), (BUF,), "Buf stores Weights compressed"),
        (machine(["9*UB"], ["8*UOP"], ["7*UB"]), (RF, BUF), ""),
        # Both, in one machine.
        (machine(["9*B"], [], ["9*B"]), (RF,), ""),
        (machine(["9*B"], [], ["9*B"], Buf={"decompression_supported": True}), (BUF,), ""),
        (machine(["9*B"], [], ["9*B"], Buf={"decompression_supported": True}), (RF, BUF), "RF stores Weights compr"),
    ],
)
def test_what_a_mapping_may_keep(accelerator, levels, why):
    mapping = kept(accelerator, *levels)
    cost, space = CostModel(LAYER, accelerator).evaluate(mapping), MapSpace(LAYER, accelerator, ALL)
    assert cost.legal == (not why)
    assert space.status(mapping.batch())[0] == cost.status
    assert space.contains(mapping) == cost.legal
    if why:
        assert cost.status >> 8 == FORMATS
        with pytest.raises(AssertionError, match=why):
            raise AssertionError(cost.reason)


def test_outputs_need_compression_as_well():
    for supported, legal in (((), False), (("decompression_supported",), False), (("compression_supported",), False)):
        accelerator = machine(["9*CP"], tensor="Outputs", Buf=dict.fromkeys(supported, True))
        cost = CostModel(LAYER, accelerator).evaluate(kept(accelerator, BUF, tensor=OUTPUTS))
        assert cost.legal == legal
        for key in ("decompression_supported", "compression_supported"):
            assert (f" {key}: true" in cost.reason) == (key not in supported)
    both = {"decompression_supported": True, "compression_supported": True}
    accelerator = machine(["9*CP"], tensor="Outputs", Buf=both)
    assert CostModel(LAYER, accelerator).evaluate(kept(accelerator, BUF, tensor=OUTPUTS)).legal


def test_actions_need_as_many_ranks_as_the_next_inner_level():
    action = {"type": "gating", "target": "Weights", "condition_on": ["Inputs"]}
    for level, levels, legal in (
        ("DRAM", (BUF,), False),
        # Where the level bypasses the target, the next outer one acts for it.
        ("Buf", (RF,), False),
        ("Buf", (BUF,), True),
        ("RF", (BUF,), True),
    ):
        accelerator = machine(["3*UOP"], ["4*UOP"], ["4*UOP"], **{level: {"actions": (action,)}})
        cost = CostModel(LAYER, accelerator).evaluate(kept(accelerator, *levels))
        assert cost.legal == legal, (level, levels)
        assert legal or "DRAM has actions on Weights but fewer ranks" in cost.reason


COMPRESSED = ("CP", "B", "RLE")


@st.composite
def five_levels(draw) -> Accelerator:
    """Levels with formats of all kinds, in ranks that agree and suffice, for two tensors."""

    def ranks(s: int) -> tuple[str, ...]:
        # Each level has more ranks than the ones inside, for loops of its own.
        plain = f"{9 * s + 9}*UOP"
        return draw(st.sampled_from([(), (plain,), (plain, innermost)]))

    innermost = draw(st.sampled_from(COMPRESSED))
    levels = []
    for s in range(5):
        formats = {"Weights": ranks(s), "Outputs": ranks(s)}
        levels.append(
            StorageLevel(
                f"L{s}",
                formats=tuple((tensor, given) for tensor, given in formats.items() if given),
                decompression_supported=draw(st.booleans()),
                compression_supported=draw(st.booleans()),
                keep_only=None if s == 4 or draw(st.booleans()) else ("Weights", "Inputs"),
            )
        )
    return Accelerator("five", tuple(levels), Mac())


def passes(accelerator: Accelerator, tensor: str, chain: tuple[int, ...]) -> bool:
    """Whether a tensor can be kept at these levels, innermost first: the rules of docs/sparse.md."""
    levels = [accelerator.levels[s] for s in chain]
    for inner, outer in itertools.pairwise(levels):
        from_compressed, to_compressed = (
            dict(level.formats).get(tensor, ("",))[-1] in COMPRESSED for level in (outer, inner)
        )
        supported = inner.decompression_supported and (tensor != "Outputs" or inner.compression_supported)
        if (to_compressed and not from_compressed) or (from_compressed and not to_compressed and not supported):
            return False
    return all(level.keep_only is None or tensor in level.keep_only for level in levels)


@settings(max_examples=40, deadline=None)
@given(accelerator=five_levels(), seed=st.integers(0, 1000))
def test_spaces_hold_exactly_what_levels_can_pass_on(accelerator, seed):
    space, model = MapSpace(LAYER, accelerator, ALL), CostModel(LAYER, accelerator)
    rng = np.random.default_rng(seed)
    drawn = Construction(space.definition).sample(rng, 500)
    # Ranks and room suffice, so that all that is constructed is legal, and what is legal can be constructed.
    assert (space.status(drawn) == LEGAL).all()
    chains = [(*chain, 4) for k in range(5) for chain in itertools.combinations(range(4), k)]
    for t, tensor in enumerate(LAYER.tensors):
        allowed = {chain for chain in chains if passes(accelerator, tensor.name, chain)}
        # The rarest comes up with a probability of at least 1/16.
        assert {tuple(map(int, np.flatnonzero(keep))) for keep in drawn.keep[:, :, t]} == allowed
        for chain in chains:
            mapping = Mapping.trivial(LAYER, accelerator)
            mapping.keep[:-1] = False
            mapping.keep[list(chain), t] = True
            assert model.evaluate(mapping).legal == (chain in allowed)
    # What is not allowed is mended by bypassing, and what is allowed stays.
    wishes = drawn.copy()
    wishes.keep[:, :-1] = rng.random(wishes.keep[:, :-1].shape) < 0.5
    repaired, fits = space.repair(wishes)
    assert fits.all()
    assert space.contains(repaired).all()
    legal = space.status(wishes) == LEGAL
    assert np.array_equal(repaired.keep[legal], wishes.keep[legal])
    assert not (repaired.keep & ~wishes.keep).any()


def test_a_space_whose_base_clashes_is_refused():
    accelerator = machine(["9*CP"])
    with pytest.raises(SpecificationError, match=r"'layer' on 'three' is empty: RF|Buf stores Weights uncompressed"):
        MapSpace(LAYER, accelerator).sample(np.random.default_rng(0), 1)
    assert MapSpace(LAYER, accelerator, ALL).sample(np.random.default_rng(0), 20).keep[:, BUF, WEIGHTS].any() == 0


@pytest.mark.parametrize(
    ("key", "change"),
    [
        ("keep_only", {"keep_only": ("Kernel",)}),
        ("formats", {"formats": (("Kernel", ("9*CP",)),)}),
        ("actions", {"actions": ({"type": "gating", "target": "Kernel", "condition_on": ["Inputs"]},)}),
        ("actions", {"actions": ({"type": "gating", "target": "Inputs", "condition_on": ["Kernel"]},)}),
    ],
)
@pytest.mark.parametrize("make", [CostModel, MapSpace])
def test_tensors_that_a_workload_does_not_have_are_named_with_their_place(key, change, make):
    levels = [replace(level, **change) if level.name == "Buf" else level for level in machine().levels]
    with pytest.raises(
        SpecificationError,
        match=rf"'three': {key} of 'Buf': workload 'layer' has no tensor 'Kernel'; valid names are .*; rename",
    ):
        make(LAYER, replace(machine(), levels=tuple(levels)))


def test_the_command_line_says_it_in_one_sentence(tmp_path, capsys):
    data = catalog.accelerator("tiny").to_dict()
    data["levels"][0]["formats"], data["levels"][1]["formats"] = {"Weights": ["CP"]}, {"Weights": ["UOP", "CP"]}
    file = tmp_path / "hardware.yaml"
    file.write_text(yaml.safe_dump(data))
    with pytest.raises(SystemExit) as stopped:
        main(["search", "toy/tiny_gemm", str(file), "--samples", "50"])
    assert stopped.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "hardware.yaml: accelerator 'tiny': formats: ['UOP', 'CP'] of 'Weights' at 'Buf' are not the" in line


def test_optima_are_not_certified_where_metadata_decide_what_is_legal():
    accelerator = replace(machine(["9*UOP", "CP"], ["8*UOP", "CP"]), peer_links=False)
    with pytest.raises(SpecificationError, match="no certified optimum for 'layer' on 'three': metadata of tiles"):
        find_optimum(MapSpace(LAYER.with_densities({"Weights": 1.0}), accelerator))
