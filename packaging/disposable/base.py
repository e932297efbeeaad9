"""The base system that every fresh host starts from, made once by debootstrap, and where packages come from."""

import os
import re
import shutil
import time
import zlib
from pathlib import Path

from disposable.machine import BASES, CACHE, CONTAINED, HostError, locked, say, sh

SUITE = "trixie"
PACKAGES = (
    "adduser,apt-utils,ca-certificates,cron,dbus,ifupdown,init,iproute2,iputils-ping,kmod,less,libpam-systemd,"
    "logrotate,nano,netbase,procps,sudo,systemd,systemd-sysv,tzdata,udev,whiptail"
)
TOOLS = {"debootstrap": "debootstrap", "systemd-nspawn": "systemd-container", "ip": "iproute2"}


def install_tools() -> None:
    missing = sorted(package for tool, package in TOOLS.items() if not shutil.which(tool))
    if missing:
        say(f"installing {', '.join(missing)}")
        os.environ["DEBIAN_FRONTEND"] = "noninteractive"
        sh("apt-get", "update")
        sh("apt-get", "install", "--yes", "--no-install-recommends", *missing)


def mirrors() -> tuple[str, str]:
    """Returns the archive and the security archive: the environment's, or those of this machine's apt.

    Raises HostError where there are none.
    """
    if chosen := os.environ.get("STATE_AGENT_HOST_MIRROR", "").rstrip("/"):
        return chosen, f"{chosen}-security"
    release = re.search(r"^VERSION_CODENAME=(\w+)", Path("/etc/os-release").read_text(), re.MULTILINE)
    codename = release[1] if release else SUITE
    form = ("--no-release-info", "--format", "$(RELEASE)/$(COMPONENT) $(REPO_URI)")
    found: dict[str, str] = {}
    for line in sh("apt-get", "indextargets", *form, "Created-By: Packages", check=False).splitlines():
        suite, _, uri = line.partition(" ")
        if uri.startswith("http"):
            found.setdefault(suite, uri.rstrip("/"))
    archive = found.get(f"{codename}/main")
    if archive is None:
        raise HostError("this machine's apt has no http source to take Debian 13 from; set STATE_AGENT_HOST_MIRROR")
    return archive, found.get(f"{codename}-security/main", f"{archive}-security")


def sources() -> str:
    """Returns the hosts' apt sources: plain http to the proxy, which follows a redirection to https."""
    archive, security = (re.sub("^https:", "http:", uri) for uri in mirrors())
    stanza = "Types: deb\nURIs: {}\nSuites: {}\nComponents: main\nSigned-By: {}\n"
    keyring = "/usr/share/keyrings/debian-archive-keyring.gpg"
    suites = (archive, f"{SUITE} {SUITE}-updates"), (security, f"{SUITE}-security")
    return "\n".join(stanza.format(uri, names, keyring) for uri, names in suites)


def use_proxy_of_apt() -> None:
    """Makes debootstrap and urllib take the same way out as this machine's apt."""
    if proxy := re.match(r"proxy='(.+)'", sh("apt-config", "shell", "proxy", "Acquire::http::Proxy", check=False)):
        os.environ.setdefault("http_proxy", proxy[1])


def base_system() -> Path:
    """Returns the unpacked base system, built on first use; an interrupted build leaves nothing that counts."""
    base = BASES / f"{SUITE}-{zlib.crc32(PACKAGES.encode()):08x}"
    with locked("build"):
        install_tools()
        if not base.is_dir():
            say("building the base system, once (one or two minutes)")
            started = time.monotonic()
            build(CACHE / "unfinished").rename(base)
            say(f"built the base system in {time.monotonic() - started:.0f} s")
    return base


def build(root: Path) -> Path:
    sh("rm", "-rf", str(root))
    BASES.mkdir(exist_ok=True)
    root.mkdir(mode=0o755)
    use_proxy_of_apt()
    options = "--variant=minbase", f"--include={PACKAGES}"
    sh(*CONTAINED, "debootstrap", *options, SUITE, str(root), mirrors()[0])
    (root / "etc/default/locale").write_text("LANG=C.UTF-8\n")
    (root / "etc/apt/sources.list").unlink(missing_ok=True)
    (root / "etc/apt/sources.list.d/debian.sources").write_text(sources())
    for package in (root / "var/cache/apt/archives").glob("*.deb"):
        package.unlink()
    return root
