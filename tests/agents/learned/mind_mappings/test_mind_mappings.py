"""The surrogate agent: vectors, data, training, files and search."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from mapgym.agents import make_agent
from mapgym.agents.learned.mind_mappings.data import make_chunk, random_problem
from mapgym.agents.learned.mind_mappings.encoding import PROBLEM_WIDTH, ROLES, Encoding, vector_width
from mapgym.cost import CostModel, lower_bound
from mapgym.errors import SpecificationError
from mapgym.evaluation.evaluator import Budget, Evaluator
from mapgym.mapping import MappingBatch
from mapgym.mapspace import MapSpace
from mapgym.spec import catalog
from mapgym.spec.accelerator import Accelerator
from mapgym.spec.workload import Workload, conv2d, depthwise_conv2d, matmul, mttkrp
from mapgym.testing.agents import small_accelerator

pytest.importorskip("torch")
pytest.importorskip("safetensors")

from mapgym.agents.learned.mind_mappings import model as models, training
from mapgym.agents.learned.stored_arrays import read_arrays, write_arrays
from mapgym.agents.learned.training import TrainingProgress, TrainingRequest, make_trainer

AXES = ("tile", "order", "parallelism", "bypass")
TINY = training.Recipe(
    samples=1024, passes=3, mappings_per_problem=32, chunk_problems=16, hidden=(64, 64), batch_size=32
)


@pytest.fixture(scope="module", autouse=True)
def _quick_accuracy() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "_HELD_OUT_PROBLEMS", 8)
        yield


def request_for(folder: Path, **options) -> TrainingRequest:
    return TrainingRequest(small_accelerator(), folder, **options)


def train(folder: Path, **options) -> models.Surrogate:
    training.MindMappingsTrainer(TINY).train(request_for(folder, **options), TrainingProgress())
    return models.load_surrogate(str(folder))


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    train(folder)
    return folder


workloads = st.sampled_from(
    [
        conv2d(N=2, C=6, M=4, P=8, Q=8, R=3, S=3, stride=2),
        depthwise_conv2d(N=2, C=8, P=6, Q=6, R=3, S=3),
        matmul(B=2, M=8, K=12, N=4),
        matmul(B=2, M=8, K=12, N=4, shared_weights=True),
    ]
)


@settings(max_examples=30, deadline=None)
@given(workload=workloads, seed=st.integers(0, 2**32))
def test_mappings_survive_the_way_to_vectors_and_back(workload: Workload, seed: int) -> None:
    space = MapSpace(workload, small_accelerator(), AXES)
    batch = space.sample(np.random.default_rng(seed), 20)
    encoding = Encoding(workload, 3)
    vectors = encoding.encode(batch)
    assert vectors.shape == (20, vector_width(3))
    again, legal = space.project(encoding.decode(vectors))
    assert legal.all()
    assert space.canonical(again) == space.canonical(batch)
    assert (encoding.encode(space.canonical(batch)) == vectors).all()


@settings(max_examples=30, deadline=None)
@given(workload=workloads, seed=st.integers(0, 2**32))
def test_any_vector_is_near_a_legal_mapping(workload: Workload, seed: int) -> None:
    space = MapSpace(workload, small_accelerator(), AXES)
    rng = np.random.default_rng(seed)
    vectors = rng.normal(0, 3, (20, vector_width(3))).astype(np.float32)
    # All keep bits off, so that every tile can be made small enough.
    vectors[:, -9:] = 0
    batch, legal = space.project(Encoding(workload, 3).decode(vectors))
    assert legal.all()
    assert space.contains(batch).all()


def test_a_vector_by_hand() -> None:
    """K=8 as 2 in the registers, 2 parallel below the buffer, 2 outside; N=4 outside, and outside of K."""
    workload = matmul("layer", B=1, M=1, K=8, N=4)
    batch = MappingBatch.trivial(workload, small_accelerator(), 1)
    batch.temporal[0] = [[1, 1, 2, 1], [1, 1, 1, 1], [1, 1, 2, 4]]
    batch.spatial[0, 1, 2] = 2
    batch.spatial_split[0, 1] = 4
    batch.keep[0, 0] = [True, False, True]  # Weights, Inputs, Outputs
    vector = Encoding(workload, 3).encode(batch)[0]
    g, n, c, m = (ROLES.index(role) for role in "GNCM")
    assert vector[:PROBLEM_WIDTH].tolist() == [0, 0, 3, 2, 0, 0, 0, 0, 0, 0, 0, 0]
    temporal, spatial, places, spatial_places, on_y = vector[PROBLEM_WIDTH:-9].reshape(5, 3, 8)
    assert temporal[:, c].tolist() == [1, 0, 1]
    assert temporal[:, m].tolist() == [0, 0, 2]
    assert spatial[:, c].tolist() == [0, 1, 0]
    assert places[2, [g, n, c, m]].tolist() == [8, 8, 0, 1]
    assert spatial_places[1, [c, m]].tolist() == [0, 8]
    assert not on_y.any()
    assert vector[-9:].tolist() == [1, 0, 1, 1, 1, 1, 1, 1, 1]


def test_steps_keep_products() -> None:
    encoding = Encoding(matmul(M=8, K=8, N=8), 3)
    steps = np.random.default_rng(0).normal(size=(4, encoding.width)).astype(np.float32)
    visible = np.ones(encoding.width, np.bool_)
    visible[PROBLEM_WIDTH] = False  # temporal factors of the groups at level 0
    before = steps[:, PROBLEM_WIDTH].copy()
    encoding.hold_products(steps, visible)
    factors = steps[:, PROBLEM_WIDTH:-9].reshape(4, 5, 3, 8)[:, :2]
    assert np.allclose(factors[..., 1:].sum(axis=(1, 2)), 0, atol=1e-5)
    assert (steps[:, PROBLEM_WIDTH] == before).all()


def test_a_workload_of_another_kind_is_refused() -> None:
    space = MapSpace(mttkrp(I=4, J=4, K=4, L=4), small_accelerator(rules=models.shipped_rules()))
    with pytest.raises(SpecificationError, match=r"cannot describe the workload 'mttkrp' .* use another agent"):
        make_agent("mind-mappings").search(Evaluator(space), 0)


def test_data_are_random_and_repeatable() -> None:
    accelerator = small_accelerator()
    vectors, targets = make_chunk(accelerator, (1, 2), 6, 20, 0.5)
    assert vectors.shape == (120, vector_width(3))
    # Energy of three tensors at each of three levels; idle MACs, energy and latency.
    assert targets.shape == (120, 3 * 3 + 3)
    assert np.isfinite(vectors).all()
    assert np.isfinite(targets).all()
    # Nothing costs less than its lower bound; a tensor's energy may, because it can bypass a level.
    assert (targets[:, -3:] > -1e-6).all()
    again = make_chunk(accelerator, (1, 2), 6, 20, 0.5)
    assert (again[0] == vectors).all()
    assert (again[1] == targets).all()
    assert not (make_chunk(accelerator, (1, 3), 6, 20, 0.5)[0] == vectors).all()


def test_targets_are_the_costs_over_their_bounds() -> None:
    from mapgym.agents.learned.mind_mappings.data import cost_targets

    accelerator = small_accelerator()
    workload = random_problem(np.random.default_rng(3))
    batch = MapSpace(workload, accelerator).sample(np.random.default_rng(0), 50)
    targets = cost_targets(Encoding(workload, 3), accelerator, batch)
    costs, bound = CostModel(workload, accelerator).evaluate(batch), lower_bound(workload, accelerator)
    assert np.allclose(np.exp(targets[:, -2]), costs.energy_pj / bound.energy_pj, rtol=1e-4)
    assert np.allclose(np.exp(targets[:, -1]), costs.latency_cycles / bound.latency_cycles, rtol=1e-4)
    assert np.allclose(np.exp(targets[:, -2:].sum(axis=1)), costs.edp / bound.edp, rtol=1e-4)


def test_training_learns_and_says_so(trained: Path) -> None:
    surrogate = models.load_surrogate(str(trained))
    assert surrogate.about["samples"] == 3072
    assert surrogate.about["rank_correlation"] > 0.2
    assert surrogate.about["accelerator"] == small_accelerator().to_dict()
    # Finished is finished.
    before = (trained / training.MODEL).read_bytes()
    text = training.MindMappingsTrainer(TINY).train(request_for(trained), TrainingProgress())
    assert "is done" in text
    assert (trained / training.MODEL).read_bytes() == before


def test_an_interrupted_training_ends_as_an_uninterrupted_one(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "_SECONDS_BETWEEN_CHECKPOINTS", 0.0)
    make_data = training.make_chunk
    calls = iter(range(100))

    def killed_at_the_third(*arguments):
        if next(calls) == 2:
            raise KeyboardInterrupt
        return make_data(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(training, "make_chunk", killed_at_the_third)
        with pytest.raises(KeyboardInterrupt):
            train(tmp_path)
    assert not (tmp_path / training.MODEL).exists()
    continued, whole = train(tmp_path), models.load_surrogate(str(trained))
    for ours, theirs in zip(continued.network.parameters(), whole.network.parameters(), strict=True):
        assert (ours == theirs).all()


def test_seconds_end_a_session_that_can_be_continued(trained: Path, tmp_path: Path) -> None:
    request = request_for(tmp_path, seconds=1e-9)
    text = training.MindMappingsTrainer(TINY).train(request, TrainingProgress())
    assert "the same command continues" in text
    assert models.load_surrogate(str(tmp_path)).about["samples"] == 512
    for _ in range(5):
        training.MindMappingsTrainer(TINY).train(request, TrainingProgress())
    assert models.load_surrogate(str(tmp_path)).about["samples"] == 3072
    whole, parts = (models.read_arrays(folder / training.CHECKPOINT)[0] for folder in (trained, tmp_path))
    assert whole.keys() == parts.keys()
    for name, array in whole.items():
        np.testing.assert_array_equal(array, parts[name], err_msg=name)


def test_other_options_do_not_continue_a_training(trained: Path) -> None:
    with pytest.raises(SpecificationError, match="holds a training with another seed"):
        train(trained, seed=1)
    trainer, request = training.MindMappingsTrainer(TINY), TrainingRequest(catalog.accelerator("tiny"), trained)
    with pytest.raises(SpecificationError, match="holds a training with another accelerator"):
        trainer.train(request, TrainingProgress())


@pytest.mark.parametrize("kept", [0, 40, 2000])
def test_a_damaged_file_is_named(trained: Path, tmp_path: Path, kept: int) -> None:
    broken = tmp_path / "model.safetensors"
    broken.write_bytes((trained / training.MODEL).read_bytes()[:kept])
    with pytest.raises(SpecificationError, match="is damaged, or was not written by mapgym") as caught:
        make_agent("mind-mappings", model=str(broken)).search(Evaluator(_space()), 0)
    assert "\n" not in str(caught.value)


def test_a_file_of_other_arrays_is_named(trained: Path, tmp_path: Path) -> None:
    arrays, about = models.read_arrays(trained / training.MODEL)
    arrays["network.0.weight"] = arrays["network.0.weight"][:, :-1]
    models.write_arrays(tmp_path / "model.safetensors", arrays, about)
    with pytest.raises(SpecificationError, match="is no model of mind-mappings"):
        models.load_surrogate(str(tmp_path))


def test_an_unknown_model_is_named() -> None:
    with pytest.raises(SpecificationError, match=r"there is no model 'accel_c'.*'accel_a'"):
        models.load_surrogate("accel_c")


def test_another_number_of_levels_says_how_to_train() -> None:
    space = MapSpace(conv2d(C=4, M=4, P=4, Q=4, R=3, S=3), catalog.accelerator("eyeriss_like"))
    with pytest.raises(SpecificationError, match="has 5; train one with 'mapgym train mind-mappings --accelerator eye"):
        make_agent("mind-mappings").search(Evaluator(space), 0)


def test_the_shipped_model_says_where_it_is_from() -> None:
    for name in models.shipped_models():
        about = models.load_surrogate(name).about
        machine = Accelerator.from_stored(about["accelerator"])
        assert machine == catalog.accelerator(name).counted_by(about["rules"])
        assert make_agent("mind-mappings").trained_under() == about["rules"] == machine.rules
        assert about["command"].startswith("mapgym train mind-mappings")
        assert about["rank_correlation"] > 0.9
        json.dumps(about)
        assert (models.SHIPPED / f"mind_mappings_{name}.safetensors").stat().st_size < 2_000_000


def test_it_descends_what_it_was_trained_for() -> None:
    """With its own accelerator's surrogate, 200 samples are better than 200 random ones; the seeds are fixed."""
    machine = catalog.accelerator("accel_a").counted_by(models.shipped_rules())
    space = MapSpace(catalog.workload("resnet18/conv4_shortcut"), machine)
    values = {}
    for name in ("random", "mind-mappings"):
        evaluators = [Evaluator(space, budget=Budget(samples=300)) for _ in range(3)]
        for seed, evaluator in enumerate(evaluators):
            make_agent(name).search(evaluator, seed)
        values[name] = np.median([evaluator.ratio for evaluator in evaluators])
    assert values["mind-mappings"] < values["random"], values


def test_costs_of_other_rules_are_refused(trained: Path) -> None:
    agent = make_agent("mind-mappings", model=str(trained))
    agent.search(Evaluator(_space(), budget=Budget(samples=1)), 0)
    other = MapSpace(_space().workload, small_accelerator(rules="timeloop-3.0.3"))
    message = (
        r"predicts costs under timeloop-2025, and this task counts as timeloop-3.0.3; train one with .*--rules "
        r"timeloop-3.0.3 -o DIR' and search with model=DIR, or give --rules timeloop-2025"
    )
    with pytest.raises(SpecificationError, match=message):
        agent.search(Evaluator(other), 0)
    request = TrainingRequest(other.accelerator, trained)
    with pytest.raises(
        SpecificationError, match=r"under timeloop-2025, this one counts as timeloop-3\.0\.3; give --rules"
    ):
        training.MindMappingsTrainer(TINY).train(request, TrainingProgress())


def test_a_surrogate_of_before_rules_had_names_is_one_of_the_first_rules(trained: Path, tmp_path: Path) -> None:
    arrays, about = read_arrays(trained / training.MODEL)
    del about["rules"], about["accelerator"]["rules"]
    write_arrays(tmp_path / training.MODEL, arrays, about)
    assert models.load_surrogate(str(tmp_path)).rules == "timeloop-2022"


def test_predictions_follow_the_objective(trained: Path) -> None:
    surrogate = models.load_surrogate(str(trained))
    space = _space()
    vectors = Encoding(space.workload, 3).encode(space.sample(np.random.default_rng(0), 5))
    predictions = surrogate.predict(vectors)
    parts = {name: surrogate.objective(predictions, name) for name in ("edp", "energy", "latency")}
    assert np.allclose(parts["edp"], parts["energy"] + parts["latency"], atol=1e-4)
    for name in parts:
        direction = surrogate.descent(vectors, name, "objective")
        moved = vectors + 1e-3 * direction
        after = surrogate.objective(surrogate.predict(moved), name)
        assert (after < parts[name]).all()


def test_trainers_are_found_by_name() -> None:
    assert isinstance(make_trainer("mind-mappings"), training.MindMappingsTrainer)
    with pytest.raises(SpecificationError, match=r"agent 'gamma' cannot be trained.*'mind-mappings'"):
        make_trainer("gamma")


def _space() -> MapSpace:
    return MapSpace(matmul("small", M=8, K=8, N=4), small_accelerator())
