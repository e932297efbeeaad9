"""The tools that are compared: what each needs, how the same desired state is declared in it, and its dry run.

Every tool gets the content of a file in the declaration itself, and is called as its manual says that one checks a
host. `differing` reads from its output which resources it would change, so that a run can be proved to have compared.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

FILES = "/srv/bench"
# fmt: off
PACKAGES = (
    "adduser", "apt-utils", "ca-certificates", "cron", "iproute2", "logrotate", "nano", "procps", "rsyslog", "sudo",
)
# fmt: on
SERVICES = ("cron", "rsyslog")
MODE = "0644"
REMOVED, STOPPED = "nano", "cron"
"""The package and the service that differ when a tool has to prove that it compares."""


def path_of(number: int) -> str:
    """Where the file of this number is."""
    return f"{FILES}/{number // 100:03d}/{number:05d}.conf"


def content_of(number: int) -> str:
    """About 600 bytes, no two files alike, nothing that a language would have to escape."""
    return "".join(f"option_{line} = value {number}-{line}\n" for line in range(30))


@dataclass(frozen=True)
class Tool:
    """One tool. `packages` are Debian's, `pypi` is installed into /opt/NAME."""

    name: str
    packages: tuple[str, ...] = ()
    pypi: str = ""
    told_packages: ClassVar[str] = REMOVED
    """What `differing` says of a package that is not installed: its name, or a word for all packages."""

    def prepare(self) -> Iterable[Sequence[str]]:
        """Commands to be run once after the installation."""
        return ()

    def first(self, folder: Path) -> Sequence[str]:
        """The first run, which fills its caches."""
        return self.check(folder)

    def version(self) -> Sequence[str]:
        """The command that tells its version."""
        raise NotImplementedError

    def declare(self, count: int, folder: Path) -> None:
        """Write the declaration of so many files, the packages and the services."""
        raise NotImplementedError

    def check(self, folder: Path) -> Sequence[str]:
        """The dry run."""
        raise NotImplementedError

    def differing(self, output: str) -> set[str]:
        """Paths, packages and services that its output says it would change."""
        raise NotImplementedError


class StateAgent(Tool):
    """This project, from its package."""

    def version(self) -> Sequence[str]:
        return ["agent", "--version"]

    def declare(self, count: int, folder: Path) -> None:
        with (folder / "site.toml").open("w") as site:
            site.write("[site]\nstates = []\n")
            site.writelines(f"[apt.{name}]\n" for name in PACKAGES)
            site.writelines(f"[service.{name}]\n" for name in SERVICES)
            for number in range(count):
                site.write(f'[file."{path_of(number)}"]\nmode = "{MODE}"\n')
                site.write(f'content = """\n{content_of(number)}"""\n')

    def first(self, folder: Path) -> Sequence[str]:
        return ["agent", "apply", "--site", f"{folder}/site.toml"]  # so that there is a journal to look into

    def check(self, folder: Path) -> Sequence[str]:
        return ["agent", "apply", "--check", "--site", f"{folder}/site.toml"]

    def differing(self, output: str) -> set[str]:
        return set(re.findall(r"^[~+>?!-] \w+:(\S+)", output, re.MULTILINE))


class CFEngine(Tool):
    """-K: locks, which else let a promise rest for a minute, are ignored, so that it compares in every run."""

    _POLICY = "/var/lib/cfengine3"

    def prepare(self) -> Iterable[Sequence[str]]:
        """What its bootstrap does: the standard library in its place, the package module rendered, Python named."""
        masterfiles, modules = "/usr/share/cfengine3/masterfiles", f"{self._POLICY}/modules/packages"
        yield ["systemctl", "mask", "--now", "cfengine3", "cf-execd", "cf-serverd", "cf-monitord"]
        yield ["cp", "-rL", f"{masterfiles}/.", f"{self._POLICY}/inputs/"]
        yield ["mkdir", "-p", modules]
        yield ["cp", f"{masterfiles}/modules/packages/vendored/apt_get.mustache", f"{modules}/apt_get"]
        yield ["chmod", "755", f"{modules}/apt_get"]
        yield ["ln", "-sf", "python3", "/usr/bin/cfengine-selected-python"]

    def version(self) -> Sequence[str]:
        return ["cf-agent", "--version"]

    def declare(self, count: int, folder: Path) -> None:
        with (folder / "bench.cf").open("w") as policy:
            policy.write('body common control { bundlesequence => { "main" };')
            policy.write(' inputs => { "$(sys.inputdir)/lib/stdlib.cf" }; }\nbundle agent main {\nfiles:\n')
            for number in range(count):
                policy.write(f'"{path_of(number)}" create => "true", perms => m("{MODE}"),')
                policy.write(f' content => "{content_of(number)}";\n')
            policy.write("packages:\n")
            policy.writelines(f'"{name}" policy => "present", package_module => apt_get;\n' for name in PACKAGES)
            policy.write("services:\n")
            policy.writelines(f'"{name}" service_policy => "start";\n' for name in SERVICES)
            policy.write("}\n")

    def check(self, folder: Path) -> Sequence[str]:
        return ["cf-agent", "--dry-run", "-K", "-f", f"{folder}/bench.cf"]

    def differing(self, output: str) -> set[str]:
        would = r"Should (?:update file|change permissions of) '([^']+)'|Should install repo type package: (\S+)"
        found = re.findall(rf"{would}|Would execute script '[^']* start (\S+)'", output)
        return {name for names in found for name in names if name}


class Puppet(Tool):
    """puppet apply, with the settings of Debian's package."""

    def version(self) -> Sequence[str]:
        return ["puppet", "--version"]

    def declare(self, count: int, folder: Path) -> None:
        with (folder / "site.pp").open("w") as manifest:
            manifest.writelines(f"package {{ '{name}': ensure => installed }}\n" for name in PACKAGES)
            manifest.writelines(f"service {{ '{name}': ensure => running, enable => true }}\n" for name in SERVICES)
            for number in range(count):
                manifest.write(f"file {{ '{path_of(number)}': ensure => file, mode => '{MODE}',")
                manifest.write(f" content => '{content_of(number)}' }}\n")

    def check(self, folder: Path) -> Sequence[str]:
        return ["puppet", "apply", "--noop", "--color=false", f"{folder}/site.pp"]

    def differing(self, output: str) -> set[str]:
        return set(re.findall(r"^Notice: /Stage\[main\]/Main/\w+\[([^\]]+)\]/.*\(noop\)", output, re.MULTILINE))


class Ansible(Tool):
    """ansible-playbook over the local connection, without facts; each kind is one task with a loop or a list."""

    told_packages = "packages"

    def version(self) -> Sequence[str]:
        return ["ansible", "--version"]

    def declare(self, count: int, folder: Path) -> None:
        files = [{"path": path_of(number), "content": content_of(number)} for number in range(count)]
        loop = {"loop_control": {"label": "{{ item.path }}"}, "loop": files}
        copy = {"dest": "{{ item.path }}", "content": "{{ item.content }}", "mode": MODE}
        service = {"name": "{{ item }}", "state": "started", "enabled": True}
        tasks = [
            {"name": "packages", "ansible.builtin.apt": {"name": list(PACKAGES), "state": "present"}},
            {"name": "files", "ansible.builtin.copy": copy, **loop},
            {"name": "services", "ansible.builtin.systemd_service": service, "loop": list(SERVICES)},
        ]
        play = {"hosts": "localhost", "connection": "local", "gather_facts": False, "tasks": tasks}
        (folder / "play.yml").write_text(json.dumps([play]))  # JSON is YAML too

    def check(self, folder: Path) -> Sequence[str]:
        pipelined = ["env", "ANSIBLE_PIPELINING=1"]
        return [*pipelined, "ansible-playbook", "-i", "localhost,", "--check", f"{folder}/play.yml"]

    def differing(self, output: str) -> set[str]:
        found = set(re.findall(r"^changed: \[localhost\] => \(item=([^)]+)\)", output, re.MULTILINE))
        return found | ({"packages"} if re.search(r"^changed: \[localhost\]$", output, re.MULTILINE) else set())


class Salt(Tool):
    """salt-call without a master."""

    told_packages = "packages"

    def version(self) -> Sequence[str]:
        return ["/opt/salt/bin/salt-call", "--version"]

    def declare(self, count: int, folder: Path) -> None:
        (folder / "minion").write_text("file_client: local\nid: bench\nstate_verbose: False\n")
        with (folder / "bench.sls").open("w") as sls:
            sls.write(f"packages:\n  pkg.installed:\n    - pkgs: {json.dumps(PACKAGES)}\n")
            sls.writelines(f"{name}:\n  service.running:\n    - enable: True\n" for name in SERVICES)
            for number in range(count):
                content = content_of(number).replace("\n", "\n        ").rstrip(" ")
                sls.write(f"{path_of(number)}:\n  file.managed:\n    - mode: '{MODE}'\n")
                sls.write(f"    - contents: |\n        {content}")

    def check(self, folder: Path) -> Sequence[str]:
        where = ["--local", f"--config-dir={folder}", f"--file-root={folder}", "--no-color"]
        return ["/opt/salt/bin/salt-call", *where, "state.apply", "bench", "test=True"]

    def differing(self, output: str) -> set[str]:
        return set(re.findall(r"^ +ID: (\S+)\n.*\n +Result: None$", output, re.MULTILINE))


class Pyinfra(Tool):
    """pyinfra on the host itself. With -y it would not even look for differences."""

    told_packages = "packages"

    def version(self) -> Sequence[str]:
        return ["/opt/pyinfra/bin/pyinfra", "--version"]

    def declare(self, count: int, folder: Path) -> None:
        with (folder / "deploy.py").open("w") as deploy:
            deploy.write("from io import StringIO\nfrom pyinfra.operations import apt, files, systemd\n")
            deploy.write(f"apt.packages(name='packages', packages={list(PACKAGES)!r})\n")
            deploy.writelines(
                f"systemd.service(name={name!r}, service={name!r}, running=True, enabled=True)\n" for name in SERVICES
            )
            for number in range(count):
                path, content = path_of(number), content_of(number)
                deploy.write(f"files.put(name={path!r}, dest={path!r}, src=StringIO({content!r}), mode='644')\n")

    def check(self, folder: Path) -> Sequence[str]:
        return ["/opt/pyinfra/bin/pyinfra", "@local", f"{folder}/deploy.py", "--dry"]

    def differing(self, output: str) -> set[str]:
        return set(re.findall(r"^ +(\S+) +\d+ \(@local\)", output, re.MULTILINE))


TOOLS = (
    StateAgent("state-agent"),
    CFEngine("CFEngine", packages=("cfengine3",)),
    Puppet("Puppet", packages=("puppet-agent",)),
    Salt("Salt", pypi="salt"),
    Ansible("Ansible", packages=("ansible", "python3-apt")),
    Pyinfra("pyinfra", pypi="pyinfra"),
)
