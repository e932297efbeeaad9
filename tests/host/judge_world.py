"""The world outside of a mail server under test, a disposable host of its own: name server, certificate authority,
another mail server, mail programs, and the private keys of those who have accounts. Nothing of it is state-agent's."""

from __future__ import annotations

import json
import os

from installed import Installed

DOMAIN = "supersecure.example.net"
FRIEND = "bob@friend.example"
PROGRAMS = (  # noqa: SIM905
    "swaks libnet-ssleay-perl isync notmuch gnupg sq openssl sslscan pebble nsd opendkim-tools python3-dkim"
    " postfix ca-certificates"
).split()
ZONE = "$ORIGIN {name}.\n$TTL 60\n@ IN SOA ns.{name}. root 1 3600 600 86400 60\n@ IN NS ns\nns IN A {world}\n"
NSD = 'server:\n    ip-address: 0.0.0.0\n    username: nsd\n    database: ""\n'
FRIENDS = '@ IN MX 10 mail\nmail IN A {world}\n@ IN TXT "v=spf1 ip4:{world} -all"\n'
POSTFIX = """
compatibility_level = 3.6
myhostname = mail.friend.example
mydestination = friend.example
local_recipient_maps = inline:{ bob=x }
inet_protocols = ipv4
alias_maps =
home_mailbox = Maildir/
"""
PEBBLE_UNIT = """
[Service]
Environment=PEBBLE_VA_NOSLEEP=1 PEBBLE_WFE_NONCEREJECT=0
ExecStart=pebble -config /root/pebble.json -dnsserver 127.0.0.1:53 -strict=false
"""
CERTIFICATES = """
cd /root
key="-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes"
openssl req -x509 $key -keyout ca.key -out ca.pem -subj '/CN=test CA' -days 2
openssl req -x509 $key -keyout server.key -out server.pem -subj /CN=pebble -CA ca.pem -CAkey ca.key \\
    -addext subjectAltName=IP:{world} -days 2
openssl req -x509 $key -keyout smime.key -out smime.pem -subj /CN=ann -days 2
"""
KEYS = """
cd /root; umask 077
for name in {names}; do
    mkdir -p keys/$name; export GNUPGHOME=/root/keys/$name
    old=; [ $name = late ] && old="--faked-system-time 20200101T000000"
    gpg --batch --quiet --passphrase '' $old --quick-generate-key "$name <$name@{domain}>" ed25519 cert,sign 1y
    print=$(gpg --with-colons -k $name | awk -F: '$1 == "fpr" {{ print $10; exit }}')
    [ $name = signer ] || gpg --batch --quiet --passphrase '' $old --quick-add-key $print cv25519 encr 1y
    if [ $name = gone ]; then sed 's/^:--/--/' $GNUPGHOME/openpgp-revocs.d/$print.rev | gpg --batch --quiet --import; fi
    gpg --armor --export $name > /root/$name.asc
    gpg --batch --quiet --passphrase '' --armor --export-secret-keys $name > /root/$name.private
done
"""
MBSYNC = """
IMAPAccount {name}
Host {domain}
User {name}@{domain}
Pass secret-{name}
TLSType IMAPS
CertificateFile /root/roots.pem
SystemCertificates no

IMAPStore {name}-far
Account {name}

MaildirStore {name}-near
Path /root/mail/{name}/
Inbox /root/mail/{name}/INBOX

Channel {name}
Far :{name}-far:
Near :{name}-near:
Create Near
SyncState *
"""


class Outside(Installed):
    """The host that plays the world."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.tool("up", name, "--owner", str(os.getpid()))
        self.address = self.tool("address", name)

    def furnish(self, server: str, names: tuple[str, ...]) -> None:
        """Set all up; `server` is the address of the mail server, `names` those with a key."""
        self.sh("echo postfix postfix/main_mailer_type select No configuration | debconf-set-selections")
        self.install(*PROGRAMS)
        self.serve(server, f"@ IN A {server}\n@ IN MX 10 @\n")
        self.sh(CERTIFICATES.format(world=self.address))
        self.sh(KEYS.format(names=" ".join(names), domain=DOMAIN))
        self.write("/etc/postfix/main.cf", POSTFIX)
        self.sh("useradd --create-home bob; systemctl restart postfix")
        boxes = "".join(MBSYNC.format(name=name, domain=DOMAIN) for name in names)
        self.write("/root/.mbsyncrc", boxes)
        self.sh(f"chmod 600 .mbsyncrc; for name in {' '.join(names)}; do mkdir -p mail/$name; done")

    def serve(self, server: str, zone: str) -> None:
        """Have nsd serve the server's zone, a friend's, and the names of addresses."""
        network, _, last = server.rpartition(".")
        reverse = ".".join(reversed(network.split("."))) + ".in-addr.arpa"
        own = self.address.rpartition(".")[2]
        pointers = f"{last} IN PTR {DOMAIN}.\n{own} IN PTR mail.friend.example.\n"
        zones = {DOMAIN: zone, "friend.example": FRIENDS.format(world=self.address), reverse: pointers}
        conf = NSD
        for name, text in zones.items():
            self.write(f"/etc/nsd/{name}.zone", ZONE.format(name=name, world=self.address) + text)
            conf += f"zone:\n    name: {name}\n    zonefile: /etc/nsd/{name}.zone\n"
        self.write("/etc/nsd/nsd.conf", conf)
        self.write("/etc/resolv.conf", "nameserver 127.0.0.1\n")
        self.sh("systemctl restart nsd")

    def issue(self, lifetime: int) -> None:
        """Start pebble, with certificates that last so many seconds; it trusts a new root of its own each time."""
        config = {
            "listenAddress": "0.0.0.0:14000", "managementListenAddress": "0.0.0.0:15000", "httpPort": 80,
            "tlsPort": 443,
            "certificate": "/root/server.pem", "privateKey": "/root/server.key", "ocspResponderURL": "",
            "externalAccountBindingRequired": False, "domainBlocklist": [],
            "certificateValidityPeriod": lifetime,
        }  # fmt: skip
        self.write("/root/pebble.json", json.dumps({"pebble": config}))
        self.write("/etc/systemd/system/pebble.service", PEBBLE_UNIT)
        self.sh("systemctl daemon-reload; systemctl restart pebble")
        root = "https://127.0.0.1:15000/roots/0"
        fetch = f"import ssl, urllib.request as u; print(u.urlopen('{root}', context=ssl._create_unverified_context())"
        script = f'until python3 -c "{fetch}.read().decode())" > roots.pem 2> /dev/null; do sleep 0.1; done'
        self.sh(script, timeout=60)

    def swaks(self, *words: str, status: int | None = 0, **more: str) -> str:
        """Run swaks; what it and the server said."""
        given = ["--helo", "mail.friend.example", "--from", FRIEND, "--timeout", "60", *words]
        done = self.run("swaks", "--server", DOMAIN, *given, status=status, **more)  # type: ignore[arg-type]
        return done.stdout + done.stderr

    def certificate(self, port: int) -> str:
        """The serial number of the certificate on a port, which openssl must find to be right."""
        start = "-starttls smtp" if port in (25, 587) else ""
        told = self.sh(
            f"openssl s_client -connect {DOMAIN}:{port} {start} -CAfile roots.pem -verify_hostname {DOMAIN}"
            f" -verify_return_error < /dev/null 2> s_client.err | openssl x509 -noout -serial || cat s_client.err"
        )
        assert told.startswith("serial="), told
        return told
