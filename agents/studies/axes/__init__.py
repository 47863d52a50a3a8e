"""Study: what each mapping axis contributes."""
