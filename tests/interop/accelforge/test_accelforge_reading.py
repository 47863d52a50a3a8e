"""Architectures for AccelForge, written for these tests."""

from __future__ import annotations

import pytest

from mapgym.cost import CostModel
from mapgym.errors import SpecificationError
from mapgym.interop.accelforge import read_accelforge
from mapgym.mapping import Mapping
from mapgym.spec import catalog
from mapgym.timeloop.reading.energies import Estimate

ARCH = """
{% set ROWS = ROWS | default(4) %}
variables: {clock: 0.5e9}
arch:
  nodes:
  - !Memory
    name: Off
    size: inf
    leak_power: 0
    tensors: {keep: ~Intermediates, may_keep: All}
    actions:
    - {name: read, energy: 2e-12, throughput: 16 * clock}
    - {name: write, energy: 3e-12, throughput: 16 * clock}
  - !Memory
    name: Shared
    size: 1024 * 8
    area: 2e-6
    leak_power: 1e-3
    total_latency: max(a.n_calls / a.throughput for a in actions)
    tensors: {keep: input | output}
    actions:
    - {name: read, energy: 8e-12, bits_per_action: 64, throughput: clock}
    - {name: write, energy: 16e-12, bits_per_action: 64, throughput: clock / 2}
  - !Container
    name: Array
    spatial:
    - {name: rows, fanout: {{ROWS}}, reuse: input, min_usage: 1}
    - {name: columns, fanout: 2, may_reuse: ~weight}
  - !Memory
    name: Register
    component_class: Dummy
    size: weight.bits_per_value if weight else 1
    tensors: {keep: weight}
  - !Compute
    name: Vector
    enabled: len(All) == 2
  - !Compute
    name: MAC
    leak_power: 0
    spatial: [{name: lanes, fanout: 3}]
    actions:
    - {name: compute, energy: 0.25e-12, throughput: clock}
"""


def written(folder, text, name="machine.arch.yaml"):
    path = folder / name
    path.write_text(text)
    return path


def test_an_architecture(tmp_path):
    found = read_accelforge(written(tmp_path, ARCH))
    (machine,) = found.accelerators
    assert machine.name == "machine"
    register, shared, off = machine.levels
    assert [(level.name, level.mesh_x, level.mesh_y, level.capacity_words) for level in machine.levels] == [
        ("Register", 4, 2, 1),
        ("Shared", 1, 1, 1024),
        ("Off", 1, 1, None),
    ]
    assert (machine.mac.mesh_x, machine.mac.mesh_y, machine.mac.energy_pj) == (12, 2, 0.25)
    assert (register.keep_only, shared.keep_only, off.keep_only) == (("Weights",), ("Inputs", "Outputs"), None)
    # Joules of a bit become pJ of a word of 8 bits; of 64 bits, an eighth of that.
    assert dict(off.action_energies_pj) == {"read": 16.0, "write": 24.0}
    assert dict(shared.action_energies_pj) == {"read": 1.0, "write": 2.0, "leak": 2.0}
    assert dict(register.action_energies_pj) == {"read": 0.0, "write": 0.0}
    # A cycle is the time of a multiply-accumulate.
    assert off.shared_bandwidth_words_per_cycle == 2.0
    assert (shared.read_bandwidth_words_per_cycle, shared.write_bandwidth_words_per_cycle) == (8.0, 4.0)
    assert shared.area_um2 == 2e6
    assert off.no_multicast == shared.no_multicast == ()
    assert not machine.peer_links
    said = [str(each) for each in found.ignored]
    for part in (
        *("words: workloads say", "Array: spatial: reuse", "Array: spatial: min_usage", "Vector: enabled: it is off"),
        *("Register: tensors: keep: must be kept", "Array columns: may_reuse: Weights may be shared"),
    ):
        assert any(part in each for each in said), (part, said)


def test_what_may_not_be_shared_along_any_axis_is_not(tmp_path):
    text = ARCH.replace("min_usage: 1}", "may_reuse: output}")
    (machine,) = read_accelforge(written(tmp_path, text)).accelerators
    assert machine.levels[1].no_multicast == ("Weights",)


def test_values_of_templates_and_widths(tmp_path):
    (machine,) = read_accelforge(written(tmp_path, ARCH), word_bits=16, values={"ROWS": "5"}).accelerators
    assert machine.mac.instances == 5 * 2 * 3
    assert machine.levels[1].capacity_words == 512
    assert dict(machine.levels[2].action_energies_pj)["read"] == 32.0
    wide = ARCH.replace("    area: 2e-6", "    bits_per_value: {output: 3 * output.bits_per_value, input: 24}")
    (machine,) = read_accelforge(written(tmp_path, wide)).accelerators
    assert (machine.levels[1].word_bits, machine.levels[1].capacity_words) == (24, 8192 // 24)


def test_component_models_and_an_estimate(tmp_path):
    text = ARCH.replace("    leak_power: 1e-3", "    component_class: SmartBufferSRAM").replace("energy: 8e-12, ", "")
    path = written(tmp_path, text)
    with pytest.raises(SpecificationError, match="'Shared': the energy of read comes from the component model 'Smart"):
        read_accelforge(path)
    found = read_accelforge(path, energies="pat")
    energies = dict(found.accelerators[0].levels[1].action_energies_pj)
    assert energies == {"read": pytest.approx(Estimate().sram_pj(1024, 8, 1, 1)), "write": 2.0}
    assert any("Shared: energy: is estimated (pat)" in str(each) for each in found.ignored)
    with pytest.raises(SpecificationError, match="choose 'pat'"):
        read_accelforge(path, energies="cacti")


def test_what_comes_in_can_be_priced(tmp_path):
    (machine,) = read_accelforge(written(tmp_path, ARCH)).accelerators
    layer = catalog.workload("toy/tiny_gemm")
    assert CostModel(layer, machine).evaluate(Mapping.trivial(layer, machine)).legal


@pytest.mark.parametrize(
    ("old", "new", "part"),
    [
        (
            "- !Container\n    name: Array",
            "- !Fork\n    nodes: []\n  - !Container\n    name: Array",
            "a Fork, with a second kind",
        ),
        (
            "- !Container\n    name: Array",
            "- !Toll\n    name: T\n  - !Container\n    name: Array",
            "a Toll, which charges",
        ),
        ("    enabled: len(All) == 2\n", "", "nodes has 2 kinds of compute units"),
        ("enabled: len(All) == 2", "enabled: mode == 1", "'Vector': enabled is 'mode == 1'"),
        ("max(a.n_calls / a.throughput", "max(a.n_calls ** 2", "'Shared': total_latency is"),
        ("max(a.n_calls / a.throughput", "sum(a.n_calls / a.throughput", "reads and writes of different throughputs"),
        (
            "tensors: {keep: ~Intermediates, may_keep: All}",
            "tensors: {keep: input}",
            "the outermost memory does not hold",
        ),
        ("size: 1024 * 8", "size: 7", "size is 7 bits, less than a word of 8"),
        ("size: 1024 * 8", "size: big", "'Shared': size"),
        ("    size: 1024 * 8\n", "", "'Shared' has no size"),
        ("area: 2e-6", "n_parallel_instances: 2", "n_parallel_instances cannot be expressed"),
        ("area: 2e-6", "bits_per_value: {output: 16}", "words of several widths"),
        ("name: Shared", "name: Off", "names a level twice"),
        ("max(a.n_calls / a.throughput", "max(a.n_calls * 1e300 / a.throughput", "'Shared': total_latency is"),
        ("throughput: clock / 2", "throughput: clock * 1e-300", "write_bandwidth_words_per_cycle is"),
        ("fanout: 2", "fanout: 2.5", "fanout is 2.5; give a whole number"),
        ("may_reuse: ~weight", "may_reuse: wieght", "did you mean 'weight'"),
        ("energy: 0.25e-12, throughput: clock", "energy: 0.25e-12, throughput: -1", "give a number above 0"),
        ("{{ROWS}}", "{{COLUMNS}}", "the template needs a value"),
        (
            "  nodes:\n  - !Memory\n    name: Off",
            "  nodes:\n  - !Memory\n    spatial: [{fanout: 2}]\n    name: Off",
            "several outermost",
        ),
        ("  - !Memory\n    name: Register", "  - !Cache\n    name: Register", "is '!Cache'; give one of"),
        ("arch:", "design:", "has no key 'arch'"),
    ],
)
def test_what_cannot_be_expressed(tmp_path, old, new, part):
    assert old in ARCH
    path = written(tmp_path, ARCH.replace(old, new))
    with pytest.raises(SpecificationError) as error:
        read_accelforge(path)
    assert str(path) in str(error.value)
    assert part in str(error.value)


def test_other_sections_are_said_to_be_left_out(tmp_path):
    found = read_accelforge(written(tmp_path, ARCH + "workload: {einsums: []}\n"))
    assert any("workload: only architectures are imported" in str(each) for each in found.ignored)


def test_no_files():
    with pytest.raises(SpecificationError, match="name at least one"):
        read_accelforge([])
