"""systemd: its units, and what a service tells it."""
