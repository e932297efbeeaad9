"""Certificates from an ACME server: certbot against pebble, which validates through a DNS server of the test."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.errors import Degraded
from agent.host import Host
from agent.host.tls.x509 import Pair, parse
from agent.resource import differences
from agent.resources.certificate import Certificate

pytestmark = pytest.mark.inside

DIRECTORY = "https://127.0.0.1:14000/dir"
DAY = 86400.0
PACKAGES = ("certbot", "pebble", "openssl", "python3-cryptography")


@pytest.fixture(scope="session", autouse=True)
def packages() -> None:
    if not all(map(shutil.which, ("certbot", "pebble", "pebble-challtestsrv", "openssl"))):
        command = ["apt-get", "-yq", "--no-install-recommends", "install", *PACKAGES]
        subprocess.run(["apt-get", "-q", "update"], check=True, capture_output=True)
        subprocess.run(["env", "DEBIAN_FRONTEND=noninteractive", *command], check=True, capture_output=True)


class Server:
    """pebble with its DNS; it believes that every name is at 127.0.0.1 unless told otherwise."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ca = folder / "ca.pem"
        self._process: subprocess.Popen[bytes] | None = None
        self._make_certificates()
        config = {
            "listenAddress": "127.0.0.1:14000", "managementListenAddress": "127.0.0.1:15000",
            "certificate": str(folder / "server.pem"), "privateKey": str(folder / "server.key"),
            "httpPort": 5002, "tlsPort": 5001, "ocspResponderURL": "", "externalAccountBindingRequired": False,
            "domainBlocklist": ["blocked.example.net"],
            "profiles": {"default": {"description": "of the test", "validityPeriod": 90 * 86400}},
        }  # fmt: skip
        (folder / "pebble.json").write_text(json.dumps({"pebble": config}))
        self._dns = subprocess.Popen(
            ["pebble-challtestsrv", "-defaultIPv4", "127.0.0.1", "-defaultIPv6", "", "-http01", "", "-https01", "",
             "-tlsalpn01", "", "-doh", "", "-dns01", "127.0.0.1:8053", "-management", "127.0.0.1:8055"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        wait_for(8055)

    def _make_certificates(self) -> None:
        def openssl(*words: str) -> None:
            subprocess.run(["openssl", *words], cwd=self.folder, check=True, capture_output=True)

        key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
        openssl("req", "-x509", *key, "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=test CA", "-days", "2")
        signed = ("-CA", "ca.pem", "-CAkey", "ca.key", "-addext", "subjectAltName=IP:127.0.0.1", "-days", "2")
        openssl("req", "-x509", *key, "-keyout", "server.key", "-out", "server.pem", "-subj", "/CN=pebble", *signed)

    def up(self) -> None:
        if self._process is None:
            command = [
                "pebble",
                "-config",
                str(self.folder / "pebble.json"),
                "-dnsserver",
                "127.0.0.1:8053",
                "-strict=false",
            ]
            env = {"PEBBLE_VA_NOSLEEP": "1", "PEBBLE_WFE_NONCEREJECT": "0", "PATH": "/usr/bin"}
            log = (self.folder / "pebble.log").open("ab")
            self._process = subprocess.Popen(command, env=env, stdout=log, stderr=log)
            wait_for(14000)

    def down(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def point(self, domain: str, *addresses: str) -> None:
        body = json.dumps({"host": domain, "addresses": addresses}).encode()
        urllib.request.urlopen("http://127.0.0.1:8055/add-a", body).close()

    def end(self) -> None:
        self.down()
        self._dns.kill()
        self._dns.wait()

    @property
    def orders(self) -> int:
        """How many requests for a new order it has had."""
        return (self.folder / "pebble.log").read_text().count("/order-plz -> calling handler")


def wait_for(port: int, address: str = "127.0.0.1") -> None:
    for _ in range(100):
        try:
            socket.create_connection((address, port)).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise TimeoutError(port)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("pebble"))
    yield server
    server.end()


@pytest.fixture
def server(running: Server) -> Server:
    running.up()
    return running


@pytest.fixture
def now(host: Host) -> list[float]:
    moment = [time.time()]
    host.clock = lambda: moment[0]
    return moment


def certificate(folder: Path, server: Server, **fields: Any) -> Certificate:
    given = {"domains": ["mail.example.net"], "directory": str(folder / "mail"), "directory_url": DIRECTORY}
    given |= {"ca_file": str(server.ca), "http_port": 5002, "email": "astronaut57@example.net"}
    return Certificate(name="mail", **(given | fields))


def pair_in(folder: Path) -> Pair:
    return Pair((folder / "mail/fullchain.pem").read_bytes(), (folder / "mail/privkey.pem").read_bytes())


def bring(host: Host, resource: Certificate) -> dict[str, Any]:
    """Apply and read again; gives what differed before."""
    change = differences(resource.read(host), resource.desired(host))
    if change is None:
        return {}
    resource.apply(host, change)
    left = differences(resource.read(host), resource.desired(host))
    assert left is None, left
    return {each.attribute: each.actual for each in change.attributes}


def failing(host: Host, resource: Certificate) -> Degraded:
    with pytest.raises(Degraded) as caught:
        bring(host, resource)
    return caught.value


def test_it_is_issued(server: Server, host: Host, tmp_path: Path) -> None:
    domains = ["mail.example.net", "imap.example.net"]
    resource = certificate(tmp_path, server, domains=domains, group="mail")
    bring(host, resource)
    assert bring(host, resource) == {}
    parts = parse(pair_in(tmp_path))
    assert "Pebble" in parts.issuer
    assert (parts.domains, parts.key, parts.fits_key) == (tuple(sorted(domains)), "ecdsa 256", True)
    assert pair_in(tmp_path).chain.count(b"BEGIN CERTIFICATE") == 2, "with its chain"
    found = [path for path in (tmp_path / "mail/acme").rglob("*") if b"PRIVATE KEY" in read(path)]
    assert not found, "the key is in no file of certbot"


def read(path: Path) -> bytes:
    return path.read_bytes() if path.is_file() else b""


def test_renewal_other_domains_and_another_key(server: Server, host: Host, tmp_path: Path, now: list[float]) -> None:
    bring(host, certificate(tmp_path, server))
    first = parse(pair_in(tmp_path))
    now[0] = first.not_after - 31 * DAY
    assert bring(host, certificate(tmp_path, server)) == {}
    now[0] = first.not_after - 20.5 * DAY
    change = differences(certificate(tmp_path, server).read(host), certificate(tmp_path, server).desired(host))
    assert change is not None
    words = certificate(tmp_path, server).summary(host, change)
    assert words.startswith("expires in 20 days (")
    assert words.endswith("): issued by 127.0.0.1")
    # The server's own clock was not set: it issues from today on, so look again from today.
    certificate(tmp_path, server).apply(host, change)
    now[0] = time.time()
    assert bring(host, certificate(tmp_path, server)) == {}
    assert pair_in(tmp_path).key != b""
    assert bring(host, certificate(tmp_path, server, domains=["a.example.net"]))["domains"] == ["mail.example.net"]
    key = {"domains": ["a.example.net"], "key_type": "rsa"}
    assert bring(host, certificate(tmp_path, server, **key)) == {"key": "ecdsa 256"}
    assert parse(pair_in(tmp_path)).key == "rsa 2048"


def test_a_server_that_is_down(server: Server, host: Host, tmp_path: Path, now: list[float]) -> None:
    server.down()
    error = failing(host, certificate(tmp_path, server))
    assert error.changed
    assert "cannot be reached" in error.hint, error.detail
    assert "self-signed" in error.summary
    assert parse(pair_in(tmp_path)).self_signed
    server.up()
    before = server.orders
    assert "the last attempt failed" in str(failing(host, certificate(tmp_path, server)))
    assert server.orders == before, "it was left in peace"
    now[0] += 3601
    state = bring(host, certificate(tmp_path, server))
    assert state == {"issuer": "self-signed"}


def test_the_old_one_stays_while_the_server_is_down(
    server: Server, host: Host, tmp_path: Path, now: list[float]
) -> None:
    bring(host, certificate(tmp_path, server))
    before = pair_in(tmp_path)
    server.down()
    error = failing(host, certificate(tmp_path, server, domains=["other.example.net"]))
    assert not error.changed
    assert "the certificate of before stays" in error.summary
    assert pair_in(tmp_path) == before
    assert bring(host, certificate(tmp_path, server)) == {}


def test_a_server_that_lost_the_account(server: Server, host: Host, tmp_path: Path, now: list[float]) -> None:
    bring(host, certificate(tmp_path, server))
    server.down()
    server.up()  # pebble keeps accounts in memory only
    other = certificate(tmp_path, server, domains=["other.example.net"])
    assert bring(host, other) == {"domains": ["mail.example.net"]}


def test_a_name_that_leads_nowhere(server: Server, host: Host, tmp_path: Path, now: list[float]) -> None:
    server.point("nowhere.example.net", "192.0.2.57")
    error = failing(host, certificate(tmp_path, server, domains=["nowhere.example.net"]))
    assert "192.0.2.57" in error.detail
    assert "port 80" in error.hint
    assert parse(pair_in(tmp_path)).self_signed


@pytest.fixture
def stranger() -> Iterator[str]:
    """The address of another machine, whose web server knows nothing of challenges."""
    space = "sa-stranger"

    def ip(*words: str) -> None:
        subprocess.run(["ip", *words], check=True)

    ip("netns", "add", space)
    ip("link", "add", "sa-here", "type", "veth", "peer", "name", "sa-there", "netns", space)
    for netns, device, address in (((), "sa-here", "10.99.57.1/24"), (("-n", space), "sa-there", "10.99.57.2/24")):
        ip(*netns, "address", "add", address, "dev", device)
        ip(*netns, "link", "set", device, "up")
    web = subprocess.Popen(["ip", "netns", "exec", space, "python3", "-m", "http.server", "5002"], cwd="/var/cache")
    wait_for(5002, "10.99.57.2")
    yield "10.99.57.2"
    web.kill()
    web.wait()
    ip("netns", "delete", space)


def test_a_name_that_leads_to_another_machine(
    server: Server, host: Host, tmp_path: Path, now: list[float], stranger: str
) -> None:
    server.point("stranger.example.net", stranger)
    error = failing(host, certificate(tmp_path, server, domains=["stranger.example.net"]))
    assert "another machine" in error.hint
    assert "404" in error.detail


def test_a_name_that_the_server_refuses(server: Server, host: Host, tmp_path: Path, now: list[float]) -> None:
    error = failing(host, certificate(tmp_path, server, domains=["blocked.example.net"]))
    assert "blocked.example.net" in error.detail


def test_a_port_that_is_taken(server: Server, host: Host, tmp_path: Path, now: list[float]) -> None:
    with socket.create_server(("0.0.0.0", 5002)):
        error = failing(host, certificate(tmp_path, server))
    assert "listens on port 5002" in error.hint


def test_a_server_that_is_not_trusted(server: Server, host: Host, tmp_path: Path, now: list[float]) -> None:
    error = failing(host, certificate(tmp_path, server, ca_file=None))
    assert "verif" in str(error).lower()
    assert "ca_file" in error.hint


def test_from_self_signed_and_back(server: Server, host: Host, tmp_path: Path, now: list[float]) -> None:
    bring(host, certificate(tmp_path, server, provider="selfsigned"))
    assert bring(host, certificate(tmp_path, server)) == {"issuer": "self-signed"}
    state = certificate(tmp_path, server).read(host)
    assert bring(host, certificate(tmp_path, server, provider="selfsigned")) == {"issuer": DIRECTORY}
    certificate(tmp_path, server).undo(host, state)
    assert bring(host, certificate(tmp_path, server)) == {}
