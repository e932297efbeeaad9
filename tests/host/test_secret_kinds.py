"""The kinds that hold secrets, all in one site on one host: from nothing, damaged in every way, after a reboot."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

import pytest
from installed import Installed
from secret_site import DKIM, PATH, SITE, TSIG, WORLD, clear, make_world, start_pebble

from agent.resources import KINDS, kind_class

pytestmark = pytest.mark.host

MOUNT, RING = "gocryptfs:/srv/mail", "keyring:/var/opt/gpgit/.gnupg"
ACCOUNTS, ROWS = "postgres_table:mail.app.accounts", "postgres_rows:mail.app.accounts"
PSQL = "runuser -u postgres -- psql -qXv ON_ERROR_STOP=1 mail -c"
GPG = "runuser -u gpgit -- gpg --homedir /var/opt/gpgit/.gnupg --batch --quiet"
CERTIFICATES = "/etc/state-agent/certificates"
LATER = ("env", "FAKETIME_DONT_FAKE_MONOTONIC=1", "faketime", "-f", "+70d")
"""Runs a program as if it were 70 days later; what it starts in an environment of its own lives today."""


@pytest.fixture(scope="module")
def host(new_host: Callable[[str], Installed]) -> Installed:
    """A host that the site was applied to, once."""
    host = new_host("secrets")
    make_world(host)
    host.write(PATH, SITE)
    host.agent("apply", "--check", status=2)
    outcomes = host.outcomes()
    assert set(outcomes.values()) <= {"added", "changed", "refreshed"}, outcomes
    assert outcomes["certificate:mail"] == outcomes[MOUNT] == outcomes[ACCOUNTS] == "added"
    return host


@pytest.fixture(scope="module")
def sound(host: Installed) -> str:
    """What it looks like from outside while nothing is damaged."""
    return state(host)


def state(host: Installed) -> str:
    """What all of it looks like from outside."""
    return host.sh(
        f"""findmnt -no FSTYPE /srv/mail; stat -c '%n %a %U' /srv/mail/inbox /var/opt/gpgit/.gnupg
        iptables-save | grep -v '^[#:]'; ip6tables-save | grep -v '^[#:]'; iptables -S INPUT | head -n 1
        runuser -u postgres -- pg_dump --schema-only mail | grep -v -e '^--' -e restrict -e '^$'
        {PSQL} 'TABLE app.accounts ORDER BY email' -c 'TABLE app.domains'
        {GPG} --export-ownertrust | grep -v '^#'; {GPG} --with-colons -k | grep ^fpr | sort
        cd {CERTIFICATES}; openssl x509 -noout -issuer -in mail/fullchain.pem | cut -c 1-30
        stat -Lc '%n %a %U' */privkey.pem"""
    )


def test_one_run_was_enough(host: Installed, sound: str) -> None:
    assert "nothing changed" in host.agent("apply").stdout
    assert host.outcomes("--check") == {}
    assert "fuse.gocryptfs" in sound
    assert "Pebble" in sound
    assert "REFERENCES app.accounts" in sound, "the circle of foreign keys is closed"
    assert answer(host, "k1._domainkey.example.net", "TXT").replace('" "', "").strip('"') == DKIM


def test_no_secret_is_in_what_the_agent_wrote(host: Installed) -> None:
    secrets = [TSIG, *(host.out("cat", f"/etc/state-agent/secrets/{name}") for name in ("mailstore", "vmail"))]
    assert min(map(len, secrets)) >= 32
    for place in ("/var/lib/state-agent", "/run/state-agent", "/var/log", "/var/lib/postgresql"):
        assert host.run("grep", "-rlaF", "\n".join(secrets), place, status=None).stdout == ""
    key = host.out("stat", "-c", "%a %U", "/var/lib/state-agent/masterkeys/srv%2Fmail.txt")
    assert key == "600 root"


def answer(host: Installed, name: str, type: str) -> str:
    """What the nameserver says of a name."""
    script = (
        "import dns.message, dns.query, sys\n"
        "found = dns.query.tcp(dns.message.make_query(*sys.argv[1:]), '127.0.0.1', timeout=5).answer\n"
        "print(*(item.to_text() for each in found for item in each))"
    )
    return host.out("python3", "-c", script, name, type)


def update(*lines: str) -> str:
    """A script that changes the zone behind the agent's back."""
    script = (
        "import dns.update, dns.query, dns.tsigkeyring; "
        f"key = dns.tsigkeyring.from_text({{'agent.': '{TSIG}'}}); "
        "change = dns.update.UpdateMessage('example.net', keyring=key, keyalgorithm='hmac-sha256'); "
        f"{'; '.join(lines)}; assert dns.query.tcp(change, '127.0.0.1', timeout=5).rcode() == 0"
    )
    return f'python3 -c "{script}"'


TABLE, OWN = '"app"."accounts"', "state-agent-INPUT"
# fmt: off
DAMAGE: dict[str, tuple[str, dict[str, str], list[str]]] = {
    # What is done, what is repaired, what the plan says of it.
    "unmounted": ("umount /srv/mail", {MOUNT: "changed"}, ["mount unmounted → mounted"]),
    "its daemon killed": (
        "kill -9 $(pgrep -f '^/usr/bin/gocryptfs.* /srv/mail'); until ! stat /srv/mail 2>/dev/null; do sleep .1; done",
        {MOUNT: "changed"}, ["unmount what its dead daemon left, and mount it again", "mount dead → mounted"],
    ),
    "mounted with other options": (
        "umount /srv/mail; gocryptfs -q -extpass cat -extpass /etc/state-agent/secrets/mailstore"
        " /srv/mail.encrypted /srv/mail",
        {MOUNT: "changed"}, ["allow_other false → true"],
    ),
    "a column dropped": (
        f'{PSQL} "ALTER TABLE app.accounts DROP note"', {ACCOUNTS: "changed"},
        [f'ALTER TABLE {TABLE} ADD COLUMN "note" text'],
    ),
    "a default and a check dropped": (
        f'{PSQL} "ALTER TABLE app.accounts ALTER quota DROP DEFAULT, DROP CONSTRAINT accounts_quota_check"',
        {ACCOUNTS: "changed"},
        [f'ALTER TABLE {TABLE} ALTER COLUMN "quota" SET DEFAULT 0', f"ALTER TABLE {TABLE} ADD CHECK ((quota >= 0))"],
    ),
    "an index dropped": (
        f'{PSQL} "DROP INDEX app.accounts_lower_idx"', {ACCOUNTS: "changed"},
        [f"CREATE INDEX ON {TABLE} USING btree (lower((email)::text))"],
    ),
    "a grant added": (
        f'{PSQL} "GRANT DELETE ON app.accounts TO vmail, public"', {ACCOUNTS: "changed"},
        [f'REVOKE DELETE ON TABLE {TABLE} FROM "vmail" CASCADE', f"REVOKE DELETE ON TABLE {TABLE} FROM PUBLIC CASCADE"],
    ),
    "another owner": (
        f'{PSQL} "ALTER TABLE app.accounts OWNER TO postgres"', {ACCOUNTS: "changed"},
        [f'ALTER TABLE {TABLE} OWNER TO "owner"'],
    ),
    "a foreign key of the circle dropped": (
        f'{PSQL} "ALTER TABLE app.domains DROP CONSTRAINT domains_postmaster_fkey"',
        {"postgres_table:mail.app.domains": "changed"},
        ['ALTER TABLE "app"."domains" ADD FOREIGN KEY (postmaster) REFERENCES app.accounts(email)'],
    ),
    "a whole table dropped": (
        f'{PSQL} "DROP TABLE app.accounts CASCADE"', {ACCOUNTS: "added", ROWS: "added"},
        [f"CREATE TABLE {TABLE} (", 'ALTER TABLE "app"."domains" ADD FOREIGN KEY'],
    ),
    "rows changed": (
        f"{PSQL} \"UPDATE app.accounts SET quota = 9 WHERE email LIKE 'a@%'; DELETE FROM app.accounts "
        "WHERE email LIKE 'b@%'; INSERT INTO app.accounts VALUES ('eve@example.net')\"", {ROWS: "changed"},
        ["rows: 1 to add, 1 to change, 1 to delete",
         "UPDATE \"app\".\"accounts\" SET \"quota\" = '5' WHERE \"email\" = 'a@example.net'"],
    ),
    "rights and password of a role": (
        f"{PSQL} \"ALTER ROLE vmail CREATEDB PASSWORD 'other'\"", {"postgres_role:vmail": "changed"},
        ['ALTER ROLE "vmail" NOCREATEDB', "ALTER ROLE \"vmail\" PASSWORD '(sensitive)'"],
    ),
    "a key deleted": (f"{GPG} --yes --delete-keys ann@example.org", {RING: "changed"}, ["(none) →"]),
    "its trust changed": (
        f"{GPG} --export-ownertrust | sed -n s/:5:/:6:/p > /tmp/trust; grep -q :6: /tmp/trust;"
        f" {GPG} --import-ownertrust < /tmp/trust", {RING: "changed"}, ["ultimate → full"],
    ),
    "a strange key": (f"{GPG} --import < {WORLD}/eve.asc", {RING: "changed"}, ["undeclared ["]),
    "its home open to others": (
        "chmod 755 /var/opt/gpgit/.gnupg; chmod 644 /var/opt/gpgit/.gnupg/pubring.kbx", {RING: "changed"},
        ["mode 0755 → 0700"],
    ),
    "a chain flushed": (
        f"ip6tables -F {OWN}", {"iptables:base": "changed", "iptables:mail": "changed"},
        [f"+ -A {OWN} -p tcp -m multiport --dports 25,993 -j ACCEPT (ipv6)"],
    ),
    "a strange rule": (
        f"iptables -I {OWN} 2 -p tcp --dport 22 -j ACCEPT; ip6tables -A {OWN} -j ACCEPT",
        {"iptables:base": "changed", "iptables:mail": "changed"},
        [f"- -A {OWN} -p tcp -m tcp --dport 22 -j ACCEPT (ipv4)", f"- -A {OWN} -j ACCEPT (ipv6)"],
    ),
    "no jump": (
        f"ip6tables -D INPUT -j {OWN}", {"iptables:base": "changed", "iptables:mail": "changed"},
        ["jump missing → first"],
    ),
    "another policy": ("ip6tables -P INPUT ACCEPT", {"iptables:base": "changed"}, ["policy", "DROP"]),
    "a firewall that is gone": (
        "for each in iptables ip6tables; do $each -P INPUT ACCEPT; $each -F; $each -X; done",
        {"iptables:base": "changed", "iptables:mail": "added"}, ["policy ACCEPT → DROP"],
    ),
    "a certificate removed": (
        f"rm {CERTIFICATES}/mail/current/fullchain.pem",
        {"certificate:mail": "changed", "service:listener": "refreshed"},
        ["pair fullchain.pem is not there → sound", "service:listener reload (certificate:mail changes)"],
    ),
    "a key that others may read": (
        f"chmod 644 {CERTIFICATES}/local/current/privkey.pem", {"certificate:local": "changed"},
        ["mode differing → 0600"],
    ),
    "a record removed": (
        update("change.delete('mail', 'A')"), {"dns_record:mail.example.net A": "added"},
        ["mail.example.net. 300 IN A 192.0.2.25"],
    ),
    "records changed": (
        update("change.replace('mail', 60, 'A', '192.0.2.66')",
               "change.replace('k1._domainkey', 60, 'TXT', '\\\"v=DKIM1; p=x\\\"')"),
        {"dns_record:mail.example.net A": "changed", "dns_record:k1._domainkey.example.net TXT": "changed"},
        ["value [192.0.2.66] → [192.0.2.25]", "ttl 60 → 300"],
    ),
}
# fmt: on


@pytest.mark.parametrize("how", DAMAGE)
def test_damage_is_shown_and_repaired_and_nothing_else(host: Installed, sound: str, how: str) -> None:
    """What is left of one damage would be seen by the check of the next."""
    script, repaired, words = DAMAGE[how]
    host.sh(script)
    shown = host.agent("apply", "--check", status=2).stdout
    marked = re.findall(r"^([-+~>?!]) ([a-z_]+:\S+(?: [A-Z]+)?)", shown, re.MULTILINE)
    assert {id for symbol, id in marked if symbol != "?"} <= set(repaired) <= {id for _, id in marked}, shown
    assert [said for said in words if said not in " ".join(shown.split())] == [], shown
    assert host.outcomes() == repaired
    assert state(host) == sound


def test_nothing_is_left(host: Installed) -> None:
    assert host.outcomes("--check") == {}
    assert json.loads(host.agent("apply", "--json").stdout)["summary"].keys() == {"in-desired-state"}


def test_later_keys_expire_and_certificates_are_renewed(host: Installed) -> None:
    said = host.agent("apply").stdout
    assert "expire" not in said
    host.sh("systemctl stop pebble; : > /run/listener")
    before = host.read(f"{CERTIFICATES}/mail/fullchain.pem")
    said = host.run(*LATER, "agent", "apply", status=1).stdout
    assert re.search(r"note: keyring:\S+ the key \S+ \(ann@example.org\) expired on ", said)
    assert re.search(r"renewal +expires in 19 days \(.*\) → not due", said)
    assert "no certificate from https://127.0.0.1:14000/dir; the certificate of before stays" in said
    assert host.read(f"{CERTIFICATES}/mail/fullchain.pem") == before
    assert host.read("/run/listener") == ""
    host.sh(f"rm {CERTIFICATES}/mail/acme/*.json")  # the server is not asked again at once
    start_pebble(host, days=900)
    outcomes = json.loads(host.run(*LATER, "agent", "apply", "--json").stdout)["summary"]
    assert {key: outcomes[key] for key in outcomes if key != "in-desired-state"} == {"changed": 1, "refreshed": 1}
    assert host.read("/run/listener") == "reloaded\n"


def test_after_a_reboot(host: Installed, sound: str) -> None:
    host.tool("reboot", host.name)
    assert f"-A INPUT -j {OWN}" in host.out("iptables", "-S")
    assert host.outcomes("--check", status=2).keys() == {MOUNT, "directory:/srv/mail/inbox"}
    assert host.outcomes() == {MOUNT: "changed"}
    assert state(host) == sound
    assert host.outcomes("--check") == {}


@pytest.fixture(scope="module")
def cleared(host: Installed) -> Installed:
    """The same host once more as it was, with a nameserver for the zone of the examples, and a key."""
    clear(host)
    host.sh(update("change.delete('mail', 'A')"))
    host.write("/etc/resolv.conf", "nameserver 127.0.0.1\n")
    host.sh("ln -sfn /usr/share/zoneinfo/Etc/GMT /etc/localtime")
    host.sh(
        f"""export GNUPGHOME={WORLD}/gnupg; user=astronaut57@example.org; mkdir -p /root/examples/keyring
        gpg --batch --quiet --passphrase '' --quick-generate-key $user rsa2048 encr,cert
        gpg --armor --export $user > /root/examples/keyring/astronaut57.asc; gpgconf --kill all"""
    )
    return host


@pytest.mark.parametrize("kind", KINDS)
def test_the_example_can_be_applied_as_it_stands(cleared: Installed, kind: str) -> None:
    folder = f"/root/examples/{kind}"
    cleared.write(f"{folder}/site.toml", kind_class(kind).example)
    command = ["env", f"AGENT_STATE_DIR={folder}/kept", "agent", "apply", "--json", "--site", f"{folder}/site.toml"]
    first, second = (json.loads(cleared.run(*command).stdout)["resources"] for _ in range(2))
    outcomes = {row["outcome"] for row in first if row["id"].startswith(f"{kind}:")}
    if kind == "dns_record":
        assert outcomes == {"added", "skipped"}, "what is kept by hand is only listed"
    else:
        assert outcomes <= ({"in-desired-state"} if kind == "check" else {"added", "changed", "refreshed"}), first
        assert {row["outcome"] for row in second} == {"in-desired-state"}
