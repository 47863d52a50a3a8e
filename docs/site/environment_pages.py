"""The pages of the environments, made of their docstrings: one for each registered id."""

from __future__ import annotations

import inspect
import pkgutil
import re
from typing import Any

import gymnasium as gym
from modules import Reference

import mapgym.envs

_ROLE = re.compile(r":(mod|func|class|meth|data|attr):`([^`]+)`")


def environment_classes(reference: Reference) -> dict[str, tuple[str, str]]:
    """Id: the full names of the environment and of its vector twin."""

    def name(entry_point: object) -> str:
        module, _, name = str(entry_point).partition(":")
        return reference.home(*reference.resolve(module, name))

    specs = {name: gym.spec(name) for name in mapgym.envs.ENVIRONMENT_IDS}
    return {key: (name(spec.entry_point), name(spec.vector_entry_point)) for key, spec in specs.items()}


def environment_pages(reference: Reference) -> dict[str, str]:
    """Page: its text, in Markdown."""
    classes = environment_classes(reference)
    return {f"environments/{name}.md": _page(name, scalar, vector) for name, (scalar, vector) in classes.items()}


def _page(name: str, scalar: str, vector: str) -> str:
    environment: Any = pkgutil.resolve_name(scalar)

    def role(match: re.Match[str]) -> str:
        kind, target = match.groups()
        # In Markdown a name does not know that it stands in the docstring of a class.
        place = f" <{scalar}.{target}>" if hasattr(environment, target) else ""
        return f"{{py:{kind}}}`{target}{place}`"

    return f"""# {name}

{_ROLE.sub(role, inspect.getdoc(environment) or "")}

## Classes

```{{eval-rst}}
.. autoclass:: {scalar}
   :members:
   :inherited-members: Env

.. autoclass:: {vector}
   :members:
   :inherited-members: VectorEnv
```
"""
