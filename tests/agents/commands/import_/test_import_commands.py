"""``mapgym import zigzag`` and ``mapgym import accelforge``, end to end."""

from __future__ import annotations

import json

import yaml

from command_line import one_sentence
from mapgym.spec import catalog

PORT = {"name": "rw_port_1", "type": "read_write", "bandwidth_min": 8, "bandwidth_max": 64}
ALLOCATION = [f"{operand}, {way}" for operand in ("I1", "I2", "O") for way in ("fh", "tl")]
MEMORY = {
    "size": 2**20,
    "r_cost": 64,
    "w_cost": 64,
    "area": 3,
    "latency": 1,
    "operands": ["I1", "I2", "O"],
    "ports": [{**PORT, "allocation": ALLOCATION}],
    "served_dimensions": ["D1"],
}
ACCELERATOR = {
    "name": "mine",
    "memories": {"buffer": MEMORY, "off": MEMORY},
    "operational_array": {"unit_energy": 0.5, "dimensions": ["D1"], "sizes": [4]},
}
LAYER = {
    "id": 0,
    "operator_type": "Gemm",
    "equation": "O[m][n]+=I[m][k]*W[k][n]",
    "loop_dims": ["M", "K", "N"],
    "loop_sizes": [4, 5, 6],
}
ARCH = """
arch:
  nodes:
  - !Memory {name: Off, size: inf, actions: [{name: read, energy: 1e-12}, {name: write, energy: {{WRITE}}}]}
  - !Compute {name: MAC, actions: [{name: compute, energy: 1e-12, throughput: 1e9}]}
"""


def test_zigzag(mapgym, tmp_path):
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(ACCELERATOR))
    (tmp_path / "net.yaml").write_text(yaml.safe_dump([LAYER]))
    files = (tmp_path / "mine.yaml", tmp_path / "net.yaml")
    status, out, error = mapgym("import", "zigzag", *files, "-o", tmp_path / "ours", "--word-bits", "16")
    assert (status, error) == (0, "")
    assert f"{tmp_path}/ours/mine.yaml: accelerator mine, 2 storage levels, 4 multipliers" in out
    assert f"{tmp_path}/ours/net.yaml: network net, 1 distinct layers, 120 multiply-accumulates" in out
    assert f"{tmp_path}/mine.yaml: buffer, off: area: areas have no unit there" in out
    text = (tmp_path / "ours" / "mine.yaml").read_text()
    assert text.startswith(f"# Imported from {tmp_path}/mine.yaml, a file for ZigZag.")
    machine = catalog.accelerator(str(tmp_path / "ours" / "mine.yaml"))
    assert machine.levels[0].capacity_words == 2**16
    search = mapgym("search", f"{tmp_path}/ours/net.yaml:layer0", tmp_path / "ours/mine.yaml", "--samples", "20")
    assert search[0] == 0
    status, out, _ = mapgym("import", "zigzag", *files, "-o", tmp_path / "again", "--json")
    data = json.loads(out)
    assert data["written"] == [f"{tmp_path}/again/mine.yaml", f"{tmp_path}/again/net.yaml"]
    assert {"file", "key", "why"} == data["ignored"][0].keys()


def test_accelforge(mapgym, tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(ARCH)
    status, _, error = mapgym("import", "accelforge", path, "-o", tmp_path / "ours")
    assert status == 2
    assert "the template needs a value" in one_sentence(error)
    status, out, _ = mapgym("import", "accelforge", path, "-o", tmp_path / "ours", "--define", "WRITE=2e-12")
    assert status == 0
    machine = catalog.accelerator(str(tmp_path / "ours" / "mine.yaml"))
    assert dict(machine.levels[0].action_energies_pj) == {"read": 8.0, "write": 16.0}
    assert "words: workloads say how wide they are" in out


def test_nothing_is_written_unless_all_is(mapgym, tmp_path):
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(ACCELERATOR))
    (tmp_path / "same.yaml").write_text(yaml.safe_dump(ACCELERATOR))
    (tmp_path / "bad.yaml").write_text("memories: {}\n")
    for files, part in (
        (("mine.yaml", "bad.yaml"), "bad.yaml: operational_array is None"),
        (("mine.yaml", "same.yaml"), "two of what is imported are called 'mine'"),
        (("mine.yaml", "missing.yaml"), "missing.yaml: there is no such file"),
    ):
        paths = [tmp_path / name for name in files]
        status, out, error = mapgym("import", "zigzag", *paths, "-o", tmp_path / "ours")
        assert (status, out) == (2, "")
        assert part in one_sentence(error)
        assert not (tmp_path / "ours").exists()
    status, _, error = mapgym("import", "accelforge", tmp_path / "mine.yaml", "-o", tmp_path / "ours", "--define", "x")
    assert "--define is 'x'; give NAME=VALUE" in one_sentence(error)
