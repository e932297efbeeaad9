"""state-agent: a declarative state engine for one Debian host."""

__version__ = "0.1.0"
