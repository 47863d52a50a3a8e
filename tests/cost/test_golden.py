"""Runs of the real Timeloop, reproduced by the product's reader and kernel and by the tests' own reader and model."""

from __future__ import annotations

import gzip
import json
from functools import partial
from pathlib import Path

import pytest

import reference_model
from golden_records import DENSE_SAMPLE, FACTS, read_accelerator, read_mapping, read_records, read_workload
from mapgym.cost import CostModel
from mapgym.errors import SpecificationError
from mapgym.mapping import Mapping
from mapgym.spec.accelerator import Accelerator
from mapgym.spec.workload import Workload
from mapgym.timeloop import timeloop_accelerator, validate_file as validate_records

RULES = "timeloop-2022"
validate_file = partial(validate_records, rules=RULES)
RECORDS = list(read_records(DENSE_SAMPLE))
FACTS_READ = json.loads(FACTS.read_text())
LEVEL_FIELDS = {
    "reads": "reads",
    "fills": "fills",
    "updates": "updates",
    "tile_words": "utilized_capacity",
    "partition_words": "partition_size",
}


def read(record: dict) -> tuple[Workload, Accelerator, Mapping]:
    accelerator = read_accelerator(FACTS_READ["accelerators"][record["arch"]]).counted_by(RULES)
    workload = read_workload(record["problem"], FACTS_READ["shapes"])
    return workload, accelerator, read_mapping(record, workload, accelerator)


def rewrite(path: Path, records: list[dict]) -> Path:
    with gzip.open(path, "wt") as lines:
        lines.writelines(json.dumps(record) + "\n" for record in records)
    return path


def test_sample_is_varied():
    assert len(RECORDS) == 250
    assert {record["arch"] for record in RECORDS} == set(FACTS_READ["accelerators"])
    assert len({record["workload"] for record in RECORDS}) == 25
    assert {"invalid:product", "invalid:fanout", "invalid:capacity", "invalid:allbypass", "bypass", "spatial_halo"} <= {
        record["style"] for record in RECORDS
    }


def test_reference_model_reproduces_every_field():
    for record in RECORDS:
        workload, accelerator, mapping = read(record)
        cost = reference_model.evaluate(workload, accelerator, mapping)
        assert cost.legal == record["valid"], record["id"]
        if not cost.legal:
            continue
        assert cost.latency_cycles == record["cycles"]
        assert cost.energy_pj == pytest.approx(record["energy_total_pJ"], rel=1e-12)
        assert cost.utilization == pytest.approx(record["utilization"], rel=1e-7)
        inner_name = accelerator.mac.name
        for s, level in enumerate(accelerator.levels):
            for t, tensor in enumerate(workload.tensors):
                where = (record["id"], level.name, tensor.name)
                if mapping.keep[s, t]:
                    golden = record["per_level"][level.name][tensor.name]
                    mine = {name: cost.counts[name][s, t] for name in LEVEL_FIELDS}
                    assert mine == {name: golden.get(field, 0) for name, field in LEVEL_FIELDS.items()}, where
                    assert cost.used_instances[s] == golden["utilized_instances"], where
                    assert cost.counts["energy_pj"][s, t] == pytest.approx(golden["energy_total_pJ"], rel=1e-9), where
                golden = record["networks"][f"{level.name} <==> {inner_name}"][tensor.name]
                assert cost.fanout_used[s] == golden["fanout"], where
                assert cost.counts["multicast"][s, t] == golden["multicast_factor"], where
                for name in ("ingresses", "link_transfers", "spatial_reductions"):
                    assert cost.counts[name][s, t] == pytest.approx(golden.get(name, 0) or 0, rel=1e-9), (*where, name)
            inner_name = level.name
            assert cost.level_cycles[s] == record["per_level"][level.name]["cycles"], (record["id"], level.name)


def test_kernel_reproduces_cost_and_verdict():
    for record in RECORDS:
        workload, accelerator, mapping = read(record)
        cost = CostModel(workload, accelerator).evaluate(mapping)
        assert cost.legal == record["valid"], (record["id"], record["reason"], cost.reason)
        if cost.legal:
            assert cost.latency_cycles == record["cycles"], record["id"]
            assert cost.energy_pj == pytest.approx(record["energy_total_pJ"], rel=1e-12), record["id"]
            assert cost.utilization == pytest.approx(record["utilization"], rel=1e-7), record["id"]


def test_validation_finds_every_case_exact():
    report = validate_file(DENSE_SAMPLE)
    assert (report.cases, report.verdicts_agree, report.compared, report.exact) == (250, 250, 189, 189)
    assert report.passed
    assert not report.worst
    assert max(report.max_rel_error.values()) <= 1e-9
    assert set(report.max_rel_error) == {"energy_pj", "latency_cycles", "counts"}


@pytest.mark.parametrize("name", sorted(FACTS_READ["accelerators"]))
def test_catalog_has_the_accelerators_of_the_runs(name):
    shipped, expected = timeloop_accelerator(name, None, "catalog"), read_accelerator(FACTS_READ["accelerators"][name])
    assert shipped.levels == expected.levels
    assert shipped.mac == expected.mac
    assert (shipped.peer_links, shipped.fanout_check) == (expected.peer_links, expected.fanout_check)


def test_validation_notices_wrong_figures(tmp_path):
    records = [
        json.loads(json.dumps(record)) for record in RECORDS if record["valid"] and "tiny" in record["workload"]
    ][:4]
    records[0]["energy_total_pJ"] *= 1.001
    records[1]["cycles"] += 1
    level = records[2]["mapping"]["levels"][0]["name"]
    next(iter(f for f in records[2]["per_level"][level].values() if isinstance(f, dict)))["reads"] += 1
    report = validate_file(rewrite(tmp_path / "wrong.jsonl.gz", records))
    assert (report.cases, report.verdicts_agree, report.compared, report.exact) == (4, 4, 4, 1)
    assert not report.passed
    assert {difference.id for difference in report.worst} == {record["id"] for record in records[:3]}
    assert report.max_rel_error["energy_pj"] == pytest.approx(0.001, rel=0.01)
    assert report.max_rel_error["latency_cycles"] > 0
    assert report.max_rel_error["counts"] > 0


def test_validation_notices_a_wrong_verdict(tmp_path):
    legal = next(record for record in RECORDS if record["valid"])
    illegal = next(record for record in RECORDS if not record["valid"])
    records = [legal | {"valid": False, "reason": "ERROR"}, illegal]
    report = validate_file(rewrite(tmp_path / "verdicts.jsonl.gz", records))
    assert (report.cases, report.verdicts_agree) == (2, 1)
    assert not report.passed
    assert [difference.id for difference in report.worst] == [legal["id"]]


def test_a_file_without_records_is_refused(tmp_path):
    file = tmp_path / "empty.jsonl"
    file.write_text("\n")
    with pytest.raises(SpecificationError, match="holds no records"):
        validate_file(file)


def test_a_figure_that_is_not_a_number_is_equal_to_nothing(tmp_path):
    record = next(record for record in RECORDS if record["valid"])
    report = validate_file(rewrite(tmp_path / "nan.jsonl.gz", [record | {"energy_total_pJ": float("nan")}]))
    assert not report.passed
    assert report.max_rel_error["energy_pj"] == float("inf")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"problem": 3}, "a value is of the wrong kind"),
        ({"problem": {"shape": "cnn7", "dims": {}}}, "'stride' is missing"),
        ({"problem": {"shape": ["cnn7"], "dims": {}}}, "a value is of the wrong kind"),
        ({"problem": {"shape": "cnn", "dims": {}}}, "unknown shape 'cnn'; did you mean 'cnn7'"),
        ({"mapping": {}}, "'levels' is missing"),
        ({"mapping": [1]}, "a value is of the wrong kind"),
        ({"mapping": {"levels": [{"name": "DRAM"}]}}, "'temporal' is missing"),
        ({"energy_total_pJ": "much"}, "a value is of the wrong kind"),
        ({"arch": "accel_z"}, "architecture 'accel_z' is not in the catalog"),
    ],
)
def test_a_malformed_record_is_named(tmp_path, changes, message):
    record = next(record for record in RECORDS if record["valid"])
    file = rewrite(tmp_path / "bad.jsonl.gz", [record | changes])
    with pytest.raises(SpecificationError, match=rf"bad\.jsonl\.gz: record '{record['id']}': .*{message}"):
        validate_file(file)


def as_einsum(record: dict) -> dict:
    """The same record with its tensors spelt out, as records of other layers than the three known shapes have them."""
    problem = record["problem"]
    workload = read_workload(problem, FACTS_READ["shapes"])
    tensors = {
        tensor.name: {"projection": [dict(rank) for rank in tensor.ranks]}
        | ({"output": True} if tensor.is_output else {})
        for tensor in workload.tensors
    }
    dims = dict(zip(workload.dims, workload.bounds, strict=True))
    return record | {"problem": {"shape": "einsum", "dims": dims, "tensors": tensors}}


def test_records_that_spell_their_tensors_out_are_read(tmp_path):
    report = validate_file(rewrite(tmp_path / "einsum.jsonl.gz", [as_einsum(record) for record in RECORDS]))
    assert (report.cases, report.verdicts_agree, report.compared, report.exact) == (250, 250, 189, 189)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tensors": {"A": {"projection": [{"M": 1}]}}}, "0 output tensors"),
        ({"tensors": {"A": {"projection": [{"M": 1.5}], "output": True}}}, "the coefficient of dim 'M' is 1.5"),
        ({"tensors": {"A": {"projection": "M", "output": True}}}, "a value is of the wrong kind"),
        ({"tensors": {"A": {"output": True}}}, "'projection' is missing"),
        ({"tensors": ["A"]}, "a value is of the wrong kind"),
        ({"dims": [3]}, "a value is of the wrong kind"),
        ({"dims": {"M": "x"}}, "the bound of dim 'M' is 'x'"),
        ({"densities": {"A": {"distribution": "fixed-structured", "density": 0.5}}}, "has no tensor 'A'"),
    ],
)
def test_a_malformed_einsum_is_named(tmp_path, changes, message):
    record = as_einsum(next(record for record in RECORDS if record["valid"]))
    file = rewrite(tmp_path / "bad.jsonl.gz", [record | {"problem": record["problem"] | changes}])
    with pytest.raises(SpecificationError, match=rf"bad\.jsonl\.gz: record '{record['id']}': .*{message}"):
        validate_file(file)


def test_names_of_levels_and_tensors_are_no_paths(tmp_path):
    """A level whose name has a slash or the word energy is compared like any other."""
    record = next(record for record in RECORDS if record["valid"])
    name = FACTS_READ["accelerators"][record["arch"]]["levels"][0]["name"]
    renamed = json.loads(json.dumps(record).replace(name, "energy/cycles"))
    arch = tmp_path / "arch.json"
    described = {record["arch"]: FACTS_READ["accelerators"][record["arch"]]}
    arch.write_text(json.dumps(described).replace(name, "energy/cycles"))
    level = renamed["per_level"]["energy/cycles"]
    tensor = next(key for key, figures in level.items() if isinstance(figures, dict))
    report = validate_file(rewrite(tmp_path / "names.jsonl.gz", [renamed]), arch)
    assert (report.exact, report.compared) == (1, 1)
    level[tensor]["reads"] += 1
    report = validate_file(rewrite(tmp_path / "wrong.jsonl.gz", [renamed]), arch)
    assert report.max_rel_error["counts"] > 0
    assert report.max_rel_error["energy_pj"] < 1e-9


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("[" * 100_000, "line 2 is nested too deeply"),
        ('{"id": ' + "9" * 5000 + "}", "line 2 is not JSON"),
        ('{"id": 1', "line 2 is not JSON"),
        ("[1]", "line 2 has no 'id'"),
        (b"\xff", "line 2 is not UTF-8"),
        (b"{" + b" " * 17_000_000 + b"}", "line 2 is beyond 16 MiB"),
    ],
)
def test_a_line_that_is_no_record_is_named(tmp_path, line, message):
    file = tmp_path / "bad.jsonl.gz"
    text = line if isinstance(line, bytes) else line.encode()
    with gzip.open(file, "wb") as lines:
        lines.write(b"\n" + text + b"\n")
    with pytest.raises(SpecificationError, match=rf"bad\.jsonl\.gz: {message}"):
        validate_file(file)


def test_a_file_that_is_not_whole_is_refused(tmp_path):
    whole = rewrite(tmp_path / "whole.jsonl.gz", RECORDS[:3]).read_bytes()
    for name, content in (("cut", whole[:-20]), ("other", b"text"), ("empty", b"")):
        file = tmp_path / f"{name}.jsonl.gz"
        file.write_bytes(content)
        with pytest.raises(SpecificationError, match=rf"{name}\.jsonl\.gz: (cannot read it|holds no records)"):
            validate_file(file)
    with pytest.raises(SpecificationError, match="cannot read it"):
        validate_file(tmp_path)
    with pytest.raises(SpecificationError, match="cannot read it"):
        validate_file(tmp_path / "missing.jsonl")
