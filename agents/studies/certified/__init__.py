"""Study: mappers that claim to be optimal, beside optima that are certified."""
