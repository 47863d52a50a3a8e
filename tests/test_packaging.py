"""A checkout, an editable install, a wheel and a wheel made from the sdist hold and offer the same package."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

import mapgym
from places import REPOSITORY

NOT_SOURCE = shutil.ignore_patterns(".*", "build", "dist", "runs", "*.egg-info", "__pycache__")
WAYS = ("checkout", "editable", "wheel", "wheel from sdist")

# Runs in each installation, from an unrelated folder, and prints what it finds there.
PROBE = """
import importlib.util, json, pathlib, sys

heavy = ("torch", "stable_baselines3", "sb3_contrib", "matplotlib")
import mapgym, mapgym.agents, mapgym.envs_config
heavy_for_the_library = [name for name in heavy if name in sys.modules]
import mapgym.agents.cli
heavy_for_the_command_line = [name for name in heavy if name in sys.modules]
import mapgym.spec.catalog
data = pathlib.Path(mapgym.envs_config.__path__[0])
json.dump({
    "location": str(pathlib.Path(mapgym.__file__).parent),
    "version": mapgym.__version__,
    "data": sorted(str(path.relative_to(data)) for path in data.rglob("*") if path.suffix in (".yaml", ".tsv")),
    "accelerators": list(mapgym.spec.catalog.accelerator_names()),
    "heavy_for_the_library": heavy_for_the_library,
    "heavy_for_the_command_line": heavy_for_the_command_line,
    "top_level_agents": importlib.util.find_spec("agents") is not None,
}, sys.stdout)
"""

# Packages are built once for all of these tests, so one worker runs them.
pytestmark = pytest.mark.xdist_group("packaging")


def run(*command: str | Path, cwd: Path) -> str:
    """Returns what a command prints; a failing one fails the test with all of its output."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, f"{command} failed:\n{done.stdout}\n{done.stderr}"
    return done.stdout


def environment(folder: Path, *install: str | Path) -> Path:
    """Returns the bin/ of a new environment with mapgym in it, made without any network.

    Its other packages are those of the running interpreter. A folder that a .pth file names is searched for modules
    but not for further .pth files, so an editable mapgym of the running interpreter stays out of sight.
    """
    venv.create(folder, with_pip=False, symlinks=True)
    site_packages = Path(sysconfig.get_path("purelib", "venv", {"base": str(folder)}))
    (site_packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    if install:
        pip = (sys.executable, "-m", "pip", "--python", folder, "--disable-pip-version-check", "install")
        run(*pip, "--no-index", "--no-deps", "--no-build-isolation", *install, cwd=folder)
    return folder / "bin"


def source_files(source: Path) -> set[str]:
    """What an installation must hold, as paths inside site-packages."""
    code = {
        "mapgym": source / "mapgym",
        "mapgym/agents": source / "agents",
        "mapgym/envs_config": source / "envs_config",
    }
    return {
        f"{name}/{path.relative_to(folder).as_posix()}"
        for name, folder in code.items()
        for path in folder.rglob("*")
        if path.suffix in {".py", ".yaml", ".tsv", ".typed", ".safetensors"}
    }


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A copy of the checkout, so that building neither litters it nor takes anything stale from it."""
    return Path(shutil.copytree(REPOSITORY, tmp_path_factory.mktemp("source") / "checkout", ignore=NOT_SOURCE))


@pytest.fixture(scope="module")
def wheel(source, tmp_path_factory):
    """A wheel built straight from the checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "build", "--no-isolation", "--wheel", "--outdir", folder, source, cwd=folder)
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def sdist(source, tmp_path_factory):
    """An sdist, beside a wheel that was built from it."""
    folder = tmp_path_factory.mktemp("sdist")
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, source, cwd=folder)
    return next(folder.glob("*.tar.gz"))


@pytest.fixture(scope="module", params=WAYS)
def installation(request, source, tmp_path_factory):
    """One way to have mapgym, and what the probe found there."""
    way = request.param
    probe = PROBE
    if way == "checkout":
        install = []
        probe = f"import sys\nsys.path.insert(0, {str(source)!r})\n{PROBE}"
    elif way == "editable":
        install = ["--editable", source]
    elif way == "wheel":
        install = [request.getfixturevalue("wheel")]
    else:
        install = [next(request.getfixturevalue("sdist").parent.glob("*.whl"))]
    binaries = environment(tmp_path_factory.mktemp("environment"), *install)
    return way, json.loads(run(binaries / "python", "-c", probe, cwd=tmp_path_factory.mktemp("elsewhere")))


def test_wheel_holds_the_whole_package_and_nothing_else(wheel, source):
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    metadata = f"mapgym-{mapgym.__version__}.dist-info"
    assert {name for name in names if not name.startswith(metadata)} == source_files(source)
    assert f"{metadata}/licenses/LICENSE" in names


def test_wheel_from_sdist_is_the_wheel_from_the_checkout(wheel, sdist):
    with zipfile.ZipFile(wheel) as direct, zipfile.ZipFile(next(sdist.parent.glob("*.whl"))) as from_sdist:
        assert set(from_sdist.namelist()) == set(direct.namelist())


def test_sdist_holds_the_tests_and_what_they_need(sdist):
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"tests/conftest.py", "tests/test_packaging.py", "constraints.txt", "Makefile", "README.md"} <= names


def test_every_way_to_have_mapgym_offers_the_same(installation, source):
    way, found = installation
    in_place = way in ("checkout", "editable")
    assert (found["location"] == str(source / "mapgym")) == in_place
    assert found["version"] == mapgym.__version__
    data = source / "envs_config"
    files = [path for path in data.rglob("*") if path.suffix in (".yaml", ".tsv")]
    assert found["data"] == sorted(str(path.relative_to(data)) for path in files)
    assert "accel_b" in found["accelerators"]


def test_an_installation_adds_one_top_level_name(installation):
    way, found = installation
    # In a plain checkout it is the caller who put the root, and so agents/, on the path.
    assert found["top_level_agents"] == (way == "checkout")


def test_learning_and_plotting_libraries_are_imported_only_when_used(installation):
    _, found = installation
    assert found["heavy_for_the_library"] == []
    assert found["heavy_for_the_command_line"] == []


def test_the_wheel_installs_the_command(wheel, tmp_path):
    binaries = environment(tmp_path / "environment", wheel)
    assert "compare" in run(binaries / "mapgym", "--help", cwd=tmp_path)
