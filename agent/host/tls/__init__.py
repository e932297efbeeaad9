"""Certificates: made, read, kept in place, and had from an ACME server."""
