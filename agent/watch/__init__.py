"""The resident agent: events into resource ids, and those through the same engine as every other command."""
