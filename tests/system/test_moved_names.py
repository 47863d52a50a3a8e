"""Names that the documentation has taught before modules moved go on working."""

from __future__ import annotations

import importlib
import pickle
import subprocess
import sys

import pytest

from mapgym.system.moved_names import MOVED


@pytest.mark.parametrize("before", MOVED)
def test_a_name_of_before_is_the_module_of_today(before):
    module = importlib.import_module(before)
    assert module is importlib.import_module(MOVED[before])
    assert module.__name__ == module.__spec__.name == MOVED[before]


def test_statements_of_before_work_in_a_new_process():
    code = (
        "from mapgym.catalog import workload; from mapgym.evaluator import Budget; import mapgym.catalog; "
        "from mapgym import catalog, splits; import mapgym; "
        "assert mapgym.catalog is catalog and catalog.workload is workload and Budget is mapgym.Budget"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_what_is_pickled_names_modules_of_today():
    from mapgym.evaluator import Budget

    assert b"mapgym.evaluation.evaluator" in pickle.dumps(Budget(samples=1))
