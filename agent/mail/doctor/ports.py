"""What the server allows to strangers: no relaying, no passwords on port 25, nothing without TLS."""

from __future__ import annotations

import smtplib
from collections.abc import Iterator

from agent.mail.doctor.finding import Finding, failed, passed, skipped
from agent.mail.doctor.site import MailHost
from agent.mail.doctor.talk import Answer, answer, connected, envelope, speaks_outdated, trusting

_RESTRICT = "smtpd_relay_restrictions must hold reject_unauth_destination, and mynetworks this host alone: agent apply"
_DEAD = "systemctl status postfix; postfix check; journalctl -u postfix -p warning --since -10min"
_APPLY = "main.cf and master.cf are not as declared, or not loaded: agent apply; systemctl reload postfix"


def greetings(mail: MailHost) -> Iterator[Finding]:
    """Whether the SMTP ports answer at all: what does not is asked nothing else."""
    for port in (25, 465, 587) if mail.has("dovecot") else (25,):
        name = f"port:{port}"
        mail.say(f"port {port}")
        try:
            with connected(mail.address, port) as server:
                said = answer(*server.ehlo())
            yield passed(name, f"{said.text.partition(' ')[0]} answers")
        except OSError as error:
            mail.mute.add(port)
            why = error.strerror or str(error)
            yield failed(name, f"port {port} of {mail.address} does not answer: {why}", _DEAD)


def relay(mail: MailHost) -> Iterator[Finding]:
    """Whether a stranger can send to others through this server."""
    if not mail.outside or 25 in mail.mute:
        yield skipped("relay", f"nobody can be a stranger here: {mail.why_not_outside}")
        return
    tries = [("", "doctor@example.com"), (f"postmaster@{mail.domain}", "doctor@example.com")]
    tries.append(("", f"doctor%example.com@{mail.domain}"))
    with connected(mail.outside, 25) as server:
        server.ehlo()
        for sender, recipient in tries:
            said = envelope(server, sender, recipient)
            server.rset()
            if said.code < 400:
                seen = f"mail of a stranger from <{sender}> to {recipient} would be taken: {said}"
                yield failed("relay", seen, _RESTRICT)
                return
    yield passed("relay", f"a stranger's mail to others is refused: {said}")


def no_passwords(mail: MailHost) -> Iterator[Finding]:
    """Whether port 25 asks for passwords, in clear or after STARTTLS."""
    if 25 in mail.mute:
        return
    with connected(mail.address, 25) as server:
        server.ehlo()
        offered = ["at once"] if server.has_extn("auth") else []
        if server.has_extn("starttls"):
            server.starttls(context=trusting())
            server.ehlo()
            offered += ["after STARTTLS"] if server.has_extn("auth") else []
    if offered:
        yield failed(
            "port-25-auth", f"port 25 offers AUTH {' and '.join(offered)}", f"smtpd_sasl_auth_enable: {_APPLY}"
        )
    else:
        yield passed("port-25-auth", "port 25 offers no AUTH")


def submission(mail: MailHost) -> Iterator[Finding]:
    """Whether 587 and 465 take only what is encrypted and authenticated."""
    for port in [port for port in (587, 465) if mail.has("dovecot") and port not in mail.mute]:
        mail.say(f"port {port}")
        wrong, version = _submission(mail.address, port)
        if speaks_outdated(mail.address, port):
            wrong.append("it accepts TLS below 1.2")
        if wrong:
            yield failed(f"submission:{port}", "; ".join(wrong), _APPLY)
        else:
            yield passed(f"submission:{port}", f"{version}; AUTH within TLS alone; nothing is taken without a password")


def _submission(address: str, port: int) -> tuple[list[str], str]:
    """What is wrong on a port, and the version of TLS that it speaks."""
    wrong = []
    with connected(address, port) as server:
        server.ehlo()
        if port == 587:
            if server.has_extn("auth"):
                wrong.append("it offers AUTH before TLS")
            if _sent(server).code < 400:
                wrong.append("it takes mail before TLS")
            server.rset()
            if not server.has_extn("starttls"):
                return [*wrong, "it offers no TLS"], ""
            server.starttls(context=trusting())
            server.ehlo()
        if not server.has_extn("auth"):
            wrong.append("it offers no AUTH")
        if _sent(server).code < 400:
            wrong.append("it takes mail without a password")
        return wrong, str(getattr(server.sock, "version", str)())


def _sent(server: smtplib.SMTP) -> Answer:
    try:
        return envelope(server, "doctor@example.org", "doctor@example.com")
    except smtplib.SMTPServerDisconnected:
        return answer(421, b"closed")
