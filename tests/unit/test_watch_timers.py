"""How often resources are read again though nothing told."""

from __future__ import annotations

from agent.graph import Entry
from agent.resource import Resource
from agent.resources.dns_record import DnsRecord
from agent.resources.file import File
from agent.resources.keyring import Keyring
from agent.watch.timers import Timers


def timers(*resources: Resource) -> Timers:
    return Timers([Entry(resource, "", "", []) for resource in resources], 0.0)


def test_each_has_its_own_period_and_those_of_one_period_one_wake_up() -> None:
    found = timers(
        File(name="/a", content="", check_every="1m"),
        File(name="/b", content="", check_every="60s"),
        File(name="/c", content=""),
        Keyring(name="/k"),
    )
    assert found.next_due() == 60.0
    assert found.take(59.9) == []
    assert found.take(60.5) == ["file:/a", "file:/b"]
    assert found.next_due() == 120.5
    assert found.take(3600.0) == ["file:/a", "file:/b", "file:/c"]
    assert "keyring:/k" in found.take(6 * 3600.0)


def test_a_period_cannot_keep_the_host_busy() -> None:
    found = timers(File(name="/a", content="", check_every="1ms"))
    assert found.next_due() == 1.0


def test_after_a_sleep_each_comes_once() -> None:
    found = timers(File(name="/a", content="", check_every="1m"), DnsRecord(name="example.net A", value="192.0.2.1"))
    assert sorted(found.take(86400.0)) == ["dns_record:example.net A", "file:/a"]
    assert found.take(86401.0) == []
