"""`agent account`: mail accounts, as declarations beside the site file."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from agent.cli.options import Common, Function, common_options, shipped_states
from agent.errors import UsageError

if TYPE_CHECKING:
    from agent.mail.accounts import Accounts
    from agent.mail.accounts_password import Password

_MOST = 1 << 20


def complete_email(ctx: click.Context, _param: click.Parameter, typed: str) -> list[str]:
    """The site's accounts, for completion in a shell; silent where the site cannot be read."""
    from agent.errors import AgentError

    try:
        found = _accounts(Common(site=ctx.params.get("site"), state_dir=ctx.params.get("state_dir"))).site().accounts
    except AgentError:
        return []
    return [account.email for account in found if account.email.startswith(typed.lower())]


def _accounts(common: Common) -> Accounts:
    from agent.mail.accounts import Accounts

    return Accounts(common.site_path, shipped_states(), common.places.run)


def _password_options(function: Function) -> Function:
    """Where the password comes from: asked for, or one of these."""
    generate = "Make a password, and keep it in a file that is named."
    function = click.option("--generate-password", "password", flag_value="made", help=generate)(function)
    ready = "Read a ready hash, such as {ARGON2ID}…, from stdin."
    function = click.option("--password-hash-stdin", "password", flag_value="hash", help=ready)(function)
    stdin = "Read the password from stdin, instead of asking for it."
    return click.option("--password-stdin", "password", flag_value="stdin", help=stdin)(function)


@click.group(
    epilog="Examples:\n\n\b\n  sudo agent account add ann@example.net --key ann.asc --alias info@example.net\n"
    "  sudo agent account passwd ann@example.net\n  agent account list --json\n"
    "  sudo agent account remove ann@example.net",
)
def account() -> None:
    """Mail accounts: add, list, change and remove them.

    An account is a declaration in accounts.d/ beside the site file, with the public key that its mail is encrypted to;
    `agent apply` does the rest.
    """


@account.command(
    epilog="Examples:\n\n\b\n  sudo agent account add ann@example.net --key ann.asc\n"
    "  gpg --export ann@example.net | sudo agent account add ann@example.net --key -\n"
    "  pass mail/ann | sudo agent account add ann@example.net --key ann.asc --password-stdin",
)
@click.argument("email")
@click.option(
    "--key", required=True, type=click.Path(), metavar="FILE", help="Public key, armored or not; - for stdin."
)
@click.option("--alias", "aliases", multiple=True, metavar="ADDRESS", help="A further address of it; may be repeated.")
@_password_options
@common_options
def add(email: str, key: str, aliases: tuple[str, ...], password: str | None, common: Common) -> int:
    """Add the account EMAIL, and encrypt its mail to the key in FILE."""
    from agent.mail.accounts_address import address
    from agent.mail.accounts_keys import checked

    if key == "-" and password in ("stdin", "hash"):
        raise UsageError(
            "only one thing can come from stdin", hint="give the key as a file, or be asked for a password"
        )
    accounts, name = _accounts(common), address(email)
    named = list(dict.fromkeys(address(alias) for alias in aliases))
    accounts.check_new(name, named)
    public = checked(_content(key), name, _label(key))
    given = _password(name, password, terminal=key != "-")
    accounts.add(name, named, public, given)
    settings, kept = _settings(accounts, name), _kept(accounts, name, given)
    more = {"fingerprint": public.fingerprint, "aliases": named, "settings": settings, "password_file": kept}
    _done(common, "added", name, more)
    if not common.as_json and not common.quiet:
        print(f"its key: {public.fingerprint} ({public.description})")
        print(f"IMAP: {settings['imap']['host']}, port 993 (TLS)")
        print(f"SMTP: {settings['smtp']['host']}, port 465 (TLS), or 587 (STARTTLS)")
        print(f"user name: {name}")
        _tell(kept)
    return 0


@account.command(epilog="Examples:\n\n\b\n  sudo agent account passwd ann@example.net")
@click.argument("email", shell_complete=complete_email)
@_password_options
@common_options
def passwd(email: str, password: str | None, common: Common) -> int:
    """Set a new password for EMAIL."""
    if password is None and not sys.stdin.isatty():
        hint = "give it with --password-stdin, or add --generate-password"
        raise UsageError("there is no terminal to ask for a password on", hint=hint)
    accounts, name = _accounts(common), email.lower()
    accounts.own(name)
    given = _password(name, password)
    accounts.set_password(name, given)
    kept = _kept(accounts, name, given)
    _done(common, "changed the password of", name, {"password_file": kept})
    if not common.as_json and not common.quiet:
        _tell(kept)
    return 0


@account.command(epilog="Examples:\n\n\b\n  sudo agent account key ann@example.net --key renewed.asc")
@click.argument("email", shell_complete=complete_email)
@click.option(
    "--key", required=True, type=click.Path(), metavar="FILE", help="Public key, armored or not; - for stdin."
)
@common_options
def key(email: str, key: str, common: Common) -> int:
    """Renew or replace the key that the mail of EMAIL is encrypted to."""
    from agent.mail.accounts_keys import checked

    accounts, name = _accounts(common), email.lower()
    accounts.own(name)
    public = checked(_content(key), name, _label(key))
    accounts.set_key(name, public)
    _done(common, "changed the key of", name, {"fingerprint": public.fingerprint})
    if not common.as_json and not common.quiet:
        print(f"its key: {public.fingerprint} ({public.description})")
    return 0


@account.command(
    epilog="Examples:\n\n\b\n  sudo agent account remove ann@example.net\n"
    "  sudo agent account remove ann@example.net --delete-mail --yes",
)
@click.argument("email", shell_complete=complete_email)
@click.option("--delete-mail", is_flag=True, help="Delete its mail as well, which is kept otherwise.")
@click.option("--yes", is_flag=True, help="Do not ask before mail is deleted.")
@common_options
def remove(email: str, delete_mail: bool, yes: bool, common: Common) -> int:
    """Remove the account EMAIL. Its mail is kept, unless told otherwise."""
    from agent.mail.accounts_mail import delete, mailbox

    accounts, name = _accounts(common), _plain(email)
    box = mailbox(accounts.site(), name) if delete_mail else None
    if box is None:
        accounts.check_known(name)
    elif not yes:
        _confirm(f"delete all mail in {box}?")
    accounts.remove(name)
    files = delete(box) if box is not None else 0
    _done(common, "removed", name, {"deleted_files": files})
    if not common.as_json and not common.quiet:
        print(
            f"{files} files of mail were deleted" if box else "there was no mail" if delete_mail else "its mail stays"
        )
    return 0


@account.command("list", epilog="Examples:\n\n\b\n  agent account list\n  agent account list --json | jq .accounts")
@common_options
def list_(common: Common) -> int:
    """List the accounts, with their keys and aliases."""
    from agent.mail.accounts_list import rows

    found = rows(_accounts(common).site().accounts)
    if common.as_json:
        _json({"accounts": found})
        return 0
    from agent.report.plain import visible

    width = max((len(row["email"]) for row in found), default=0)
    for row in found:
        words = [f"key {row['fingerprint'][-16:]}" if row["fingerprint"] else "no fingerprint"]
        words += [row["problem"] or row["warning"] or f"expires {row['expires'] or 'never'}"]
        words += [f"also {', '.join(row['aliases'])}"] * bool(row["aliases"])
        print(visible(f"{row['email']:<{width}}  {'; '.join(words)}"))
    if not found and not common.quiet:
        print("the site declares no accounts")
    return 0


def _plain(email: str) -> str:
    """An address as the name of files; what none can have names none."""
    from agent.mail.accounts_address import address

    return address(email)


def _label(key: str) -> str:
    return "stdin" if key == "-" else key


def _content(path: str) -> bytes:
    try:
        if path == "-":
            content = sys.stdin.buffer.read(_MOST + 1)
        else:
            with open(path, "rb") as file:
                content = file.read(_MOST + 1)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise UsageError(f"the key {_label(path)} cannot be read: {reason}") from None
    if len(content) > _MOST:
        raise UsageError(f"{_label(path)} is too large for a key: more than {_MOST >> 20} MiB")
    return content


def _password(email: str, source: str | None, *, terminal: bool = True) -> Password:
    """The password: from stdin, or asked for twice, or made where none is given."""
    from agent.mail.accounts_password import Password, hashed, made, ready_hash

    if source == "hash":
        return Password(ready_hash(_line()))
    if source == "stdin":
        return Password(hashed(_line()))
    if source == "made" or not terminal or not sys.stdin.isatty():
        return made()
    text = f"Password for {email} (Enter: one is made)"
    asked: str = click.prompt(text, default="", show_default=False, hide_input=True, confirmation_prompt=True, err=True)
    return Password(hashed(asked)) if asked else made()


def _kept(accounts: Accounts, email: str, given: Password) -> str | None:
    return accounts.own(email).made if given.made else None


def _tell(kept: str | None) -> None:
    if kept:
        print(f"a password was made; it is in {kept}: give it to its owner, and delete that file")


def _line() -> str:
    """What stdin holds, without the end of its line."""
    try:
        text = sys.stdin.buffer.read(8192).decode()
    except UnicodeDecodeError:
        raise UsageError("what came from stdin is not UTF-8") from None
    return text.removesuffix("\n").removesuffix("\r")


def _confirm(question: str) -> None:
    if not sys.stdin.isatty():
        raise UsageError("mail is only deleted when told twice", hint="add --yes")
    click.confirm(question, abort=True, err=True)


def _settings(accounts: Accounts, email: str) -> dict[str, Any]:
    site = accounts.site()
    smtp = site.setting("postfix", "hostname") or site.domain
    imap = site.setting("dovecot", "hostname") or smtp
    return {
        "imap": {"host": imap, "port": 993, "security": "TLS"},
        "smtp": {"host": smtp, "port": 465, "security": "TLS", "or": {"port": 587, "security": "STARTTLS"}},
        "user": email,
    }


def _done(common: Common, done: str, email: str, more: dict[str, Any]) -> None:
    from agent.host.resident import is_resident

    resident = is_resident(common.places.run)
    if common.as_json:
        _json({"done": done.split(maxsplit=1)[0], "email": email, **more, "next": None if resident else "agent apply"})
    elif not common.quiet:
        site = "" if common.site is None else f" --site {common.site}"
        then = "the resident agent does the rest" if resident else f"to carry it out: agent apply{site}"
        print(f"{done} {email}; {then}")


def _json(document: dict[str, Any]) -> None:
    from agent.report.plain import VERSION, dumps

    print(dumps({"version": VERSION, "mode": "account", **document}))
