"""mapgym: the space of all mappings of a DNN layer onto an accelerator, as Gymnasium environments."""

from __future__ import annotations

from pathlib import Path

# In a checkout mapgym.agents and mapgym.envs_config are the top-level folders agents/ and envs_config/; an installed
# package has them inside.
if not (Path(__file__).parent / "agents").is_dir():
    __path__.append(str(Path(__file__).parent.parent))

__version__ = "0.1.0"
