"""Data only: the accelerators and networks of the catalog as YAML files; :mod:`mapgym.spec.catalog` reads them."""
