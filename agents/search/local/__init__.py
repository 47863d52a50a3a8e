"""Searchers that edit mappings."""
