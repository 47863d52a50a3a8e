"""One mapping for several densities: the objective, its prices, and what the evaluator makes of them."""

from __future__ import annotations

import copy
import csv
import json
import math
import pickle

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from command_line import one_sentence
from mapgym.agents.experiment.definition.densities import read_objective, task_workload
from mapgym.agents.experiment.definition.experiment_file import load_experiment
from mapgym.agents.experiment.execution.runner import run_experiment
from mapgym.agents.experiment.storage.known_mappings import Improvements, improvements
from mapgym.cost import CostModel, lower_bound
from mapgym.errors import SpecificationError
from mapgym.evaluation.evaluator import Budget, Evaluator
from mapgym.evaluation.sparsity_aware import (
    DENSITIES,
    DensitySet,
    SparsityAware,
    is_sparsity_aware,
    samples_per_mapping,
)
from mapgym.mapping import MappingBatch
from mapgym.mapspace import MapSpace
from mapgym.spec import catalog
from mapgym.testing.agents import small_accelerator, small_sparse_accelerator

LAYER = catalog.workload("toy/tiny_conv")
MACHINE = catalog.accelerator("tiny_sparse_md")

numbers = st.lists(st.floats(0.001, 1.0), min_size=1, max_size=5, unique=True)


def sample(n, layer=LAYER, machine=MACHINE, seed=0):
    return MapSpace(layer, machine).sample(np.random.default_rng(seed), n)


def price_at(density, batch, layer=LAYER, machine=MACHINE):
    workload = layer.with_densities({"Inputs": density})
    return CostModel(workload, machine).evaluate(batch), lower_bound(workload, machine)


@pytest.mark.parametrize(
    ("aware", "text"),
    [
        (SparsityAware(), "sparsity-aware:edp:1.0,0.8,0.5,0.2,0.1"),
        (SparsityAware((0.1, 1)), "sparsity-aware:edp:1.0,0.1"),
        (SparsityAware((0.1, 1), (2, 2)), "sparsity-aware:edp:1.0,0.1"),
        (SparsityAware((0.1, 1), (1, 3), "energy"), "sparsity-aware:energy:1.0,0.1:3.0,1.0"),
        (SparsityAware([0.5], tensor="A"), "sparsity-aware:edp:0.5:1.0:A"),
        (SparsityAware.parse("sparsity-aware"), "sparsity-aware:edp:1.0,0.8,0.5,0.2,0.1"),
        (SparsityAware.parse("sparsity-aware:latency"), "sparsity-aware:latency:1.0,0.8,0.5,0.2,0.1"),
        (SparsityAware.parse("sparsity-aware::0.1,0.5:1,2"), "sparsity-aware:edp:0.5,0.1:2.0,1.0"),
    ],
)
def test_the_text_form(aware, text):
    assert str(aware) == aware == text
    assert json.loads(json.dumps({"objective": aware})) == {"objective": text}


@given(numbers, st.data())
def test_text_and_copies_say_the_same(densities, data):
    weights = data.draw(st.none() | st.lists(st.floats(0.1, 9), min_size=len(densities), max_size=len(densities)))
    aware = SparsityAware(densities, weights, data.draw(st.sampled_from(["edp", "energy", "latency"])))
    for again in (SparsityAware.parse(str(aware)), pickle.loads(pickle.dumps(aware)), copy.deepcopy(aware)):
        assert again == aware
        assert hash(again) == hash(aware)
        assert vars(again) == vars(aware)
    assert math.isclose(sum(aware.shares), 1.0)
    assert list(aware.densities) == sorted(densities, reverse=True)
    assert SparsityAware(densities[::-1], weights and weights[::-1], aware.objective) == aware


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (((),), "at least one"),
        (((0.5, 0.5),), "each one once"),
        (((0.0,),), "a density is 0.0; give a number above 0 and at most 1"),
        (((1.5,),), "a density is 1.5"),
        ((("much",),), "a density is 'much'"),
        (((True,),), "a density is True"),
        ((None,), "a density is None; give a number above 0"),
        ((MACHINE,), "a density is "),
        (((1.0, 0.5), (1,)), r"2 densities \(1.0,0.5\) and 1 weights \(1.0\); give one weight for each"),
        (((1.0,), (0,)), "a weight of a density is 0; give a number above 0"),
        (((1.0,), None, "epd"), "unknown objective 'epd'; did you mean 'edp'"),
        (((1.0,), None, "edp", "a:b"), "tensor is 'a:b'"),
    ],
)
def test_wrong_arguments_are_named(arguments, message):
    with pytest.raises(SpecificationError, match=message):
        SparsityAware(*arguments)


@pytest.mark.parametrize("text", ["edp", "sparsity-aware:edp:1:1:A:b", "sparsity-aware:edp:x", "sparsity"])
def test_wrong_texts_are_named(text):
    with pytest.raises(SpecificationError, match=text):
        SparsityAware.parse(text)


def test_which_objectives_are_sparsity_aware():
    assert is_sparsity_aware(SparsityAware())
    assert is_sparsity_aware("sparsity-aware:nonsense")
    assert not any(map(is_sparsity_aware, ("edp", "pareto", "sparsity-awareness", None)))
    assert [samples_per_mapping(o) for o in ("edp", "sparsity-aware", SparsityAware((1, 0.5)))] == [1, 5, 2]


@pytest.mark.parametrize("objective", ["edp", "energy", "latency"])
def test_the_value_by_hand(objective):
    """Two densities of which the first weighs three times as much as the second."""
    aware = SparsityAware((1.0, 0.25), (3, 1), objective)
    batch = sample(20)
    costs = DensitySet(LAYER, MACHINE, aware).evaluate(batch)
    (dense, dense_bound), (sparse, sparse_bound) = price_at(1.0, batch), price_at(0.25, batch)
    ratios = dense.objective(objective) / dense_bound.objective(objective)
    others = sparse.objective(objective) / sparse_bound.objective(objective)
    assert costs.objective(aware) == pytest.approx(ratios**0.75 * others**0.25, rel=1e-12)
    assert costs.per_density(objective).tolist() == [
        dense.objective(objective).tolist(),
        sparse.objective(objective).tolist(),
    ]
    means = dense.objective(objective) ** 0.75 * sparse.objective(objective) ** 0.25
    assert costs.objective(objective) == pytest.approx(means, rel=1e-12)
    assert costs.utilization == pytest.approx(dense.utilization**0.75 * sparse.utilization**0.25, rel=1e-12)


@settings(max_examples=25)
@given(numbers, st.integers(0, 99))
def test_the_value_is_a_mean_of_ratios_to_bounds(densities, seed):
    aware = SparsityAware(densities)
    batch = sample(8, seed=seed)
    densities_set = DensitySet(LAYER, MACHINE, aware)
    values = densities_set.evaluate(batch).objective(aware)
    priced = [price_at(density, batch) for density in aware.densities]
    ratios = np.array([costs.edp / bound.edp for costs, bound in priced])
    assert np.all(values >= 1)
    assert np.all(values >= ratios.min(axis=0) * (1 - 1e-9))
    assert np.all(values <= ratios.max(axis=0) * (1 + 1e-9))
    assert densities_set.lower_bound.objective(aware) == 1.0
    means = densities_set.evaluate(batch)
    assert means.objective(aware) == pytest.approx(means.edp / densities_set.lower_bound.edp)


def test_dividing_by_other_bounds_would_choose_the_same_mapping():
    """The reason for a geometric mean: dense costs, which are largest, cannot drown the others."""
    aware = SparsityAware()
    costs = DensitySet(LAYER, MACHINE, aware).evaluate(sample(200))
    arbitrary = np.array([1.0, 50.0, 3.0, 7.0, 1e6])[:, None]
    means = np.exp(np.log(costs.per_density("edp") / arbitrary).mean(axis=0))
    assert np.argsort(means, kind="stable").tolist() == np.argsort(costs.objective(aware), kind="stable").tolist()


def test_a_mapping_costs_the_same_alone_and_in_any_batch():
    aware = SparsityAware()
    densities = DensitySet(LAYER, MACHINE, aware)
    batch = sample(37)
    costs = densities.evaluate(batch)
    for i in range(len(batch)):
        alone = densities.evaluate(batch[i])
        assert alone.objective(aware) == costs.objective(aware)[i] == costs[i].objective(aware)
        assert (alone.energy_pj, alone.latency_cycles) == (costs.energy_pj[i], costs.latency_cycles[i])
        assert alone.objective("edp") == alone.edp
        assert alone.density_energy_pj.tolist() == costs.density_energy_pj[:, i].tolist()


def crowded():
    """Mappings of the space at density 0.2, most of which have no room for dense inputs."""
    sparse = LAYER.with_densities({"Inputs": 0.2, "Weights": 0.2})
    batch = sample(300, sparse)
    legal = price_at(1.0, batch, sparse)[0].legal
    assert 0 < legal.sum() < len(batch)
    return sparse, batch, legal


def test_a_mapping_is_legal_if_it_is_at_every_density():
    layer, batch, legal = crowded()
    aware = SparsityAware((0.2, 1.0))
    densities = DensitySet(layer, MACHINE, aware)
    costs = densities.evaluate(batch)
    assert costs.legal.tolist() == legal.tolist()
    assert np.isfinite(costs.objective(aware)).tolist() == legal.tolist()
    assert np.isfinite(costs.per_density("energy")).tolist() == [legal.tolist()] * 2
    i = int(np.argmin(legal))
    dense = price_at(1.0, batch, layer)[0]
    assert costs.status[i] == dense.status[i]
    assert costs.reason(i) == costs[i].reason == f"with the density 1 of Inputs: {dense.reason(i)}"
    assert not costs[i].legal
    assert costs[i].utilization == 0.0
    assert costs.reason(int(np.argmax(legal))) == ""


def test_no_mappings_have_no_costs():
    costs = DensitySet(LAYER, MACHINE, SparsityAware()).evaluate(MappingBatch.trivial(LAYER, MACHINE, 0))
    assert len(costs) == len(costs.objective(SparsityAware())) == 0


@pytest.mark.parametrize(
    ("layer", "machine", "aware", "message"),
    [
        (LAYER, catalog.accelerator("tiny"), SparsityAware(), "'tiny' has no sparse features, so that densities"),
        (LAYER, MACHINE, SparsityAware(tensor="Input"), "no tensor 'Input'; did you mean 'Inputs'"),
        (LAYER, MACHINE, "edp", "give a SparsityAware"),
    ],
)
def test_what_densities_cannot_change_is_refused(layer, machine, aware, message):
    with pytest.raises(SpecificationError, match=message):
        DensitySet(layer, machine, aware)


def test_an_evaluator_counts_every_density():
    space = MapSpace(LAYER, MACHINE)
    evaluator = Evaluator(space, "sparsity-aware", Budget(samples=104))
    assert evaluator.objective == SparsityAware()
    assert (evaluator.samples_per_mapping, evaluator.remaining) == (len(DENSITIES), 20)
    costs = evaluator.evaluate(sample(15))
    assert (evaluator.samples, evaluator.mappings, evaluator.remaining) == (75, 15, 5)
    assert not evaluator.exhausted
    values = costs.objective(evaluator.objective).tolist()
    values += evaluator.evaluate(sample(15, seed=1)).objective(evaluator.objective).tolist()
    assert len(values) == 20
    assert (evaluator.samples, evaluator.mappings, evaluator.remaining, evaluator.exhausted) == (100, 20, 0, True)
    minima = np.minimum.accumulate(values)
    for count in range(1, 21):
        assert evaluator.trace.best_at(5 * count) == minima[count - 1]
        assert evaluator.trace.best_at(5 * count - 1) == (minima[count - 2] if count > 1 else math.inf)
    assert evaluator.best_value == evaluator.ratio == minima[-1]
    assert evaluator.best_cost.objective(evaluator.objective) == minima[-1]
    assert evaluator.best_cost.edp / evaluator.lower_bound.edp == pytest.approx(minima[-1])


def test_an_ordinary_objective_counts_mappings():
    evaluator = Evaluator(MapSpace(LAYER, MACHINE), budget=Budget(samples=10))
    evaluator.evaluate(sample(4))
    assert (evaluator.samples, evaluator.mappings, evaluator.samples_per_mapping, evaluator.remaining) == (4, 4, 1, 6)


@pytest.mark.parametrize(
    ("layer", "machine", "objective", "samples", "message"),
    [
        (LAYER, small_accelerator(), SparsityAware(), 100, "'small' has no sparse features"),
        (LAYER, MACHINE, SparsityAware(), 4, "4 samples does not pay for one mapping at 5 densities; give at least 5"),
        (
            LAYER.with_densities({"Inputs": 0.5}),
            MACHINE,
            "sparsity-aware:edp:1.0,0.5",
            100,
            "density 0.5.*give Inputs the density 1 in the workload",
        ),
        (LAYER, MACHINE, "sparsity-aware:epd", 100, "did you mean 'edp'"),
        (LAYER, MACHINE, "sparsity_aware", 100, "did you mean 'sparsity-aware'"),
    ],
)
def test_an_evaluator_refuses_what_makes_no_sense(layer, machine, objective, samples, message):
    with pytest.raises(SpecificationError, match=message):
        Evaluator(MapSpace(layer, machine), objective, Budget(samples=samples))


def test_the_densest_workload_is_what_the_space_is_made_of():
    aware = SparsityAware((0.5, 0.1))
    layer = LAYER.with_densities({"Weights": 0.3})
    space = MapSpace(aware.densest(layer), MACHINE)
    assert [tensor.density for tensor in space.workload.tensors] == [0.3, 0.5, 1.0]
    costs = Evaluator(space, aware).evaluate(space.sample(np.random.default_rng(0), 100))
    assert costs.legal.all()


def test_the_machine_of_the_contract_saves_something():
    machine, dense = small_sparse_accelerator(), small_accelerator(peer_links=False)
    batch = sample(50, LAYER, dense)
    full, half = (price_at(density, batch, LAYER, machine)[0] for density in (1.0, 0.5))
    assert full.edp.tolist() == price_at(1.0, batch, LAYER, dense)[0].edp.tolist()
    assert np.all(half.edp < full.edp)


AWARE = ("toy/tiny_conv", "tiny_sparse_md", "--objective", "sparsity-aware")


def test_search_prints_the_cost_at_every_density(mapgym):
    arguments = ("search", *AWARE, "--densities", "0.1,1", "--density-weights", "1,3", "--samples", "201")
    status, out, _ = mapgym(*arguments, "--density", "weights=0.5")
    assert status == 0
    assert "toy/tiny_conv (Weights 0.5) on tiny_sparse_md, best mapping over densities of Inputs" in out
    assert "200 samples (100 mappings at 2 densities)" in out
    status, out, _ = mapgym(*arguments, "--density", "weights=0.5", "--json")
    found = json.loads(out)
    assert found["objective"] == "sparsity-aware:edp:1.0,0.1:3.0,1.0"
    assert (found["samples"], found["mappings"]) == (200, 100)
    assert found["densities"] == {"Weights": 0.5, "Inputs": 1.0, "Outputs": 1.0}
    first, second = found["density_set"]
    assert (first["density"], first["weight"], second["density"], second["weight"]) == (1.0, 0.75, 0.1, 0.25)
    value = first["edp_over_lower_bound"] ** 0.75 * second["edp_over_lower_bound"] ** 0.25
    assert found["value"] == pytest.approx(value)
    assert found["edp"] == pytest.approx(first["edp"] ** 0.75 * second["edp"] ** 0.25)
    assert found["optimum"] is None


def test_what_search_finds_can_be_shown_at_a_density(mapgym, tmp_path):
    status, out, _ = mapgym("search", *AWARE, "--samples", "100", "--json", "-o", tmp_path / "mapping.yaml")
    assert status == 0
    found = json.loads(out)
    assert "x the lower bounds, sparsity-aware:edp:1.0,0.8" in (tmp_path / "mapping.yaml").read_text()
    for entry in found["density_set"]:
        density = f"inputs={entry['density']}"
        status, out, _ = mapgym("show", *AWARE[:2], tmp_path / "mapping.yaml", "--density", density, "--json")
        assert status == 0
        assert json.loads(out)["edp"] == pytest.approx(entry["edp"])


def test_ordinary_searches_take_densities_too(mapgym):
    edps = []
    for density in ("1.0", "0.2"):
        status, out, _ = mapgym("search", *AWARE[:2], "--density", f"inputs={density}", "--samples", "200", "--json")
        assert status == 0
        found = json.loads(out)
        assert (found["samples"], found["mappings"], found["density_set"]) == (200, 200, None)
        edps.append(found["edp"])
    assert edps[1] < edps[0]


def test_comparing_over_densities(mapgym, tmp_path):
    arguments = ("--workload", AWARE[0], "--accelerator", AWARE[1], "--objective", AWARE[3], "--densities", "1,0.5")
    status, out, _ = mapgym(
        "compare", "--agents", "random,evolution", *arguments, "--samples", "100", "--seeds", "2", "-o", tmp_path
    )
    assert status == 0
    assert "best sparsity-aware EDP" in out
    assert "100 samples (50 mappings at 2 densities)" in out
    report = (tmp_path / "summary.md").read_text()
    assert "A mapping costs 2 samples, one for each density of sparsity-aware:edp:1.0,0.5." in report
    rows = list(csv.DictReader((tmp_path / "summary.csv").read_text().splitlines()))
    assert [(row["agent"], row["samples"], row["mappings"]) for row in rows] == [
        ("random", "100.0", "50.0"),
        ("evolution", "100.0", "50.0"),
    ]
    assert mapgym("report", tmp_path)[0] == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--objective", "sparsity-awre"), "did you mean 'sparsity-aware'"),
        (("--objective", "edp", "--densities", "1,0.5"), "the objective 'edp' has no densities to vary"),
        (("--objective", "sparsity-aware", "--densities", "1,2"), "a density is '2'"),
        (
            ("--objective", "sparsity-aware", "--density-weights", "1,2"),
            "5 densities (1.0,0.8,0.5,0.2,0.1) and 2 weights",
        ),
        (("--objective", "sparsity-aware", "--density", "inputs=0.5"), "the density of Inputs is fixed to 0.5"),
        (("--objective", "sparsity-aware", "--certify", "1"), "--certify proves one objective"),
        (
            ("--objective", "sparsity-aware", "--agent", "exact"),
            "'exact' does not search with the objective 'sparsity-aware'",
        ),
        (("--objective", "sparsity-aware", "--samples", "4"), "4 samples does not pay for one mapping at 5 densities"),
        (("--density", "weight=0.5"), "no tensor 'weight'; did you mean 'Weights'"),
        (("--objective", "pareto", "--densities", "1,0.5"), "'pareto' has no densities to vary"),
        (("--objective", "pareto", "--density-weights", "1,2"), "'pareto' has no densities to vary"),
        (("--density", "weights"), "'weights' is no TENSOR=DENSITY"),
        (("--density", "weights=0.5,weights=0.3"), "'weights' is given twice"),
        (("--density", "weights=0.5", "--density", "Weights=0.3"), "the density of Weights is given twice"),
        (("--density", "weights=2"), "density is 2.0; give a number above 0 and at most 1"),
    ],
)
def test_mistakes_are_answered(mapgym, arguments, message):
    status, _, error = mapgym("search", *AWARE[:2], *arguments)
    assert status == 2
    assert message in one_sentence(error)


def test_dense_hardware_is_refused_before_a_run(mapgym, tmp_path):
    arguments = ("--workload", AWARE[0], "--accelerator", "tiny", "--objective", AWARE[3], "-o", tmp_path / "out")
    status, _, error = mapgym("compare", "--agents", "random", *arguments)
    assert status == 2
    assert "'tiny' has no sparse features" in one_sentence(error)
    assert not (tmp_path / "out").exists()


def experiment(**tasks):
    tasks = {"workloads": ["toy/tiny_conv"], "accelerators": ["tiny_sparse_md"], **tasks}
    return load_experiment({"tasks": tasks, "agents": ["random"], "budget": {"samples": 50}})


def test_densities_in_a_file_of_an_experiment():
    (task,) = experiment(objective="sparsity-aware", densities=[0.5, 0.1], density={"weights": 0.3}).tasks
    assert task.objective == "sparsity-aware:edp:0.5,0.1"
    assert [tensor.density for tensor in task.workload.tensors] == [0.3, 0.5, 1.0]
    assert task.name == "toy/tiny_conv on tiny_sparse_md, Weights 0.3, Inputs 0.5, sparsity-aware:edp:0.5,0.1"
    (task,) = experiment(objective="sparsity-aware:energy:1,0.5:1,2").tasks
    assert task.objective == SparsityAware((1, 0.5), (1, 2), "energy")


def test_results_over_densities_are_no_entries_of_the_best_known(tmp_path):
    results = run_experiment(experiment(objective="sparsity-aware", densities=[1.0, 0.5]), tmp_path, jobs=0)
    assert results[0].mapping is not None
    assert improvements(results) == Improvements((), (), ())


def test_many_densities_have_a_file_name_of_their_own(tmp_path):
    densities = [k / 64 for k in range(1, 51)]
    one, other = (experiment(objective="sparsity-aware", densities=some) for some in (densities, densities[1:]))
    results = run_experiment(one, tmp_path, jobs=0)
    assert not any(result.failure for result in results)
    assert len(one.tasks[0].file_stem) <= 180
    assert one.tasks[0].file_stem != other.tasks[0].file_stem


@pytest.mark.parametrize(
    ("tasks", "message"),
    [
        ({"objective": "sparsity-aware", "densities": 0.5}, r"densities is 0.5; give a list"),
        ({"objective": "energy", "density_weights": [1]}, "'energy' has no densities to vary"),
        ({"density": 0.5}, "density is 0.5; give tensor: density pairs"),
        ({"density": {"Weights": 3}}, "density is 3"),
        ({"density": {1: 0.5}}, "has no tensor '1'"),
        ({"density": {"Weights": 0.5, "weights": 0.3}}, "the density of Weights is given twice"),
        ({"objective": ["edp"]}, r"unknown objective \['edp'\]"),
        ({"objective": "sparsity-aware", "accelerators": ["tiny"]}, "has no sparse features"),
    ],
)
def test_mistakes_in_a_file_are_named(tasks, message):
    with pytest.raises(SpecificationError, match=message):
        experiment(**tasks)


def test_weights_alone_belong_to_the_densities_of_the_text():
    assert read_objective("sparsity-aware:edp:1.0,0.5", None, [2, 1]) == SparsityAware((1.0, 0.5), (2, 1))
    assert task_workload(LAYER, "edp", {"INPUTS": 0.5}).tensor("Inputs").density == 0.5


def test_the_cost_model_is_measured_at_densities(mapgym):
    arguments = ("--accelerator", AWARE[1], "--workload", AWARE[0], "--rounds", "1", "--mappings", "50")
    status, out, _ = mapgym("bench", "cost", *arguments, "--density", "weights=0.5,inputs=0.2")
    assert status == 0
    assert "toy/tiny_conv (Weights 0.5, Inputs 0.2)" in out
    status, out, _ = mapgym("bench", "cost", *arguments, "--density", "weights=0.5", "--json")
    assert json.loads(out)["densities"] == {"weights": 0.5}
