"""Dataflow templates, filled for a layer."""

from mapgym.agents.search.dataflow.dataflow import DataflowSearch

__all__ = ["DataflowSearch"]
