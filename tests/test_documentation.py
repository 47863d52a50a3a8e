"""What the documentation shows works, and what it links to is there."""

from __future__ import annotations

import ast
import importlib.util
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml

from mapgym.agents.cli import app
from places import REPOSITORY

PAGES = sorted([*REPOSITORY.glob("*.md"), *REPOSITORY.glob("docs/**/*.md")])
README = (REPOSITORY / "README.md").read_text()
FENCE = re.compile(r"^```(\S*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LANGUAGES = {"python", "console", "sh", "yaml", "text", "", "{toctree}"}
FOREIGN = {"minari"}
"""Libraries that docs/libraries.md is about and that no extra brings."""
SHELL_ASSIGNMENT = re.compile(r"[A-Z_]+=\S+")
SNIPPETS = [
    (page, snippet)
    for page in ("README.md", "docs/generalisation.md", "docs/sparse.md", "docs/warm_start.md")
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


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files(page):
    for link in re.findall(r"\]\(([^)#]+)", page.read_text()):
        if not link.startswith("https://"):
            assert (page.parent / link).exists(), link


def blocks(page: Path, *languages: str) -> list[str]:
    """The code blocks of a page in some languages."""
    return [code for language, code in FENCE.findall(page.read_text()) if language in languages]


def inline_code(page: Path) -> list[str]:
    """The code within the sentences of a page, each on one line."""
    sentences = FENCE.sub("", page.read_text())
    return [" ".join(code.split()) for code in re.findall(r"(?<!`)`([^`]+)`(?!`)", sentences)]


def shell_commands(page: Path) -> Iterator[list[str]]:
    """The words of each command in the shell blocks of a page; what a console answers is left out."""
    for language in ("console", "sh"):
        for block in blocks(page, language):
            for line in re.sub(r"\\\n\s*", " ", block).splitlines():
                if language == "sh" or line.startswith("$ "):
                    words = shlex.split(line.removeprefix("$ "), comments=True)
                    while words and SHELL_ASSIGNMENT.fullmatch(words[0]):
                        words.pop(0)
                    if words:
                        yield words


@pytest.fixture(scope="module")
def command() -> Iterator[Any]:
    """The command line, with commands that read their words and then do nothing."""
    root = typer.main.get_command(app)
    entries = list(commands_of(root))
    callbacks = [entry.callback for entry in entries]
    for entry in entries:
        entry.callback = lambda **_: None
    yield root
    # Other tests of this process get the same commands.
    for entry, callback in zip(entries, callbacks, strict=True):
        entry.callback = callback


def commands_of(entry: Any) -> Iterator[Any]:
    """A command and all those within it."""
    yield entry
    for inner in getattr(entry, "commands", {}).values():
        yield from commands_of(inner)


def check_make(words: list[str]) -> None:
    """Complains about a target, or a variable, that the Makefile does not have."""
    makefile = (REPOSITORY / "Makefile").read_text()
    for word in words:
        name, is_variable, _ = word.partition("=")
        assert re.search(rf"^{name} \?=" if is_variable else rf"^{name}:", makefile, re.MULTILINE), word


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_languages_of_blocks_are_those_that_are_checked(page):
    assert {language for language, _ in FENCE.findall(page.read_text())} <= LANGUAGES


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_python_compiles_and_its_imports_are_there(page):
    for code in blocks(page, "python"):
        for node in ast.walk(ast.parse(code)):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    if alias.name not in FOREIGN or importlib.util.find_spec(alias.name):
                        importlib.import_module(alias.name)
            elif isinstance(node, ast.ImportFrom) and str(node.module).startswith("mapgym"):
                module = importlib.import_module(str(node.module))
                for alias in node.names:
                    # A module of a package is an attribute of it once it is imported.
                    assert hasattr(module, alias.name) or importlib.import_module(f"{node.module}.{alias.name}")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_yaml_is_valid(page):
    for code in blocks(page, "yaml"):
        yaml.safe_load(code)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_in_blocks_are_understood(page, command):
    for program, *words in shell_commands(page):
        if program == "make":
            check_make(words)
        elif program == "python":
            script = (REPOSITORY / words[0]).read_text()
            assert all(f'"{word}"' in script for word in words if word.startswith("--")), words
        else:
            assert program == "mapgym", f"{program}: say here how to check it"
            # Brackets and dots are how a manual says what may be left out or repeated.
            plain = [word.strip("[]") for word in words]
            command.main([word for word in plain if word != "..."], prog_name="mapgym", standalone_mode=False)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_in_sentences_exist_with_their_options(page, command):
    for code in inline_code(page):
        program, *words = code.partition("|")[0].replace("\\", "").split()
        if program == "make":
            check_make(words)
        if program != "mapgym":
            continue
        entry = command
        # Capitals and dots stand for something.
        while hasattr(entry, "commands") and words and words[0].islower() and not words[0].startswith("-"):
            entry = entry.commands[words.pop(0)]
        options = {"--help"}.union(*(set(option.opts) | set(option.secondary_opts) for option in entry.params))
        assert {word for word in words if word.startswith("-")} <= options, code
