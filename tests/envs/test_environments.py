"""Every registered environment keeps the contract; a new id is tested by being registered."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import pytest

import mapgym
from mapgym.envs import ENVIRONMENT_IDS, register_environments
from mapgym.errors import SpecificationError
from mapgym.testing.environments import EnvironmentContract

REGISTERED = sorted(
    spec.id for spec in gym.registry.values() if str(spec.entry_point).startswith(f"{mapgym.__name__}.")
)

SEVERAL = {
    "workload": ["paper/bert_kqv", {"type": "conv2d", "C": 4, "M": 6, "P": 5, "Q": 5, "R": 3, "S": 3, "stride": 2}],
    "accelerator": ["accel_b_2d", "eyeriss_like"],
    "objective": "latency",
}
BYPASS = {"accelerator": "simba_like", "axes": ["tile", "order", "parallelism", "bypass"]}

GENERATED = {
    "tasks": {
        "random_layers": {"families": ["product", "depthwise"], "bounds": {"P": [4, 28], "K": [8, 512]}},
        "random_accelerators": {"mac_units": [4, 256]},
        "objectives": ["edp", "latency"],
        "densities": {"Inputs": [1.0, 0.5]},
    }
}
WEIGHTED = {
    "tasks": {
        "tasks": [
            {"workload": "paper/bert_kqv", "accelerator": "eyeriss_like", "objective": "energy"},
            {"workload": SEVERAL["workload"][1], "densities": {"Weights": 0.5}},
        ],
        "weights": [1, 3],
    },
    "sizes": "all",
}

# Arguments with which each id is tested; all of them are JSON-able.
VARIANTS: dict[str, dict[str, dict[str, Any]]] = {
    "MapSpace-v0": {
        "default": {},
        "shaped": {"reward": "shaped", "objective": "energy"},
        "several tasks": SEVERAL,
        "bypass, innermost orders": {**BYPASS, "orders": "innermost", "reward": "shaped"},
        "generated tasks": GENERATED,
        "weighted tasks of fixed sizes": WEIGHTED,
    },
    "MapSpaceOneShot-v0": {
        "default": {},
        "several tasks": SEVERAL,
        "bypass": BYPASS,
        "weighted tasks of fixed sizes": WEIGHTED,
    },
    "MapSpaceRefine-v0": {
        "default": {"steps": 20},
        "several tasks": {**SEVERAL, "steps": 12},
        "bypass, trivial start, stop": {**BYPASS, "steps": 10, "start": "trivial", "reward": "drop", "stop": True},
        "generated tasks": {**GENERATED, "steps": 5},
        "weighted tasks of fixed sizes": {**WEIGHTED, "steps": 10},
    },
    "MapSpaceSparse-v0": {
        "default": {},
        "several tasks": {
            "workload": SEVERAL["workload"],
            "accelerator": ["accel_a_sparse_md", "tiny_sparse"],
            "objective": "latency",
            "densities": [0.7, 0.3],
            "density_weights": [2, 1],
        },
        "one density, bypass, shaped": {
            "weight_densities": 0.1,
            "axes": BYPASS["axes"],
            "orders": "innermost",
            "reward": "shaped",
        },
        "generated tasks": {
            "tasks": {
                "random_layers": {"families": "convolution", "bounds": {"C": [4, 64], "M": [4, 64]}},
                "accelerators": ["accel_a_sparse_md", "tiny_sparse"],
                "densities": {"Weights": [1.0, 0.3]},
            }
        },
    },
    "MapSpaceWarmStart-v0": {
        "default": {"steps": 8},
        "several accelerators": {
            "network": SEVERAL["workload"],
            "accelerator": SEVERAL["accelerator"],
            "objective": "latency",
            "similarity": "editing",
            "steps": 6,
            "reward": "drop",
            "stop": True,
        },
        "tasks of fixed sizes": {"tasks": WEIGHTED["tasks"]["tasks"], "sizes": "all", "steps": 6},
    },
}
CASES = [(env_id, variant) for env_id in REGISTERED for variant in VARIANTS.get(env_id, {"default": {}})]


@pytest.mark.parametrize(("env_id", "variant"), CASES, scope="class")
class TestRegisteredEnvironments(EnvironmentContract):
    @pytest.fixture(autouse=True)
    def _choose(self, env_id: str, variant: str) -> None:
        self.env_id, self.env_kwargs = env_id, VARIANTS.get(env_id, {}).get(variant, {})


@pytest.mark.parametrize("env_id", REGISTERED)
@pytest.mark.parametrize("options", ["workload", 5])
def test_reset_options__that_are_no_dict_are_refused(env_id: str, options: Any) -> None:
    env = gym.make(env_id)
    with pytest.raises(SpecificationError, match="reset options are"):
        env.reset(options=options)


@pytest.mark.parametrize("env_id", sorted({*REGISTERED} - {"MapSpaceWarmStart-v0"}))
def test_evaluator__that_is_none_is_refused(env_id: str) -> None:
    with pytest.raises(SpecificationError, match="evaluator"):
        gym.make(env_id, evaluator="edp")


def test_registry__holds_what_is_listed() -> None:
    assert tuple(REGISTERED) == ENVIRONMENT_IDS


def test_registering_twice__changes_nothing() -> None:
    before = dict(gym.registry)
    register_environments()
    assert gym.registry == before
