"""A site with every kind that holds secrets, all together, and the ACME server that it gets a certificate from."""

from __future__ import annotations

import json

from installed import Installed

PATH = "/etc/state-agent/site.toml"
TSIG = "Q2FuYXJ5NTdPZlRzaWctLXJpZ2h0LW9uZS1vZi0zMmI="
DKIM = "v=DKIM1; k=rsa; p=" + "MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8A" * 12
WORLD = "/opt/world"
"""Where what belongs to others lies: the ACME server, and keys."""

SITE = f"""
[secrets]
mailstore = {{ file = "/etc/state-agent/secrets/mailstore", generate = 32 }}
vmail = {{ file = "/etc/state-agent/secrets/vmail", generate = 32 }}
tsig.file = "/etc/state-agent/secrets/tsig"

[apt.kinds]
packages = ["certbot", "fuse3", "gnupg", "gocryptfs", "iptables", "knot", "postgresql"]

[iptables.base]
chain = "INPUT"
order = -10
policy = "DROP"
requires = ["apt:kinds"]
rules = [
    "-i lo -j ACCEPT", "-m state --state RELATED,ESTABLISHED -j ACCEPT", "-4 -p icmp -j ACCEPT",
    "-6 -p ipv6-icmp -j ACCEPT",
]
[iptables.mail]
chain = "INPUT"
requires = ["apt:kinds"]
rules = ["-p tcp -m multiport --dports smtp,imaps -j ACCEPT"]

[gocryptfs."/srv/mail"]
cipher = "/srv/mail.encrypted"
passphrase = "{{{{ secrets.mailstore }}}}"
requires = ["apt:kinds"]
[directory."/srv/mail/inbox"]
mode = "0750"

[postgres_role.vmail]
login = true
password = "{{{{ secrets.vmail }}}}"
requires = ["apt:kinds"]
[postgres_role.owner]
requires = ["apt:kinds"]
[postgres_database.mail]
owner = "owner"
encoding = "UTF8"
locale = "C.UTF-8"

[postgres_table."mail.app.accounts"]
primary_key = ["email"]
owner = "owner"
grants = {{ vmail = ["select", "update (quota)"] }}
indexes = ["lower(email)"]
[postgres_table."mail.app.accounts".columns]
email = "varchar(320)"
quota = {{ type = "int", null = false, default = 0, check = "quota >= 0" }}
domain = {{ type = "int", references = "app.domains(id) on delete cascade" }}
note = "text"
[postgres_table."mail.app.domains"]
primary_key = ["id"]
owner = "owner"
columns = {{ id = "int", name = "text", postmaster = {{ type = "varchar(320)", references = "app.accounts" }} }}

[postgres_rows."mail.app.domains"]
key = ["id"]
rows = [{{ id = 1, name = "example.net" }}]
[postgres_rows."mail.app.accounts"]
key = ["email"]
exclusive = true
rows = [{{ email = "a@example.net", quota = 5, domain = 1 }}, {{ email = "b@example.net", quota = 7, domain = 1 }}]

[user.gpgit]
system = true
home = "/var/opt/gpgit"
[directory."/var/opt/gpgit"]
owner = "gpgit"
mode = "0750"
[keyring."/var/opt/gpgit/.gnupg"]
owner = "gpgit"
exclusive = true
keys = [
    {{ file = "{WORLD}/ann.asc", email = "ann@example.org", trust = "full" }},
    {{ file = "{WORLD}/bob.asc", email = "bob@example.org" }},
]
requires = ["apt:kinds"]

[certificate.local]
provider = "selfsigned"
domains = ["localhost"]
[certificate.mail]
domains = ["mail.example.net"]
directory_url = "https://127.0.0.1:14000/dir"
ca_file = "{WORLD}/ca.pem"
http_port = 5002
requires = ["apt:kinds"]
[file."/etc/systemd/system/listener.service"]
content = '''
[Service]
Type=exec
ExecStart=sleep infinity
ExecReload=sh -c "echo reloaded >> /run/listener"
[Install]
WantedBy=multi-user.target
'''
[service.listener]
reload_on = ["certificate:mail"]
restart_on = ["file:/etc/systemd/system/listener.service"]

[file."/etc/knot/knot.conf"]
mode = "0640"
group = "knot"
requires = ["apt:kinds"]
content = '''
server:
    listen: 127.0.0.1@53
key:
  - id: agent
    algorithm: hmac-sha256
    secret: {{{{ secrets.tsig }}}}
acl:
  - id: update
    key: agent
    action: update
zone:
  - domain: example.net
    storage: /etc/knot
    file: example.net.zone
    acl: update
    zonefile-sync: -1
    zonefile-load: whole
'''
[file."/etc/knot/example.net.zone"]
requires = ["apt:kinds"]
content = '''
$ORIGIN example.net.
$TTL 3600
@ SOA ns1 root 1 3600 600 86400 300
@ NS ns1
ns1 A 127.0.0.1
'''
[service.knot]
requires = ["apt:kinds"]
restart_on = ["file:/etc/knot/knot.conf", "file:/etc/knot/example.net.zone"]

[dns_record."mail.example.net A"]
value = "192.0.2.25"
ttl = "5m"
provider = "rfc2136"
server = "127.0.0.1"
key = {{ name = "agent", secret = "{{{{ secrets.tsig }}}}" }}
requires = ["service:knot", "iptables:*"]
[dns_record."k1._domainkey.example.net TXT"]
value = "{DKIM}"
provider = "rfc2136"
server = "127.0.0.1"
key = {{ name = "agent", secret = "{{{{ secrets.tsig }}}}" }}
requires = ["service:knot", "iptables:*"]
"""

_ACME = """
mkdir -p {world}; cd {world}
ec="-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes"
openssl req -x509 $ec -keyout ca.key -out ca.pem -subj '/CN=test CA' -days 2
openssl req -x509 $ec -keyout server.key -out server.pem -subj /CN=pebble -days 2 -CA ca.pem -CAkey ca.key \\
    -addext subjectAltName=IP:127.0.0.1
cat > /etc/systemd/system/names.service <<EOF
[Service]
ExecStart=pebble-challtestsrv -defaultIPv4 127.0.0.1 -defaultIPv6 "" -http01 "" -https01 "" -tlsalpn01 "" -doh "" \\
    -dns01 127.0.0.1:8053 -management 127.0.0.1:8055
EOF
cat > /etc/systemd/system/pebble.service <<EOF
[Unit]
Wants=names.service
[Service]
Environment=PEBBLE_VA_NOSLEEP=1 PEBBLE_WFE_NONCEREJECT=0
ExecStart=pebble -config {world}/pebble.json -dnsserver 127.0.0.1:8053 -strict=false
ExecStartPost=sh -c "until echo > /dev/tcp/127.0.0.1/14000; do sleep 0.1; done"
EOF
sed -i 's/"sh -c/bash -c/; s/=sh -c/=bash -c/' /etc/systemd/system/pebble.service
systemctl daemon-reload
"""
_KEYS = """
cd {world}; umask 077; mkdir -p /etc/state-agent/secrets; printf %s {tsig} > /etc/state-agent/secrets/tsig
export GNUPGHOME={world}/gnupg; mkdir -p $GNUPGHOME
for name in ann bob eve; do
    gpg --batch --quiet --passphrase '' --quick-generate-key $name@example.org ed25519/cert cert 60d
    print=$(gpg --with-colons -k $name | awk -F: '$1 == "fpr" {{ print $10; exit }}')
    gpg --batch --quiet --passphrase '' --quick-add-key $print cv25519 encr 60d
    gpg --armor --export $name > $name.asc
done
gpgconf --kill all
"""


def make_world(host: Installed) -> None:
    """Everything that is not the host's own."""
    host.install("pebble", "openssl", "faketime", "gnupg", "e2fsprogs")
    host.sh(_ACME.format(world=WORLD))
    host.sh(_KEYS.format(world=WORLD, tsig=TSIG))
    start_pebble(host, days=90)


def start_pebble(host: Installed, days: int) -> None:
    """Start the ACME server anew; its certificates are valid for so many days."""
    config = {
        "listenAddress": "127.0.0.1:14000", "managementListenAddress": "127.0.0.1:15000",
        "certificate": f"{WORLD}/server.pem", "privateKey": f"{WORLD}/server.key", "httpPort": 5002, "tlsPort": 5001,
        "ocspResponderURL": "", "externalAccountBindingRequired": False, "certificateValidityPeriod": days * 86400,
    }  # fmt: skip
    host.write(f"{WORLD}/pebble.json", json.dumps({"pebble": config}))
    host.sh("systemctl restart pebble")


_CLEAR = """
cd /; ! mountpoint -q /srv/mail || umount /srv/mail; chattr -i /srv/mail; rm -rf /srv/mail /srv/mail.encrypted
runuser -u postgres -- psql -qc 'DROP DATABASE IF EXISTS mail' -c 'DROP ROLE IF EXISTS vmail, owner'
rm -rf /var/opt/gpgit /etc/state-agent/certificates /var/lib/state-agent; userdel gpgit || true
for each in iptables ip6tables; do $each -P INPUT ACCEPT; $each -F; $each -X; done
"""


def clear(host: Installed) -> None:
    """Take away all that the site made, but for packages and the nameserver."""
    host.sh(_CLEAR)
