"""What is refused, and in which words."""

from mapgym.errors.checks import (
    LONGEST_NAME,
    MAX_INTEGER,
    InputWarning,
    SpecificationError,
    positive_int,
    require_keys,
    require_kind,
    require_name,
    require_one_of,
    suggest,
)

__all__ = [
    "LONGEST_NAME",
    "MAX_INTEGER",
    "InputWarning",
    "SpecificationError",
    "positive_int",
    "require_keys",
    "require_kind",
    "require_name",
    "require_one_of",
    "suggest",
]
