"""The pages that `make docs` builds the site from, as they are laid out; building it checks all links and names."""

from __future__ import annotations

import inspect
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import mapgym
from mapgym.envs import ENVIRONMENT_IDS
from places import REPOSITORY


@pytest.fixture(scope="module")
def pages(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("site") / "pages"
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    subprocess.run(
        [sys.executable, REPOSITORY / "docs/site/pages.py", folder], cwd=REPOSITORY, env=environment, check=True
    )
    return folder


def described(pages: Path) -> list[str]:
    """The full names that some page describes."""
    directive = re.compile(r"^\.\. (?:auto(?:module|class|function)|py:data):: (\S+)", re.MULTILINE)
    texts = [page.read_text() for page in [*pages.rglob("*.rst"), *pages.rglob("*.md")]]
    return [name for text in texts for name in directive.findall(text)]


def test_every_page_of_the_repository_is_in_the_site(pages):
    for path in REPOSITORY.glob("docs/**/*.md"):
        if "site" not in path.parts:
            assert (pages / path.relative_to(REPOSITORY / "docs")).exists()
    assert (pages / "index.md").read_text().startswith((REPOSITORY / "README.md").read_text().splitlines()[0])


@pytest.mark.parametrize("name", ENVIRONMENT_IDS)
def test_every_environment_has_a_page(pages, name):
    page = (pages / "environments" / f"{name}.md").read_text()
    for heading in ("Action Space", "Observation Space", "Rewards", "Arguments"):
        assert f"\n## {heading}\n" in page


def test_what_the_package_exports_is_described_once_under_that_name(pages):
    names = described(pages)
    assert len(names) == len(set(names))
    for name in mapgym.__all__:
        thing = getattr(mapgym, name)
        # A module that is exported keeps its name.
        assert (thing.__name__ if inspect.ismodule(thing) else f"mapgym.{name}") in names


def test_links_lead_to_pages_of_the_site(pages):
    index = (pages / "index.md").read_text()
    assert "](environments.md)" in index
    assert "](contributing.md)" in index
    assert "](docs/" not in index


def test_full_names_lead_to_the_reference(pages):
    assert "{py:obj}`mapgym." in "".join(page.read_text() for page in pages.glob("*.md"))
