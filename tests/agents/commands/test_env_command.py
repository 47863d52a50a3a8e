"""The environment of a comparison: ``mapgym compare --env``, and ``env`` in an experiment's file."""

from __future__ import annotations

import pytest

from command_line import one_sentence
from mapgym.agents.experiment.definition.experiment_file import load_experiment
from mapgym.agents.experiment.storage.folder import ExperimentFolder
from mapgym.errors import SpecificationError
from mapgym.evaluation.sparsity_aware import SparsityAware

TASK = ("--workload", "toy/tiny_conv", "--accelerator", "tiny_sparse", "--seeds", "1")


@pytest.mark.parametrize("agents", ["random,gamma", "maskable-ppo"])
def test_all_agents_minimise_what_the_environment_rewards(mapgym, agents, tmp_path):
    if "ppo" in agents:
        pytest.importorskip("sb3_contrib")
    command = ("compare", "--env", "MapSpaceSparse-v0", "--agents", agents, *TASK, "--density", "weights=0.4")
    status, _, err = mapgym(*command, "--objective", "energy", "--samples", "60", "-o", tmp_path / "runs")
    assert status == 0, err
    results = list(ExperimentFolder(tmp_path / "runs").results())
    assert len(results) == len(agents.split(","))
    for result in results:
        assert result.run.task.objective == SparsityAware(objective="energy")
        assert result.run.task.workload.tensor("Weights").density == 0.4
        # 12 mappings at 5 densities.
        assert result.samples == 60
        assert result.best_value >= 1


def test_densities_belong_to_the_sparse_environment(mapgym, tmp_path):
    command = ("compare", "--agents", "random", *TASK, "--samples", "20", "-o", tmp_path / "runs")
    assert mapgym(*command, "--env", "MapSpaceSparse-v0", "--densities", "1.0,0.5")[0] == 0
    (result,) = ExperimentFolder(tmp_path / "runs").results()
    assert result.run.task.objective == SparsityAware((1.0, 0.5))
    refused = mapgym(*command, "--env", "MapSpace-v0", "--densities", "1.0,0.5")
    assert "has no densities to vary" in one_sentence(refused[2])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--env", "MapSpaceSpars-v0"), "did you mean 'MapSpaceSparse-v0'"),
        (("--env", "MapSpaceRefine-v0"), "choose MapSpace-v0 or MapSpaceSparse-v0"),
        (("--env", "MapSpace-v0", "--objective", "sparsity-aware"), "choose MapSpaceSparse-v0"),
        (("--env", "MapSpaceSparse-v0", "--accelerator", "tiny"), "has no sparse features"),
    ],
)
def test_mistakes_are_answered_in_one_sentence(mapgym, options, message, tmp_path):
    result = mapgym("compare", "--agents", "random", *TASK, *options, "-o", tmp_path / "runs")
    assert message in one_sentence(result[2])
    assert not (tmp_path / "runs").exists()


def test_a_file_names_the_environment_too():
    data = {
        "tasks": {"workloads": ["toy/tiny_conv"], "accelerators": ["tiny_sparse"], "env": "MapSpaceSparse-v0"},
        "agents": ["random"],
        "budget": {"samples": 10},
    }
    (task,) = load_experiment(data).tasks
    assert task.objective == SparsityAware()
    data["tasks"]["env"] = ["MapSpaceSparse-v0"]
    with pytest.raises(SpecificationError, match="agents cannot be compared in the environment"):
        load_experiment(data)


def test_an_agent_has_no_other_environment_than_the_tasks():
    pytest.importorskip("sb3_contrib")
    data = {
        "tasks": {"workloads": ["toy/tiny_conv"], "accelerators": ["tiny"], "env": "MapSpace-v0"},
        "agents": [{"agent": "ppo", "label": "own", "parameters": {"env": "MapSpaceRefine-v0"}}],
        "budget": {"samples": 10},
    }
    with pytest.raises(SpecificationError, match="'MapSpace-v0', and the parameter env of 'own' is 'MapSpaceRef"):
        load_experiment(data)
    # Tasks that name none leave it to the agent.
    del data["tasks"]["env"]
    (entry,) = load_experiment(data).agents
    assert entry.parameters == {"env": "MapSpaceRefine-v0"}
