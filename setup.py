"""Names the packages for setuptools; everything else about the project stands in pyproject.toml.

The folders agents/ and envs_config/ lie beside mapgym/ in the repository and inside it once installed, so that an
installation adds the one top-level name ``mapgym``. The table in pyproject.toml can map a folder to a package but
cannot look for subpackages below a mapped one, hence these lines: a new subpackage needs only its ``__init__.py``.
"""

from __future__ import annotations

from setuptools import find_packages, setup

setup(
    package_dir={"mapgym": "mapgym", "mapgym.agents": "agents", "mapgym.envs_config": "envs_config"},
    packages=[
        *find_packages(include=["mapgym", "mapgym.*"]),
        *(f"mapgym.{name}" for name in find_packages(include=["agents", "agents.*"])),
        "mapgym.envs_config",
    ],
    package_data={
        "mapgym": ["py.typed"],
        "mapgym.agents.learned": ["weights/*.safetensors"],
        "mapgym.envs_config": ["**/*.yaml", "*.tsv"],
    },
)
