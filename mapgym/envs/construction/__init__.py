"""``MapSpace-v0``: builds one mapping, decision by decision."""
