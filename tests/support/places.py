"""Where things lie in the repository."""

from __future__ import annotations

from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
DOCS = REPOSITORY / "docs"
SUPPORT = REPOSITORY / "tests" / "support"
DATA = REPOSITORY / "tests" / "data"
