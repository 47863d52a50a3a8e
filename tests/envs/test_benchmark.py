"""What is measured of environments."""

from __future__ import annotations

import pytest

from mapgym.envs import ENVIRONMENT_IDS
from mapgym.envs.benchmark import LIGHT_STATE, STATE, STEP, measure_environments
from mapgym.errors import SpecificationError


def test_benchmark__says_what_it_measured() -> None:
    results = measure_environments(widths=(2,), rounds=1, seconds_per_round=1e-3)
    forms = [(0, STEP), (2, STEP), (0, STATE), (0, LIGHT_STATE)]
    expected = [(env_id, *form) for env_id in ENVIRONMENT_IDS for form in forms]
    assert [(result.env, result.num_envs, result.measured) for result in results] == expected
    assert all(result.microseconds > 0 for result in results)


def test_benchmark__names_what_it_does_not_know() -> None:
    with pytest.raises(SpecificationError, match="MapSpace-v0"):
        measure_environments(["MapSpce-v0"])
