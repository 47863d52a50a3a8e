"""The certified optimum of deep hierarchies with networks, against every mapping of tiny spaces."""

from __future__ import annotations

import os

import numpy as np
import pytest

from brute_force_optimum import brute_force_value, random_deep_space
from mapgym.cost import OBJECTIVES
from mapgym.cost.optimum import find_optimum
from mapgym.errors import SpecificationError

# MAPGYM_EXACT_CASES asks for more random spaces than a quick run has time for.
CASES = int(os.environ.get("MAPGYM_EXACT_CASES", "60"))
FIRST = int(os.environ.get("MAPGYM_EXACT_FIRST", "0"))

# Today's rules twice, as they are the default.
RULES = ("timeloop-2025", "timeloop-2022", "timeloop-2025", "timeloop-3.0.3")


@pytest.mark.parametrize("seed", range(FIRST, FIRST + CASES))
def test_equals_brute_force(seed: int) -> None:
    space = random_deep_space(np.random.default_rng([seed, 3]), rules=RULES[seed // 3 % len(RULES)])
    objective = OBJECTIVES[seed % 3]
    expected = brute_force_value(space, objective)
    if expected == np.inf:
        with pytest.raises(SpecificationError, match="no mapping"):
            find_optimum(space, objective)
        return
    found = find_optimum(space, objective)
    assert space.contains(found.mapping)
    assert found.cost.objective(objective) == found.value
    assert found.lower_bound <= expected
    assert found.value == pytest.approx(expected, rel=1e-12)
    assert found.certified == (found.gap <= 1e-6)
