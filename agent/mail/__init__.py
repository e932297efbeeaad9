"""What only a mail host needs; knows the engine only through its public calls."""
