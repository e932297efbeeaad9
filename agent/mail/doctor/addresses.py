"""The addresses of this host, and which of them is a stranger's to Postfix."""

from __future__ import annotations

import json
from collections.abc import Iterable
from ipaddress import ip_address, ip_network
from typing import Any

from agent.host.run import observe

_FAMILIES = {"ipv4": ("inet",), "ipv6": ("inet6",), "all": ("inet", "inet6")}


def of_this_host(protocols: str) -> list[str]:
    """Its addresses of these protocols (`ipv4`, `ipv6` or `all`) that others can reach."""
    return parsed(json.loads(observe(["ip", "-json", "address", "show", "up"]).stdout or "[]"), protocols)


def parsed(links: Iterable[dict[str, Any]], protocols: str) -> list[str]:
    """The global addresses in what `ip -json address` says; those of IPv4 first."""
    found = [
        (str(each["family"]), str(each["local"]))
        for link in links
        for each in link.get("addr_info", ())
        if each.get("scope") == "global" and each.get("family") in _FAMILIES[protocols] and "local" in each
    ]
    return [address for _, address in sorted(found, key=lambda each: each[0])]


def outside_of(addresses: Iterable[str], networks: Iterable[str]) -> str:
    """The first address that is in none of these networks; empty where all are."""
    trusted = [ip_network(each, strict=False) for each in networks]
    for address in addresses:
        if not any(ip_address(address) in network for network in trusted):
            return address
    return ""
