"""The end-to-end test of a mail host: what `agent doctor` finds out by sending, receiving and asking."""
