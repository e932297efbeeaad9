"""Packages: what dpkg has, what apt could install, and how changes are carried out."""
