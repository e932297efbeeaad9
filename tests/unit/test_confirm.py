"""Firewall rules on probation: what is said where the process that puts the old ones back did not come to its end."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from agent.errors import CommandFailed, ResourceError
from agent.host import Host
from agent.host.netfilter import confirm
from agent.host.netfilter.iptables import Netfilter
from agent.host.netfilter.ruleset import Ruleset


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    def arm(folder: Path, *_: object) -> None:
        folder.mkdir(parents=True)
        (folder / "old").write_text(json.dumps({"namespace": None, "programs": {}, "old": {}}))
        (folder / "reverting").touch()  # it began, and died of what iptables-restore said

    monkeypatch.setattr(confirm, "_arm", arm)
    monkeypatch.setattr(confirm, "_GRACE", 0.1)
    return Host(run_dir=str(tmp_path / "run"), state_dir=str(tmp_path / "state"), confirm_within=0.1)


def load(host: Host) -> None:
    with confirm.confirmed(host, Netfilter(None, {}), {}, {}):
        pass


def test_it_is_tried_again(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    tried = []
    monkeypatch.setattr(confirm, "put_back", lambda _netfilter, old: tried.append(old))
    with pytest.raises(ResourceError, match="the old ones are back"):
        load(host)
    assert tried == [{}]


def test_rules_that_are_not_back_are_not_called_so(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(_netfilter: Netfilter, _old: Mapping[str, Ruleset]) -> None:
        raise CommandFailed("iptables-restore: exit status 2", detail="Set admins doesn't exist.")

    monkeypatch.setattr(confirm, "put_back", refused)
    with pytest.raises(ResourceError, match="could not be put back: the new ones are in force") as error:
        load(host)
    assert "Set admins" in error.value.detail
