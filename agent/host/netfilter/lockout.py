"""Whether new rules would cut off the ssh connection over which they are applied; the kernel is asked, not the rules.

Two throw-away network namespaces stand for the two ends of the connection, with its addresses, its port and the name of
its interface. The one that stands for this host gets the rules as they are, then the new ones: the connection has to
go on, and a new one has to come about.
"""

from __future__ import annotations

import ipaddress
import json
import os
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from agent.errors import ResourceError
from agent.host.netfilter.iptables import Netfilter
from agent.host.netfilter.ruleset import Ruleset, set_names
from agent.host.netns import Namespace, throw_away

_PATIENCE = 1.5  # a lost SYN is sent again after one second
_CARRIER_WAIT = 5.0
_HINT = "--confirm SECONDS applies it, and puts the old rules back unless you confirm in time"


@dataclass(frozen=True)
class Connection:
    """An ssh connection to this host, as `SSH_CONNECTION` of sshd(8) tells it."""

    client: str
    server: str
    port: int

    @property
    def family(self) -> str:
        """The family of its addresses."""
        return "ipv6" if ":" in self.server else "ipv4"


@dataclass(frozen=True)
class Ends:
    """The namespaces of both ends of a connection, with the names of their interfaces."""

    client: Namespace
    server: Namespace
    plug: str
    interface: str

    def forget_neighbours(self) -> None:
        """Make them find each other again, as they have to from time to time: for IPv6 that takes packets, too."""
        if self.client is not self.server:
            self.server.run(["ip", "neighbour", "flush", "dev", self.interface])
            self.client.run(["ip", "neighbour", "flush", "dev", self.plug])


def ssh_connection() -> Connection | None:
    """The ssh connection that this process was started over; sudo takes the variable away, so its parents are asked."""
    pid, text = os.getpid(), os.environ.get("SSH_CONNECTION", "")
    while not text and pid > 1:
        try:
            environ = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
            pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        except (OSError, ValueError):
            return None
        found = [each for each in environ if each.startswith(b"SSH_CONNECTION=")]
        text = found[0].partition(b"=")[2].decode(errors="replace") if found else ""
    return _connection(text)


def _connection(text: str) -> Connection | None:
    with suppress(ValueError):
        client, _, server, port = text.split()
        return Connection(_address(client), _address(server), int(port))
    return None


def _address(text: str) -> str:
    """An address without its zone; IPv4 in the guise of IPv6 is IPv4."""
    address = ipaddress.ip_address(text.partition("%")[0])
    mapped = getattr(address, "ipv4_mapped", None)
    return str(mapped or address)


def guard(netfilter: Netfilter, old: Mapping[str, Ruleset], edits: Mapping[str, str]) -> None:
    """Raise ResourceError where these edits would cut off the ssh connection over which they are made."""
    connection = ssh_connection()
    if connection is None or connection.family not in edits:
        return
    family = connection.family
    try:
        what = _cut(netfilter, connection, old[family], edits[family])
    except (ResourceError, OSError) as error:
        raise ResourceError(
            "whether these rules would cut off your ssh connection cannot be told; nothing was touched",
            detail=str(error), hint=_HINT,
        ) from None  # fmt: skip
    if what:
        raise ResourceError(
            f"these rules would cut off {what} from {connection.client} to {connection.server} port "
            f"{connection.port}; nothing was touched",
            hint=_HINT,
        )


def _cut(netfilter: Netfilter, connection: Connection, old: Ruleset, edit: str) -> str:
    """What would be cut off, in words, or nothing."""
    family = connection.family
    with _ends(netfilter, connection) as ends:
        server = ends.server
        with server.call(lambda: _listen(connection, ends.interface)) as listener:
            if set_names(old.text.splitlines() + edit.splitlines()):
                server.run(["ipset", "restore"], stdin=netfilter.ipsets())
            netfilter.restore(family, old.text, server, flush=True)
            standing = _connect(ends, connection, listener)
            netfilter.restore(family, edit, server)
            if standing is not None and not _answers(*standing):
                return "your ssh connection"
            ends.forget_neighbours()
            new = _connect(ends, connection, listener)
            good = new is not None and _answers(*new)
            for each in (*(standing or ()), *(new or ())):
                each.close()
            return "" if good else "new ssh connections"


@contextmanager
def _ends(netfilter: Netfilter, connection: Connection) -> Iterator[Ends]:
    """The two ends: namespaces for the client and for this host, joined by a cable with the connection's addresses."""
    interface = _interface(netfilter, connection)
    with ExitStack() as stack:
        server = stack.enter_context(throw_away())
        if interface == "lo":
            server.run(["ip", "-batch", "-"], stdin="link set lo up\n" + _addresses(connection, "lo"))
            yield Ends(server, server, interface, interface)
            return
        client = stack.enter_context(throw_away())
        cable = f"link add {interface} type veth peer name client netns {client.path}\nlink set lo up\n"
        server.run(["ip", "-batch", "-"], stdin=cable + _wiring(connection.server, connection.client, interface))
        client.run(["ip", "-batch", "-"], stdin=_wiring(connection.client, connection.server, "client"))
        _await_carrier((server, interface), (client, "client"))
        yield Ends(client, server, "client", interface)


def _wiring(own: str, other: str, interface: str) -> str:
    """Lines for ip(8): one end of the cable, at once without asking whether somebody else has its address."""
    bits, nodad = (128, " nodad") if ":" in own else (32, "")
    return (
        f"link set {interface} up\naddr add {own}/{bits} dev {interface}{nodad}\n"
        f"route add {other}/{bits} dev {interface}\n"
    )


def _await_carrier(*plugs: tuple[Namespace, str]) -> None:
    """Wait until these interfaces carry: the kernel sees a cable some time after it is there, and loses packets before.

    Raises ResourceError where that lasts too long.
    """
    until = time.monotonic() + _CARRIER_WAIT
    for namespace, interface in plugs:
        while not _carries(namespace, interface):
            if time.monotonic() > until:
                raise ResourceError(f"the throw-away interface {interface} carries nothing after {_CARRIER_WAIT} s")
            time.sleep(0.02)


def _carries(namespace: Namespace, interface: str) -> bool:
    links = json.loads(namespace.run(["ip", "-json", "link", "show", "dev", interface]).stdout)
    return bool(links[0]["operstate"] == "UP")


def _addresses(connection: Connection, interface: str) -> str:
    text = ""
    for address in {connection.client, connection.server} - {"127.0.0.1", "::1"}:
        bits, nodad = (128, " nodad") if ":" in address else (32, "")
        text += f"addr add {address}/{bits} dev {interface}{nodad}\n"
    return text


def _interface(netfilter: Netfilter, connection: Connection) -> str:
    """The interface that the connection comes in by. Raises ResourceError where none has its address."""
    found = {}
    for interface in json.loads(netfilter.namespace.run(["ip", "-json", "address"]).stdout):
        for each in interface.get("addr_info", ()):
            found[each.get("local")] = interface["ifname"]
    if connection.server not in found:
        raise ResourceError(f"no interface has the address {connection.server}")
    return "lo" if connection.client in found else str(found[connection.server])


def _with_zone(address: str, interface: str) -> str:
    """The address as a socket wants it: a link-local one says by which interface."""
    return f"{address}%{interface}" if ipaddress.ip_address(address).is_link_local and ":" in address else address


def _listen(connection: Connection, interface: str) -> socket.socket:
    kind = socket.AF_INET6 if connection.family == "ipv6" else socket.AF_INET
    server = socket.getaddrinfo(_with_zone(connection.server, interface), connection.port, kind, socket.SOCK_STREAM)
    listener = socket.create_server(server[0][4], family=kind)
    listener.settimeout(_PATIENCE)
    return listener


def _connect(ends: Ends, connection: Connection, listener: socket.socket) -> tuple[socket.socket, socket.socket] | None:
    """Both sockets of a new connection, or None where none comes about."""

    def connect() -> socket.socket:
        kind = socket.AF_INET6 if connection.family == "ipv6" else socket.AF_INET
        near = socket.socket(kind, socket.SOCK_STREAM)
        near.settimeout(_PATIENCE)
        try:
            for method, address, port in (
                (near.bind, connection.client, 0),
                (near.connect, connection.server, connection.port),
            ):
                method(socket.getaddrinfo(_with_zone(address, ends.plug), port, kind, socket.SOCK_STREAM)[0][4])
        except OSError:
            near.close()
            raise
        return near

    with suppress(OSError):
        near = ends.client.call(connect)
        with suppress(OSError):
            far, _ = listener.accept()
            far.settimeout(_PATIENCE)
            return near, far
        near.close()
    return None


def _answers(near: socket.socket, far: socket.socket) -> bool:
    """Whether what is sent arrives, in both directions; first what the agent itself writes to its terminal."""
    with suppress(OSError):
        for one, other in ((far, near), (near, far)):
            one.sendall(b"x")
            if other.recv(1) != b"x":
                return False
        return True
    return False
