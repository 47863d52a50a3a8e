"""Certificates for the tasks of an experiment."""
