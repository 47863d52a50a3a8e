"""What an experiment asks for."""
