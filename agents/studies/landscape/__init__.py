"""Study: what the costs around good mappings look like."""
