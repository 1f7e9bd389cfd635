"""Generation the prompts of a file with base and compositions."""
