"""Results that Timeloop has printed: read, priced anew, and compared figure by figure."""
