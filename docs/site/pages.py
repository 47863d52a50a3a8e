"""Lays out the pages that Sphinx reads: those of the repository, one for each environment, and the reference.

``python docs/site/pages.py FOLDER`` writes them into FOLDER, which it empties first.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from pathlib import Path

from environment_pages import environment_pages
from modules import ROOT, Reference
from reference_pages import reference_pages

import mapgym.envs

SITE = Path(__file__).resolve().parent

_FENCED = re.compile(r"(^```.*?^```$)", re.DOTALL | re.MULTILINE)
_LINK = re.compile(r"\]\((?!https?://|#)([^)#\s]+)")
_NAME = re.compile(r"(?<![`\[])`(mapgym(?:\.\w+)+|\w+-v\d+)`(?!`)")

# What a page with a folder of its name ends with, so that the navigation has the pages of the folder below it.
_CHILDREN = """
```{{toctree}}
:hidden:
:glob:

{}/*
```
"""


def sources() -> dict[Path, str]:
    """File of the repository: where its page lies in the site."""
    pages = {
        ROOT / "README.md": "index.md",
        ROOT / "CONTRIBUTING.md": "contributing.md",
        ROOT / "CHANGELOG.md": "changelog.md",
        ROOT / "LICENSE": "LICENSE",
    }
    folder = ROOT / "docs"
    for path in sorted(folder.rglob("*.md")):
        if SITE not in path.parents:
            pages[path] = path.relative_to(folder).as_posix()
    return pages


def converted(text: str, path: Path, pages: dict[Path, str], reference: Reference) -> str:
    """The text of a page, with links to where the other pages lie, and with names linked to what describes them.

    Args:
        text: as it stands in the repository.
        path: the file in the repository.
        pages: see ``sources``.
        reference: knows which full names are described.
    """

    def relative(target: str) -> str:
        return os.path.relpath(target, Path(pages[path]).parent)

    def link(match: re.Match[str]) -> str:
        target = pages.get((path.parent / match[1]).resolve())
        return f"]({relative(target)}" if target else match[0]

    def name(match: re.Match[str]) -> str:
        if match[1] in mapgym.envs.ENVIRONMENT_IDS:
            return f"[{match[0]}]({relative(f'environments/{match[1]}.md')})"
        return f"{{py:obj}}{match[0]}" if reference.is_shown(match[1]) else match[0]

    parts = _FENCED.split(text)
    return "".join(part if part.startswith("```") else _NAME.sub(name, _LINK.sub(link, part)) for part in parts)


def write_pages(folder: Path) -> None:
    """Writes all pages into a folder, which is emptied first."""
    pages = sources()
    texts = {path: path.read_text(encoding="utf-8") for path in pages}
    reference = Reference.of_the_checkout()
    written = {pages[path]: converted(text, path, pages, reference) for path, text in texts.items()}
    written["index.md"] += "\n" + (SITE / "contents.md").read_text(encoding="utf-8")
    written |= environment_pages(reference)
    folders = {Path(name).parent.as_posix() for name in written}
    for name in written:
        if name.removesuffix(".md") in folders:
            written[name] += _CHILDREN.format(name.removesuffix(".md"))
    written |= reference_pages(reference)
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(ROOT / "docs" / "images", folder / "images", dirs_exist_ok=True)
    for name, text in written.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    write_pages(Path(sys.argv[1]))
