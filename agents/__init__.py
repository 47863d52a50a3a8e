"""Agents: classical searchers and learned mappers behind one interface, and the command line."""
