"""The one task of environments, experiments and studies."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mapgym import envs
from mapgym.errors import SpecificationError
from mapgym.evaluation.sparsity_aware import SparsityAware
from mapgym.evaluation.task import KEEP_ALL, Task, axes_label, cross, distinct_tasks, rules_text
from mapgym.spec import catalog

LAYER, MACHINE = catalog.workload("paper/resnet_conv4"), catalog.accelerator("accel_b")
PLAIN = Task(LAYER, MACHINE)


def test_environments_have_the_same():
    assert envs.Task is Task
    assert envs.TaskDistribution(LAYER, MACHINE).tasks == (PLAIN,)


def test_names_leave_out_what_is_ordinary_and_full_names_do_not():
    peculiar = Task(LAYER, replace(MACHINE, peer_links=False), (*KEEP_ALL, "bypass"), "energy")
    assert (PLAIN.name, PLAIN.file_stem) == ("paper/resnet_conv4 on accel_b", "paper-resnet_conv4__accel_b")
    assert PLAIN.full_name == "paper/resnet_conv4 on accel_b, keep-all"
    assert PLAIN.full_file_stem == "paper-resnet_conv4__accel_b__links__keep-all__edp"
    assert peculiar.name == "paper/resnet_conv4 on accel_b, no links, bypass, energy"
    assert peculiar.full_file_stem == "paper-resnet_conv4__accel_b__no-links__bypass__energy"


def test_rules_are_said_where_they_are_not_the_default():
    earlier = Task(LAYER, MACHINE.counted_by("timeloop-2022"), (*KEEP_ALL, "bypass"))
    assert earlier.name == "paper/resnet_conv4 on accel_b, timeloop-2022, bypass"
    assert earlier.file_stem == "paper-resnet_conv4__accel_b__timeloop-2022__bypass"
    assert earlier.full_name == "paper/resnet_conv4 on accel_b, bypass, timeloop-2022"
    assert earlier.full_file_stem == "paper-resnet_conv4__accel_b__links__bypass__edp__timeloop-2022"
    assert Task(LAYER, MACHINE.counted_by("timeloop-3.0.3")).file_stem == "paper-resnet_conv4__accel_b__timeloop-3.0.3"
    machines = (MACHINE, MACHINE.counted_by("timeloop-2022"), catalog.accelerator("accel_a"))
    assert rules_text(machines) == "timeloop-2025, timeloop-2022"
    assert len({task.key for task in cross([LAYER], machines)}) == 3


def test_the_key_knows_no_names_and_no_order_of_axes():
    renamed = Task(replace(LAYER, name="other"), MACHINE, KEEP_ALL[::-1])
    assert renamed.key == PLAIN.key
    assert replace(PLAIN, objective="energy").key != PLAIN.key
    assert distinct_tasks([LAYER, renamed.workload], [MACHINE], [KEEP_ALL], "edp") == [PLAIN]


@pytest.mark.parametrize(
    ("objective", "metric"),
    [("latency", "latency"), (SparsityAware(objective="energy"), "energy"), (str(SparsityAware()), "edp")],
)
def test_the_metric_of_an_objective(objective, metric):
    assert Task(LAYER, MACHINE, objective=objective).metric == metric


def test_an_unknown_objective_is_refused():
    with pytest.raises(SpecificationError, match="objective"):
        Task(LAYER, MACHINE, objective="area")


def test_cross_goes_accelerator_by_accelerator():
    other, layer = catalog.accelerator("accel_a"), catalog.workload("toy/tiny_gemm")
    assert [task.name for task in cross([LAYER, layer], [MACHINE, other])] == [
        "paper/resnet_conv4 on accel_b",
        "toy/tiny_gemm on accel_b",
        "paper/resnet_conv4 on accel_a",
        "toy/tiny_gemm on accel_a",
    ]


def test_labels_of_axes():
    assert [axes_label(axes) for axes in (KEEP_ALL, (*KEEP_ALL, "bypass"), ("tile", "order"))] == [
        "keep-all",
        "bypass",
        "tile+order",
    ]
