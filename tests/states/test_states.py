"""Every shipped state: it can be read, is documented, stands by itself, and fills its templates in as meant."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agent.declaration.compile import compile_site
from agent.declaration.desired import Desired
from agent.declaration.document import Reader
from agent.declaration.parameters import Parameter, read_parameters
from agent.errors import DeclarationError

ROOT = Path(__file__).parents[2]
STATES = ROOT / "states"
NAMES = sorted(path.parent.name for path in STATES.glob("*/state.toml"))
DOMAIN = 'domain = "supersecure.example.net"'

Compile = Callable[..., Desired]


@pytest.fixture
def compiled(tmp_path: Path) -> Compile:
    """Compile a site of some states, with the values that are given."""

    def compiled(*states: str, values: str = DOMAIN) -> Desired:
        site = tmp_path / "site.toml"
        # mailname reads the domain where no other state does, and a value that nobody reads is an error.
        selected = dict.fromkeys(("mailname", *states))
        site.write_text(f"[site]\nstates = [{', '.join(map(repr, selected))}]\n[values]\n{values}\n")
        return compile_site(site, STATES)[0]

    return compiled


def resource(desired: Desired, id: str) -> Any:
    """One resource of a site."""
    return next(entry.resource for entry in desired.entries if entry.id == id)


def text(desired: Desired, path: str) -> str:
    """What a file will hold."""
    file = resource(desired, f"file:{path}")
    return str(file.rendered if file.template else file.content)


def setting(main_cf: str, name: str) -> str:
    """A setting of main.cf, its lines joined."""
    found = re.search(rf"^{name} *=(.*(?:\n[ \t].*)*)", main_cf, re.MULTILINE)
    assert found, name
    return " ".join(found[1].split())


def parameters(name: str) -> dict[str, Parameter]:
    """The parameters of a state."""
    document = Reader(STATES).document(STATES / name / "state.toml")
    assert document is not None
    return read_parameters(document, [])


def test_the_shipped_site_is_valid_and_selects_what_it_says() -> None:
    desired = compile_site(ROOT / "site.toml", STATES)[0]
    assert set(desired.states) >= {"mailname", "postfix", "postgrey", "spf"}


@pytest.mark.parametrize("name", NAMES)
class TestEveryState:
    def test_it_stands_by_itself_with_what_it_needs(self, name: str, compiled: Compile) -> None:
        desired = compiled(name)
        assert any(entry.state == name for entry in desired.entries)

    def test_its_parameters_are_documented(self, name: str, compiled: Compile) -> None:
        for parameter in parameters(name).values():
            assert re.match(r"[A-Z`]", parameter.doc), f"{parameter.name}: {parameter.doc!r}"
            assert not parameter.doc.endswith("."), parameter.name

    def test_it_says_what_it_is_for(self, name: str, compiled: Compile) -> None:
        assert len(compiled(name).states[name]) > 20
        readme = (STATES / name / "README.md").read_text()
        assert readme.startswith(f"# {name}\n\n")
        assert "## By hand\n" in readme

    def test_no_file_lies_about_unused(self, name: str, compiled: Compile) -> None:
        declared = (STATES / name / "state.toml").read_text()
        for path in (STATES / name).iterdir():
            if path.name not in ("state.toml", "README.md"):
                assert f'"{path.name}"' in declared, f"{path.name} is used by nothing"

    def test_templates_bear_the_names_of_their_files(self, name: str, compiled: Compile) -> None:
        for entry in compiled(name).entries:
            template = getattr(entry.resource, "template", None)
            assert template is None or Path(template).name == Path(entry.resource.name).name

    def test_files_say_who_may_read_them(self, name: str, compiled: Compile) -> None:
        for entry in compiled(name).entries:
            if entry.resource.kind == "file":
                assert entry.resource.mode, f"{entry.id} has no mode"

    def test_it_has_a_check_that_the_doctor_runs(self, name: str, compiled: Compile) -> None:
        assert any(entry.state == name and entry.resource.kind == "check" for entry in compiled(name).entries)

    def test_filled_in_files_are_tidy(self, name: str, compiled: Compile) -> None:
        for entry in compiled(name).entries:
            filled_in = getattr(entry.resource, "rendered", None)
            if isinstance(filled_in, str):
                assert filled_in.endswith("\n")
                assert not filled_in.endswith("\n\n"), entry.id
                assert "\n\n\n" not in filled_in, entry.id
                assert not re.search(r"[ \t]$", filled_in, re.MULTILINE), entry.id
                assert "kept by state-agent" in filled_in.splitlines()[0].lower(), entry.id


class TestMailname:
    def test_the_host_s_own_name_where_none_is_given(self, compiled: Compile) -> None:
        assert text(compiled("mailname", values=""), "/etc/mailname").strip()

    @pytest.mark.parametrize("domain", ["Example.net", "example.net."])
    def test_the_domain_has_one_spelling(self, compiled: Compile, domain: str) -> None:
        with pytest.raises(DeclarationError, match=r"in its one spelling: example[.]net"):
            compiled(values=f'domain = "{domain}"')

    def test_the_domain(self, compiled: Compile) -> None:
        assert text(compiled("mailname"), "/etc/mailname") == "supersecure.example.net\n"


class TestPostfix:
    def main(self, compiled: Compile, *states: str, values: str = "") -> str:
        desired = compiled("postfix", *states, values=f"{DOMAIN}\n{values}")
        return text(desired, "/etc/postfix/main.cf")

    def test_alone_it_asks_nobody(self, compiled: Compile) -> None:
        main = self.main(compiled)
        assert "check_policy_service" not in main
        assert "policy-spf" not in main
        assert "policy-spf" not in text(compiled("postfix"), "/etc/postfix/master.cf")

    def test_the_order_of_questions(self, compiled: Compile) -> None:
        values = '[values.postgrey]\nport = 10099\n[values.postfix]\nblocklists = ["list.example"]'
        asked = setting(self.main(compiled, "postgrey", "spf", values=values), "smtpd_recipient_restrictions")
        relay, rest = asked.split(" reject_unauth_destination ")
        assert relay == "permit_mynetworks"
        assert rest.endswith(
            "reject_rbl_client list.example check_policy_service inet:127.0.0.1:10099 "
            "check_policy_service unix:private/policy-spf"
        )

    def test_the_policy_program_runs_as_its_own_user(self, compiled: Compile) -> None:
        desired = compiled("spf")
        assert "spawn\n    user=policyd-spf argv=/usr/bin/policyd-spf\n" in text(desired, "/etc/postfix/master.cf")
        assert setting(text(desired, "/etc/postfix/main.cf"), "policy-spf_time_limit") == "3600s"

    def test_what_it_asks_is_there_before_it_asks(self, compiled: Compile) -> None:
        ids = [entry.id for entry in compiled("postfix", "postgrey", "spf").entries]
        assert ids.index("service:postgrey") < ids.index("file:/etc/postfix/main.cf")
        assert ids.index("apt:postfix-policyd-spf-python") < ids.index("file:/etc/postfix/master.cf")

    def test_nothing_is_relayed_and_nobody_logs_in(self, compiled: Compile) -> None:
        main = self.main(compiled, "postgrey", "spf")
        assert setting(main, "smtpd_relay_restrictions") == "permit_mynetworks, reject_unauth_destination"
        assert "sasl" not in main + text(compiled("postfix"), "/etc/postfix/master.cf")

    @pytest.mark.parametrize(
        ("value", "name", "expected"),
        [
            ("message_size_mb = 1", "message_size_limit", "1048576"),
            ('mailbox = "mbox"', "home_mailbox", ""),
            ('mynetworks = ["10.0.0.0/8", "2001:db8::/32", "192.0.2.1", "::1"]', "mynetworks",
             "10.0.0.0/8 [2001:db8::]/32 192.0.2.1 [::1]"),
            ('hostname = "mx.example.net"', "mydestination",
             "supersecure.example.net, mx.example.net, localhost.localdomain, localhost"),
            ('hostname = "mx.example.net"', "myhostname", "mx.example.net"),
            ('recipient_delimiter = ""', "recipient_delimiter", ""),
            ('inet_protocols = "all"', "inet_protocols", "all"),
        ],
    )  # fmt: skip
    def test_values(self, compiled: Compile, value: str, name: str, expected: str) -> None:
        assert setting(self.main(compiled, values=f"[values.postfix]\n{value}"), name) == expected

    def test_aliases(self, compiled: Compile) -> None:
        values = (
            '[values.postfix]\nroot_mail_to = "ann"\naliases = { sales = ["ann", "bob"], abuse = "eve@example.org" }'
        )
        lines = text(compiled("postfix", values=f"{DOMAIN}\n{values}"), "/etc/aliases").splitlines()
        assert {"postmaster: root", "root: ann", "sales: ann, bob", "abuse: eve@example.org"} <= set(lines)
        assert len([line for line in lines if line.startswith("abuse")]) == 1
        assert "root:" not in text(compiled("postfix"), "/etc/aliases")


class TestAccounts:
    """What is declared by hand is held to the same as what `agent account` writes."""

    @pytest.mark.parametrize(
        ("more", "said"),
        [
            ('"bert@other.example", "ann@example.net"]', "ann@example.net cannot be an alias of cleo@example.net"),
            ('"Cleo@example.net"]', "Cleo@example.net cannot be an alias of cleo@example.net: it is an account's own"),
            ('"x@example.net", "X@Example.net"]', "x@example.net is an alias of cleo@example.net more than once"),
            ('"x@elsewhere.example"]', "its domain is not one of this host's"),
            (']\n[[values.accounts]]\nemail = "Ann@example.net"', "Ann@example.net is the address of more than one"),
            (']\n[[values.accounts]]\nemail = "a/b@example.net"', "a/b@example.net cannot be an account"),
            (']\n[[values.accounts]]\nemail = "ann+x@example.net"', "ann+x@example.net cannot be an account"),
        ],
    )  # fmt: skip
    def test_contradictions(self, compiled: Compile, more: str, said: str) -> None:
        values = 'domain = "example.net"\n' + "".join(
            f'[[values.accounts]]\nemail = "{email}"\naliases = ["info@example.net", "x@other.example"]\n'
            for email in ("ann@example.net", "bert@other.example")
        )
        values += '[[values.accounts]]\nemail = "cleo@example.net"\naliases = ['
        assert compiled("accounts", values=values + '"info@example.net"]')
        with pytest.raises(DeclarationError) as wrong:
            compiled("accounts", values=values + more)
        assert any(said in str(each) for each in wrong.value.problems)

    def test_root_s_mail_goes_to_an_account(self, compiled: Compile) -> None:
        site = 'root_mail_to = "{}"\n' + DOMAIN + '\n[[values.accounts]]\nemail = "ann@supersecure.example.net"'
        assert compiled("accounts", values=site.format("ANN@supersecure.example.net"))
        with pytest.raises(DeclarationError, match=r"me@elsewhere[.]example is not an account"):
            compiled("accounts", values=site.format("me@elsewhere.example"))


class TestPostgrey:
    def test_options(self, compiled: Compile) -> None:
        values = f'{DOMAIN}\n[values.postgrey]\ndelay = "1m30s"\nport = 10099\nmax_age_days = 7'
        default = text(compiled("postgrey", values=values), "/etc/default/postgrey")
        assert 'POSTGREY_OPTS="--inet=127.0.0.1:10099 --delay=90 --max-age=7"' in default


class TestSpf:
    @pytest.mark.parametrize(("word", "expected"), [("reject", "Fail"), ("mark", "False")])
    def test_what_becomes_of_forged_mail(self, compiled: Compile, word: str, expected: str) -> None:
        desired = compiled("spf", values=f'{DOMAIN}\n[values.spf]\non_fail = "{word}"')
        conf = text(desired, "/etc/postfix-policyd-spf-python/policyd-spf.conf")
        assert f"\nMail_From_reject = {expected}\n" in conf
        assert "\nTestOnly = 1\n" in conf

    def test_networks_of_postfix_are_not_looked_at(self, compiled: Compile) -> None:
        desired = compiled("spf", values=f'{DOMAIN}\n[values.postfix]\nmynetworks = ["10.0.0.0/8", "::1/128"]')
        assert "skip_addresses = 10.0.0.0/8,::1/128\n" in text(
            desired, "/etc/postfix-policyd-spf-python/policyd-spf.conf"
        )
