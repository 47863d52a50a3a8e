"""How objectives are written for people."""

from __future__ import annotations

OBJECTIVE_NAMES = {"edp": "EDP", "energy": "energy", "latency": "latency"}
OBJECTIVE_UNITS = {"edp": "pJ*cycles", "energy": "pJ", "latency": "cycles"}
