"""What the documentation shows works, and what it links to is there."""

from __future__ import annotations

import re

import pytest
import typer.main

from mapgym.agents.cli import app
from places import REPOSITORY

PAGES = sorted([*REPOSITORY.glob("*.md"), *REPOSITORY.glob("docs/**/*.md")])
README = (REPOSITORY / "README.md").read_text()
SNIPPETS = [
    (page, snippet)
    for page in ("README.md", "docs/sparse.md", "docs/warm_start.md")
    for snippet in re.findall(r"```python\n(.*?)```", (REPOSITORY / page).read_text(), re.DOTALL)
]


@pytest.mark.parametrize(("page", "snippet"), SNIPPETS, ids=range(len(SNIPPETS)))
def test_python_in_the_documentation_runs(page, snippet, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exec(compile(snippet, page, "exec"), {})


def test_readme_names_exactly_the_commands_that_exist():
    # Inline code only: a line of a shell block starts with the command.
    table = set(re.findall(r"^\| .*?`mapgym (\w+)", README, re.MULTILINE))
    assert table == set(typer.main.get_command(app).commands)


def test_readme_names_make_targets_that_exist():
    makefile = (REPOSITORY / "Makefile").read_text()
    for target in set(re.findall(r"(?:`|^)make ([\w-]+)", README, re.MULTILINE)):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files(page):
    for link in re.findall(r"\]\(([^)#]+)", page.read_text()):
        if not link.startswith("https://"):
            assert (page.parent / link).exists(), link
