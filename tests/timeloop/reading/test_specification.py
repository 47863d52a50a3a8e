"""Architectures, energies and problems of all versions of Timeloop, as ours; each file is written by hand here."""

from __future__ import annotations

from pathlib import Path

import pytest

from mapgym.errors import InputWarning, SpecificationError
from mapgym.spec import catalog
from mapgym.spec.accelerator import Accelerator
from mapgym.timeloop.reading.energies import Estimate
from mapgym.timeloop.reading.libconfig import parse_libconfig
from mapgym.timeloop.reading.specification import read_timeloop

V2 = """
architecture:
  version: 0.2
  subtree:
  - name: system
    local:
    - {name: DRAM, class: DRAM, attributes: {width: 64, block-size: 4, word-bits: 16, shared_bandwidth: 8}}
    subtree:
    - name: chip
      attributes: {technology: 45nm}
      local:
      - name: Glb
        class: smartbuffer_SRAM
        attributes: {memory_depth: 1024, memory_width: 64, n_banks: 4, block-size: 4, word-bits: 16}
      subtree:
      - name: PE[0..15]
        local:
        - name: Rf
          class: regfile
          attributes: {depth: 32, width: 16, word-bits: 16, meshX: 4, cluster-size: 1}
        - {name: mac, class: intmac, attributes: {datawidth: 16, meshX: 4}}
"""
V4 = """
architecture:
  version: 0.4
  nodes:
  - !Container
    name: system
    attributes: {technology: "45nm", global_cycle_seconds: 1e-9}
  - !Component
    name: DRAM
    class: DRAM
    attributes: {width: 64, datawidth: word_bits, bandwidth_note: free}
  - !Component
    name: Glb
    class: SRAM
    attributes: {depth: 2 ** 10, width: 16 * 4, datawidth: word_bits}
  - !Container
    name: column
    spatial: {meshX: 4}
    constraints: {spatial: {factors: [M<=4]}}
  - !Container
    name: PE
    spatial: {meshY: rows}
  - !Component
    name: Rf
    class: regfile
    attributes: {depth: 32, width: 16, datawidth: word_bits}
    constraints: {dataspace: {keep: [Weights]}}
  - !Component
    name: mac
    class: intmac
    attributes: {datawidth: word_bits}
variables:
  version: 0.4
  rows: 4
  word_bits: 16
"""
OLD = """
arch:
  arithmetic: {name: MAC, instances: 16, word-bits: 16, meshX: 4}
  storage:
  - {name: Rf, entries: 32, instances: 16, meshX: 4, word-bits: 16}
  - {name: Glb, sizeKB: 8, instances: 1, word-bits: 16, block-size: 4}
  - {name: DRAM, technology: DRAM, instances: 1, word-bits: 16, block-size: 4}
"""
CFG = """
// As files were before YAML.
arch = {
  arithmetic = { name = "MAC"; instances = 16; word-bits = 16; meshX = 4; };
  storage = (
    { name = "Rf"; entries = 32; instances = 16; meshX = 4; word-bits = 16; },
    { name = "Glb"; sizeKB = 8; instances = 1; word-bits = 16; block-size = 4; },
    { name = "DRAM"; technology = "DRAM"; instances = 1; word-bits = 16; block-size = 4; }
  );
};
"""
ERT = """
ERT:
  version: 0.4
  tables:
  - {name: 'system.DRAM[1..1]', actions: [{name: read, arguments: {}, energy: 64.0}, {name: write, energy: 65}]}
  - {name: 'chip.Glb[1..1]', actions: [{name: read, energy: 6.0}, {name: write, energy: 7}, {name: leak, energy: 0.5}]}
  - {name: 'chip.PE[0..15].Rf', actions: [{name: read, energy: 0.5}, {name: write, energy: 0.25}]}
  - {name: 'chip.PE[0..15].mac', actions: [{name: mac_random, energy: 2.5}]}
"""
ART = """
ART:
  version: 0.4
  tables: [{name: 'chip.Glb[1..1]', area: 1000.0}, {name: 'chip.PE[0..15].mac', area: 20}]
"""
PROBLEM = """
problem:
  version: 0.4
  shape:
    name: row
    dimensions: [C, M, P, R]
    coefficients: [{name: Stride, default: 1}]
    data_spaces:
    - {name: Weights, projection: [[[C]], [[R]], [[M]]]}
    - {name: Inputs, projection: [[[C]], [[R], [P, Stride]]]}
    - {name: Outputs, projection: [[[M]], [[P]]], read_write: True}
  instance: {C: 2 * 4, M: 16, P: 7, R: 3, Stride: 2, densities: {Weights: 0.5}}
"""


@pytest.fixture
def write(tmp_path: Path):
    """Writes a file and returns its path."""

    def write_file(text: str, name: str = "design.yaml") -> Path:
        path = tmp_path / name
        path.write_text(text)
        return path

    return write_file


def shape(accelerator: Accelerator) -> list[tuple[object, ...]]:
    """Name, capacity, mesh, block and width of each level, innermost first."""
    return [
        (level.name, level.capacity_words, level.mesh_x, level.mesh_y, level.block_size_words, level.word_bits)
        for level in accelerator.levels
    ]


PLAIN = [("Rf", 32, 4, 4, 1, 16), ("Glb", 4096, 1, 1, 4, 16), ("DRAM", None, 1, 1, 4, 16)]


@pytest.mark.parametrize(
    ("text", "name", "macs"),
    [(V2, "v2.yaml", "mac"), (OLD, "old.yaml", "MAC"), (CFG, "old.cfg", "MAC")],
    ids=["v0.2", "lists", "libconfig"],
)
def test_one_design_in_several_versions(write, text, name, macs):
    found = read_timeloop(write(text, name), "pat")
    assert shape(found.accelerator) == PLAIN
    assert (found.accelerator.mac.name, found.accelerator.mac.mesh_x, found.accelerator.mac.mesh_y) == (macs, 4, 4)
    assert found.accelerator.name == Path(name).stem
    # Timeloop's public model: 200 pJ for 16 bits of DRAM, and a line through (0.5 KiB, 1 pJ) and (100 KiB, 6 pJ).
    dram, glb, mac = found.accelerator.levels[2], found.accelerator.levels[1], found.accelerator.mac
    assert dram.access_energy_pj == 800.0
    assert glb.access_energy_pj == pytest.approx(4 * (1 + 5 / 99.5 * (8 - 0.5)))
    assert mac.energy_pj == 1.0


def test_what_v4_fans_out_is_a_level_that_holds_nothing(write):
    found = read_timeloop(write(V4), "pat")
    assert shape(found.accelerator) == [
        PLAIN[0],
        ("inter_PE_spatial", 1, 4, 1, 1, 1),
        ("inter_column_spatial", 1, 1, 1, 1, 1),
        *PLAIN[1:],
    ]
    assert [level.keep_only for level in found.accelerator.levels] == [None, (), (), None, None]
    assert found.accelerator.cycle_seconds == 1e-9
    assert found.inner_constraints == {
        "inter_column_spatial": {"spatial": {"factors": ["M<=4"]}},
        "Rf": {"dataspace": {"keep": ["Weights"]}},
    }
    assert [entry.key for entry in found.ignored] == ["DRAM: bandwidth_note"]


def test_energies_and_areas_of_tables(write):
    found = read_timeloop([write(V2), write(ERT, "ERT.yaml"), write(ART, "ART.yaml")])
    rf, glb, dram = found.accelerator.action_energies
    assert (rf["read"], rf["fill"], rf["update"]) == (0.5, 0.25, 0.25)
    assert (glb["read"], glb["fill"], glb["leak"]) == (6.0, 7.0, 0.5)
    assert (dram["read"], dram["update"]) == (64.0, 65.0)
    assert found.accelerator.mac_energies["compute"] == 2.5
    assert (found.accelerator.levels[1].area_um2, found.accelerator.mac.area_um2) == (1000.0, 20.0)
    assert found.accelerator.levels[0].area_um2 is None


def test_an_estimate_is_chosen_and_scales(write):
    with pytest.raises(SpecificationError, match=r"has no energies; name the ERT.*arch.yaml:pat@45nm@0.9V"):
        read_timeloop(write(V2))
    with pytest.raises(SpecificationError, match="choose 'pat' or such as"):
        read_timeloop(write(V2), "cacti")
    scaled = read_timeloop(write(V2), "pat@32.5nm@0.5V").accelerator
    assert scaled.mac.energy_pj == pytest.approx(0.5 * 0.25)
    assert scaled.levels[2].access_energy_pj == 800.0
    assert Estimate.parse("pat@65nm", "here") == Estimate.parse("pat", "here")


def test_a_problem_that_is_spelled_out(write):
    workload = read_timeloop(write(PROBLEM)).workload
    assert dict(zip(workload.dims, workload.bounds, strict=True)) == {"C": 8, "M": 16, "P": 7, "R": 3}
    assert workload.tensor("Inputs").ranks == ((("C", 1),), (("R", 1), ("P", 2)))
    assert workload.output.name == "Outputs"
    assert workload.tensor("Weights").density == 0.5
    assert workload.name == "design"


def test_a_problem_that_names_its_shape(write):
    bounds = "{R: 3, S: 3, P: 4, Q: 5, C: 6, K: 7, N: 2, Wstride: 2, Hdilation: 0}"
    for text in (
        f"problem: {{shape: cnn-layer, instance: {bounds}}}",
        f"problem: {{shape: cnn-layer, {bounds[1:]}}}"[:-1],
    ):
        workload = read_timeloop(write(text)).workload
        assert workload.macs == 3 * 3 * 4 * 5 * 6 * 7 * 2
        # A coefficient of 0 takes a dim out of a rank.
        assert workload.tensor("Inputs").ranks == ((("N", 1),), (("C", 1),), (("R", 1), ("P", 2)), (("Q", 1),))


def test_files_are_taken_where_ours_are(write, tmp_path):
    arch, problem = write(V2, "arch.yaml"), write(PROBLEM, "problem.yaml")
    ert = write(ERT, "ERT.yaml")
    with pytest.warns(InputWarning, match=r"without effect: .*n_banks.*mapgym import timeloop"):
        accelerator = catalog.accelerator(f"{arch},{ert}")
    assert shape(accelerator) == PLAIN
    with pytest.warns(InputWarning):
        assert shape(catalog.accelerator(f"{arch}:pat@45nm")) == PLAIN
    with pytest.warns(InputWarning) as said:
        assert catalog.accelerator(str(arch)) == catalog.accelerator(f"{arch}:pat")
    assert any("has no ERT; energies are Timeloop's public estimate" in str(each.message) for each in said)
    assert catalog.workload(str(problem)).macs == 8 * 16 * 7 * 3
    assert [layer.name for layer in catalog.workloads(str(problem))] == ["problem"]
    with pytest.warns(InputWarning):
        assert catalog.accelerator(str(tmp_path)).levels == accelerator.levels
    with pytest.raises(SpecificationError, match="holds no architecture"):
        catalog.accelerator(str(problem))
    with pytest.raises(SpecificationError, match="holds no problem"):
        catalog.workload(str(ert))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("class: intmac", "class: nothing_known"), "has the compute components 'none'"),
        (("class: regfile", "class: adc_array"), "compute-in-memory"),
        (("depth: 32", "depth: __import__('os').system('true')"), "depth is"),
        (("depth: 32, width: 16", "width: 16"), "Rf: has no size; give depth, entries or sizeKB"),
        (("memory_width: 64", "memory_width: 60"), "holds no whole number"),
        (("n_banks: 4", "network_fill_latency: 4"), "network_fill_latency is 4, which changes what Timeloop counts"),
        (("PE[0..15]", "PE[3..1]"), "has no range"),
        (("meshX: 4, cluster", "meshX: 5, cluster"), "there are 16, but meshX and meshY make"),
        (("  subtree:\n  - name: system", "  nothing: 1\n  x:\n  - name: system"), "has neither nodes, nor a subtree"),
    ],
)
def test_what_cannot_be_expressed_is_refused_in_one_sentence(write, change, message):
    assert change[0] in V2
    with pytest.raises(SpecificationError, match=message.replace("(", r"\(")) as error:
        read_timeloop(write(V2.replace(*change)), "pat")
    assert "design.yaml" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("problem: 3", "problem is 3"),
        ("problem: {shape: cnn-layers, instance: {}}", "unknown shape 'cnn-layers'; .*cnn_layer"),
        ("problem: {shape: cnn-layer, instance: {R: 3}}", "the bound of 'S' is missing"),
        (PROBLEM.replace("P: 7", "P: seven"), "the bound of 'P'"),
        (PROBLEM.replace("Weights: 0.5", "Weights: {distribution: real-data}"), "those of real data"),
        (PROBLEM.replace("[P, Stride]", "[P, Pace]"), "'Pace' is no coefficient"),
    ],
)
def test_broken_problems_are_refused_in_one_sentence(write, text, message):
    with pytest.raises(SpecificationError, match=message):
        read_timeloop(write(text))


def test_libconfig_by_hand():
    text = 'a = 1; b: { c = (1, 2.5, "x" "y"); d = [true, FALSE]; e = 0x10L; } # end\n/* more */ f-g = "a\\"b";'
    assert parse_libconfig(text, "f") == {
        "a": 1,
        "b": {"c": [1, 2.5, "xy"], "d": [True, False], "e": 16},
        "f-g": 'a"b',
    }
    for broken in ("a = ;", "a = {", "a 1;", "= 1;", "a = (1;", "a = 1; a = 2;", "a = $;", "a = " + "(" * 60):
        with pytest.raises(SpecificationError, match=r"^f"):
            parse_libconfig(broken, "f")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("depth: 64", "depth: 1e400", "give a whole number"),
        ("depth: 64", "sizeKB: .inf", "sizeKB in words is inf; give a whole number"),
    ],
)
def test_numbers_without_end_are_refused_in_one_sentence(write, old, new, message):
    text = (
        "architecture:\n  version: 0.4\n  nodes:\n"
        "  - {name: DRAM, class: DRAM, attributes: {width: 8, datawidth: 8}}\n"
        "  - {name: Buffer, class: SRAM, attributes: {depth: 64, width: 8, datawidth: 8}}\n"
        "  - {name: mac, class: intmac, attributes: {datawidth: 8}}\n"
    )
    assert old in text
    with pytest.raises(SpecificationError, match=message):
        read_timeloop(write(text.replace(old, new)), energies="pat")


def test_the_name_of_a_shape_is_text(write):
    text = "problem: {shape: {name: [a], dimensions: [M], data_spaces: []}, instance: {}}\n"
    with pytest.raises(SpecificationError, match=r"the shape has the name \['a'\]; give text"):
        read_timeloop(write(text))
