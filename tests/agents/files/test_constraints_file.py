"""Constraints in files: ours and Timeloop's, for one task and for the layers of a network."""

from __future__ import annotations

import json

import pytest

from brute_force_spaces import toy_accelerator, toy_workload
from mapgym.agents.files.constraints_file import ConstraintsFile, read_constraints
from mapgym.errors import SpecificationError
from mapgym.spec.constraints import Constraints
from mapgym.spec.workload import matmul

LAYER, OTHER, MACHINE = toy_workload(), matmul("product", M=4, N=4, K=4), toy_accelerator()
OWN = "factors: {Buffer: {P: {temporal: 1}, N: {temporal: <=2}}}\norders: {Memory: [P, '*']}\nparallel_dims: [K, P]\n"
THEIRS = "mapspace_constraints: [{target: Buffer, type: temporal, factors: P=1 N<=2, permutation: PN}]\n"


@pytest.fixture(params=[OWN, THEIRS])
def path(request, tmp_path):
    path = tmp_path / "constraints.yaml"
    path.write_text(request.param)
    return path


def test_layers_leave_out_the_dims_that_they_do_not_have(path):
    file = read_constraints(path).for_network([LAYER, OTHER])
    for workload, factors in ((LAYER, {"P": {"temporal": 1}}), (OTHER, {"N": {"temporal": "<=2"}})):
        found = file.for_layer(workload, MACHINE)
        found.constraints.check_names(workload, MACHINE)
        assert found.constraints.factors == {"Buffer": factors}
        assert not found.ignored


def test_a_stored_file_reads_to_the_same(path):
    file = read_constraints(path).for_network([LAYER, OTHER])
    again = ConstraintsFile.from_dict(json.loads(json.dumps(file.to_dict())), "x").for_network([LAYER, OTHER])
    assert again.for_layer(LAYER, MACHINE) == file.for_layer(LAYER, MACHINE)
    assert again.to_dict() == file.to_dict()


def test_a_dim_that_no_layer_has_is_refused(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text(OWN)
    with pytest.raises(SpecificationError, match="the dim 'N', which no layer of the network has"):
        read_constraints(path).for_network([LAYER])
    path.write_text(THEIRS.replace("N<=2", "N=2"))
    with pytest.raises(SpecificationError, match="has no dim 'N'"):
        read_constraints(path).for_network([LAYER]).for_layer(LAYER, MACHINE)


def test_hardware_of_a_network_is_not_changed(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text("constraints: [{target: Buffer, type: temporal, no_reuse: [Weights]}]")
    found = read_constraints(path).for_task(LAYER, MACHINE)
    assert found.accelerator.levels[1].no_temporal_reuse == ("Weights",)
    with pytest.raises(SpecificationError, match="give it to the accelerator"):
        read_constraints(path).for_network([LAYER]).for_layer(LAYER, MACHINE)


def test_an_empty_list_of_theirs_is_no_constraint(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text("mapspace_constraints: []\n")
    assert read_constraints(path).for_task(LAYER, MACHINE).constraints == Constraints()


def test_a_file_without_constraints_is_refused(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text("[1]")
    with pytest.raises(SpecificationError, match="holds no keys"):
        read_constraints(path)
