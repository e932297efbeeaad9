"""Certificates: self-signed ones, their files and their renewal; those from an ACME server are in test_acme.py."""

from __future__ import annotations

import json
import os
import ssl
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from residence import counting

from agent.errors import Degraded, ResourceError
from agent.host import Host
from agent.host.tls import acme
from agent.host.tls.acme import Attempts, Order
from agent.host.tls.x509 import KeyType, Pair, parse, self_signed
from agent.resource import Change, Resource, differences
from agent.resources.certificate import Certificate

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="files of root are made")

Converge = Callable[[Resource], Change | None]
Agent = Callable[..., tuple[int, dict[str, Any]]]
DAY = 86400.0
NOW = 1_800_000_000.0
SERVER = "https://acme.example.net/directory"


@pytest.fixture
def now(host: Host) -> list[float]:
    """The time of the host, in a list so that tests can change it."""
    moment = [NOW]
    host.clock = lambda: moment[0]
    return moment


def certificate(folder: Path, **fields: Any) -> Certificate:
    fields = {"provider": "selfsigned", "domains": ["mail.example.net"], "directory": str(folder / "mail")} | fields
    return Certificate(name="mail", **fields)


def pair_in(folder: Path) -> Pair:
    return Pair((folder / "mail/fullchain.pem").read_bytes(), (folder / "mail/privkey.pem").read_bytes())


def changed(change: Change | None) -> dict[str, Any]:
    assert change is not None
    return {each.attribute: each.actual for each in change.attributes}


def changes(host: Host, resource: Certificate) -> dict[str, Any]:
    change = differences(resource.read(host), resource.desired(host))
    return {} if change is None else changed(change)


def test_it_is_made_and_left_alone(converge: Converge, tmp_path: Path, now: list[float]) -> None:
    resource = certificate(tmp_path, domains=["mail.example.net", "*.example.net"])
    assert converge(resource) is not None
    assert converge(resource) is None
    parts = parse(pair_in(tmp_path))
    assert parts.domains == ("*.example.net", "mail.example.net")
    assert (parts.key, parts.self_signed, parts.fits_key) == ("ecdsa 256", True, True)
    ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(tmp_path / "mail/combined.pem")
    for name in ("privkey.pem", "combined.pem"):
        assert stat.S_IMODE((tmp_path / "mail" / name).stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "mail/fullchain.pem").stat().st_mode) == 0o644


def test_openssl_accepts_it(converge: Converge, tmp_path: Path) -> None:
    converge(certificate(tmp_path))
    path = str(tmp_path / "mail/fullchain.pem")
    command = ["openssl", "verify", "-x509_strict", "-purpose", "sslserver", "-verify_hostname", "mail.example.net"]
    done = subprocess.run([*command, "-CAfile", path, path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(("kind", "size", "key"), [("rsa", None, "rsa 2048"), ("ecdsa", 384, "ecdsa 384")])
def test_another_key_type(converge: Converge, tmp_path: Path, kind: str, size: int | None, key: str) -> None:
    converge(certificate(tmp_path))
    assert changed(converge(certificate(tmp_path, key_type=kind, key_size=size))) == {"key": "ecdsa 256"}
    assert parse(pair_in(tmp_path)).key == key


def test_other_domains(converge: Converge, tmp_path: Path, now: list[float]) -> None:
    converge(certificate(tmp_path))
    change = converge(certificate(tmp_path, domains=["other.example.net", "mail.example.net"]))
    assert changed(change) == {"domains": ["mail.example.net"]}
    assert converge(certificate(tmp_path, domains=["mail.example.net", "other.example.net"])) is None, (
        "order is nothing"
    )


def test_it_is_renewed_in_time(converge: Converge, tmp_path: Path, host: Host, now: list[float]) -> None:
    resource = certificate(tmp_path)
    converge(resource)
    end = parse(pair_in(tmp_path)).not_after
    now[0] = end - 30 * DAY - 1
    assert converge(resource) is None
    now[0] = end - 12 * DAY - 60
    assert str(changes(host, resource)["renewal"]).startswith("expires in 12 days (")
    converge(resource)
    assert parse(pair_in(tmp_path)).not_after > end
    now[0] += 900 * DAY
    assert str(changes(host, resource)["renewal"]).startswith("expired (")
    assert converge(resource) is not None


def test_renewal_never_comes_in_the_first_two_thirds(converge: Converge, tmp_path: Path, now: list[float]) -> None:
    resource = certificate(tmp_path, renew_before="2000d")
    converge(resource)
    assert converge(resource) is None
    now[0] += 540 * DAY
    assert converge(resource) is not None


def test_a_key_that_does_not_fit(converge: Converge, tmp_path: Path, host: Host, now: list[float]) -> None:
    converge(certificate(tmp_path))
    other = self_signed(KeyType("ecdsa", 256), ["mail.example.net"], NOW)
    chain = (tmp_path / "mail/fullchain.pem").read_bytes()
    (tmp_path / "mail/privkey.pem").write_bytes(other.key)
    (tmp_path / "mail/combined.pem").write_bytes(other.key + chain)
    assert changes(host, certificate(tmp_path)) == {"pair": "the key is not that of the certificate"}
    converge(certificate(tmp_path))
    assert parse(pair_in(tmp_path)).fits_key


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("fullchain.pem", None, "fullchain.pem is not there"),
        ("privkey.pem", None, "privkey.pem is not there"),
        ("combined.pem", b"x", "combined.pem is not privkey.pem and fullchain.pem"),
    ],
)
def test_damage_is_put_right(converge: Converge, tmp_path: Path, name: str, content: bytes | None, said: str) -> None:
    converge(certificate(tmp_path))
    path = (tmp_path / "mail" / name).resolve()
    path.unlink() if content is None else path.write_bytes(content)
    assert changes(Host(), certificate(tmp_path))["pair"] == said
    converge(certificate(tmp_path))
    assert parse(pair_in(tmp_path)).fits_key


@pytest.mark.parametrize(("damaged", "said"), [("chain", "no readable certificate"), ("key", "no readable key")])
def test_nonsense_in_the_files(converge: Converge, tmp_path: Path, host: Host, damaged: str, said: str) -> None:
    converge(certificate(tmp_path))
    pair = pair_in(tmp_path)
    parts = {"chain": pair.chain, "key": pair.key, damaged: b"-----BEGIN NONSENSE-----\n"}
    both = parts["key"] + parts["chain"]
    for name, content in (
        ("fullchain.pem", parts["chain"]), ("privkey.pem", parts["key"]), ("combined.pem", both),
    ):  # fmt: skip
        (tmp_path / "mail" / name).write_bytes(content)
    assert said in changes(host, certificate(tmp_path))["pair"]
    converge(certificate(tmp_path))


def test_a_certificate_put_there_by_hand(converge: Converge, tmp_path: Path, host: Host, now: list[float]) -> None:
    converge(certificate(tmp_path))
    other = self_signed(KeyType("ecdsa", 256), ["mail.example.net"], NOW)
    (tmp_path / "mail/fullchain.pem").write_bytes(other.chain)
    (tmp_path / "mail/privkey.pem").write_bytes(other.key)
    (tmp_path / "mail/combined.pem").write_bytes(other.key + other.chain)
    assert changes(host, certificate(tmp_path)) == {"issuer": "changed by hand: CN=mail.example.net"}
    converge(certificate(tmp_path))
    assert pair_in(tmp_path) != other


def test_a_file_in_place_of_the_stable_path_is_moved_aside(
    converge: Converge, tmp_path: Path, host: Host, now: list[float]
) -> None:
    converge(certificate(tmp_path))
    before = pair_in(tmp_path)
    (tmp_path / "mail/fullchain.pem").unlink()
    (tmp_path / "mail/fullchain.pem").write_text("mine")
    assert changes(host, certificate(tmp_path)) == {"paths": "fullchain.pem was replaced"}
    converge(certificate(tmp_path))
    assert pair_in(tmp_path) == before
    assert (tmp_path / "mail/fullchain.pem.saved").read_text() == "mine"


def test_files_of_others_at_the_stable_paths(converge: Converge, tmp_path: Path, now: list[float]) -> None:
    (tmp_path / "mail").mkdir()
    (tmp_path / "mail/privkey.pem").write_text("precious")
    assert changed(converge(certificate(tmp_path)))["pair"] == "there is none of the agent's making"
    assert (tmp_path / "mail/privkey.pem.saved").read_text() == "precious"
    converge(certificate(tmp_path, ensure="absent"))
    assert os.listdir(tmp_path / "mail") == ["privkey.pem"]
    assert (tmp_path / "mail/privkey.pem").read_text() == "precious"


def test_a_group_may_read_the_key(converge: Converge, tmp_path: Path, now: list[float]) -> None:
    converge(certificate(tmp_path))
    before = pair_in(tmp_path)
    converge(certificate(tmp_path, group="mail"))
    status = (tmp_path / "mail/privkey.pem").stat()
    assert stat.S_IMODE(status.st_mode) == 0o640
    assert pair_in(tmp_path) == before, "nothing is issued for it"
    (tmp_path / "mail/privkey.pem").chmod(0o644)
    assert changed(converge(certificate(tmp_path, group="mail")))["mode"] == "differing"


def test_a_pair_is_switched_at_once(converge: Converge, tmp_path: Path, host: Host, now: list[float]) -> None:
    """Whoever follows `current` once gets a pair that fits, however often it is replaced meanwhile."""
    resource = certificate(tmp_path)
    converge(resource)
    kept = Path(os.readlink(tmp_path / "mail/current")).name
    now[0] += 790 * DAY
    converge(resource)
    versions = sorted(path.name for path in (tmp_path / "mail/versions").iterdir())
    assert len(versions) == 2, "one version back is kept for whoever has just opened it"
    assert kept in versions
    now[0] += 790 * DAY
    converge(resource)
    assert kept not in os.listdir(tmp_path / "mail/versions")


def test_removal_and_return(converge: Converge, tmp_path: Path, host: Host, now: list[float]) -> None:
    converge(certificate(tmp_path))
    state, before = certificate(tmp_path).read(host), pair_in(tmp_path)
    converge(certificate(tmp_path, domains=["other.example.net"]))
    certificate(tmp_path).undo(host, state)
    assert pair_in(tmp_path) == before
    (tmp_path / "mail/note").write_text("of the user")
    converge(certificate(tmp_path, ensure="absent"))
    assert os.listdir(tmp_path / "mail") == ["note"]
    converge(certificate(tmp_path))
    certificate(tmp_path).undo(host, None)
    assert os.listdir(tmp_path / "mail") == ["note"]
    with pytest.raises(ResourceError, match="no longer kept"):
        certificate(tmp_path).undo(host, state)


def test_problems() -> None:
    def said(**fields: Any) -> str:
        return "\n".join(Certificate(name="x", **fields).problems())

    assert "domains is needed" in said()
    assert "cannot be proved" in said(domains=["*.example.net"])
    assert "2048, 3072, 4096, not 1024" in said(domains=["example.net"], key_type="rsa", key_size=1024)
    assert "lets others" in said(domains=["example.net"], mode="0644")
    assert said(domains=["example.net"], mode="0440", key_type="rsa", key_size=4096) == ""


def test_the_key_is_nowhere_in_what_can_be_seen(converge: Converge, tmp_path: Path, host: Host) -> None:
    change = converge(certificate(tmp_path))
    pair = pair_in(tmp_path)
    state = certificate(tmp_path).read(host)
    body = pair.key.decode().splitlines()[1]
    assert body not in repr((change, state, pair, certificate(tmp_path)))
    json.dumps(state)


# An ACME server that does not answer


def order(**fields: Any) -> Order:
    return Order(SERVER, ("mail.example.net",), KeyType("ecdsa", 256), **fields)


def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> Path:
    """A certbot that does as it is told; gives the file with one line for each time that it was started."""
    program = tmp_path / "bin/certbot"
    program.parent.mkdir(exist_ok=True)
    program.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/starts\n{script}\n')
    program.chmod(0o755)
    monkeypatch.setattr("agent.host.run.PATH", f"{program.parent}:/usr/bin:/bin")
    (tmp_path / "starts").touch()
    return tmp_path / "starts"


def test_a_failing_server_leaves_a_self_signed_one_and_is_left_in_peace(
    tmp_path: Path, host: Host, now: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    starts = stand_in(tmp_path, monkeypatch, "echo '  Type:   connection\n  Detail: 192.0.2.1: no route'; exit 1")
    resource = certificate(tmp_path, provider="letsencrypt", directory_url=SERVER)

    def bring() -> Degraded:
        change = differences(resource.read(host), resource.desired(host))
        assert change is not None
        with pytest.raises(Degraded) as caught:
            resource.apply(host, change)
        return caught.value

    error = bring()
    assert error.changed
    assert "192.0.2.1: no route" in error.detail
    assert "port 80" in error.hint
    first = pair_in(tmp_path)
    assert parse(first).self_signed
    now[0] += 3599
    error = bring()
    assert not error.changed
    assert "192.0.2.1: no route" in str(error)
    assert "attempts.json" in error.hint
    change = differences(resource.read(host), resource.desired(host))
    assert change is not None
    assert "left in peace, not before" in resource.summary(host, change)
    assert len(starts.read_text().splitlines()) == 1, "the server was not asked again"
    now[0] += 2
    bring()
    assert len(starts.read_text().splitlines()) == 2
    now[0] += 3601
    bring()
    assert len(starts.read_text().splitlines()) == 2, "the second pause is longer"
    assert pair_in(tmp_path) == first
    assert [path.name for path in (tmp_path / "mail/acme").iterdir()] == ["attempts.json"]


def test_a_changed_request_is_tried_at_once(tmp_path: Path) -> None:
    Attempts(str(tmp_path)).failed(order(), NOW, "why")
    assert acme.pause(str(tmp_path), order(), NOW + 1) is not None
    assert acme.pause(str(tmp_path), order(http_port=8080), NOW + 1) is None
    assert acme.pause(str(tmp_path), order(), NOW - 1) is None, "a clock that was set back does not block for years"


def test_pauses_grow_up_to_a_day(tmp_path: Path) -> None:
    pauses = []
    for _ in range(7):
        Attempts(str(tmp_path)).failed(order(), NOW, "why")
        found = Attempts(str(tmp_path)).pause(order(), NOW)
        assert found is not None
        pauses.append((found[0] - NOW) / 3600)
    assert pauses == [1, 2, 4, 8, 16, 24, 24]
    Attempts(str(tmp_path)).succeeded(order(), NOW)
    assert acme.pause(str(tmp_path), order(), NOW) is None


def test_no_more_than_four_in_a_week(tmp_path: Path) -> None:
    for day in range(4):
        assert acme.pause(str(tmp_path), order(), NOW + day * DAY) is None
        Attempts(str(tmp_path)).succeeded(order(), NOW + day * DAY)
    assert "within a week" in str(acme.pause(str(tmp_path), order(), NOW + 6 * DAY))
    assert acme.pause(str(tmp_path), order(), NOW + 7 * DAY) is None


@pytest.mark.parametrize("text", ["", "[]", "{", '{"failed": 7, "issued": 7}', '{"failed": {"request": 1}}'])
def test_a_damaged_record_is_no_record(tmp_path: Path, text: str) -> None:
    (tmp_path / "attempts.json").write_text(text)
    assert acme.pause(str(tmp_path), order(), NOW) is None
    Attempts(str(tmp_path)).failed(order(), NOW, "why")
    assert acme.pause(str(tmp_path), order(), NOW) is not None


@pytest.mark.parametrize(
    ("said", "hint"),
    [
        ("Could not bind TCP port 80 because it is already in use", "listens on port 80"),
        ("requests.exceptions.ConnectionError: HTTPSConnectionPool(host='x')", "cannot be reached"),
        ("Type:   dns\n  Detail: NXDOMAIN looking up A for x", "A and AAAA records of these domains exist"),
        ("Type:   unauthorized\n  Detail: 404", "another machine"),
        ("too many certificates already issued for: example.net", "enough of it"),
    ],
)
def test_what_to_do_about_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str, hint: str) -> None:
    stand_in(tmp_path, monkeypatch, f"cat >&2 <<EOF\nSaving debug log to /x\n{said}\nEOF\nexit 1")
    with pytest.raises(ResourceError) as caught:
        acme.obtain(str(tmp_path / "acme"), order(), NOW)
    assert hint in caught.value.hint
    assert "debug log" not in caught.value.detail


def test_certbot_is_missing(tmp_path: Path, host: Host, now: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.host.run.PATH", str(tmp_path))
    resource = certificate(tmp_path, provider="letsencrypt", directory_url=SERVER)
    change = differences(resource.read(host), resource.desired(host))
    assert change is not None
    with pytest.raises(Degraded, match="certbot is not installed"):
        resource.apply(host, change)
    assert parse(pair_in(tmp_path)).self_signed
    assert "apt:certbot" in resource.implied_requires()
    assert not (tmp_path / "mail/acme/attempts.json").exists(), "nobody was asked"


def test_reading_starts_no_program(converge: Converge, tmp_path: Path, host: Host) -> None:
    converge(certificate(tmp_path))
    with counting() as counted:
        certificate(tmp_path).read(host)
    assert counted.opened
    assert counted.started == []


def test_what_needs_it_goes_on_when_the_server_fails(agent: Agent, tmp_path: Path, monkeypatch: Any) -> None:
    site = f"""
[certificate.mail]
domains = ["mail.example.net"]
directory = "{tmp_path}/mail"
directory_url = "https://127.0.0.1:1/directory"
[command.reload]
run = ["sh", "-c", "echo >> {tmp_path}/reloads"]
refresh_on = ["certificate:mail"]
[file."{tmp_path}/after"]
content = "x"
requires = ["certificate:mail"]
"""
    code, found = agent(site, "apply")
    row = found["certificate:mail"]
    assert (code, row["outcome"]) == (1, "failed")
    assert "a self-signed certificate is there instead" in row["error"]
    assert found[f"file:{tmp_path}/after"]["outcome"] == "added"
    assert found["command:reload"]["outcome"] == "refreshed"
    assert parse(pair_in(tmp_path)).self_signed
    code, found = agent(site, "apply")
    assert (code, found["certificate:mail"]["outcome"]) == (1, "failed")
    assert found["command:reload"]["outcome"] == "in-desired-state"
    assert (tmp_path / "reloads").read_text() == "\n", "a failure that changed nothing refreshes nobody"
