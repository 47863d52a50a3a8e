"""What is mapped onto what: workloads, accelerators, constraints, and the catalog of those that are shipped."""
