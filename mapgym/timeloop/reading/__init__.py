"""What people have for Timeloop, read: architectures, energies, problems, sparse optimisations."""
