"""The kinds of resources: one file each; a kind never imports another.

The registry is explicit, and a kind is imported when a site first uses it.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module

from agent.resource import Resource

_KINDS = {
    "apt": "apt:Apt",
    "apt_source": "apt_source:AptSource",
    "block": "block:Block",
    "certificate": "certificate:Certificate",
    "check": "check:Check",
    "command": "command:Command",
    "directory": "directory:Directory",
    "dns_record": "dns_record:DnsRecord",
    "file": "file:File",
    "gocryptfs": "gocryptfs:Gocryptfs",
    "group": "group:Group",
    "iptables": "iptables:Iptables",
    "keyring": "keyring:Keyring",
    "link": "link:Link",
    "postgres_database": "postgres_database:PostgresDatabase",
    "postgres_role": "postgres_role:PostgresRole",
    "postgres_rows": "postgres_rows:PostgresRows",
    "postgres_table": "postgres_table:PostgresTable",
    "service": "service:Service",
    "user": "user:User",
}

KINDS = tuple(_KINDS)


@cache
def kind_class(kind: str) -> type[Resource]:
    """The class of a kind; raises KeyError for a kind that does not exist."""
    module, _, name = _KINDS[kind].partition(":")
    found: type[Resource] = getattr(import_module(f"agent.resources.{module}"), name)
    return found
