"""The types that fields of resources and parameters of states can have, each with its parser.

A parser takes what TOML gave and returns the value to keep, or raises ValueError with a sentence that says
what is right. Parsers are pure: they look at nothing on the host.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated, Any


class Doc:
    """The documentation of a field, for `agent docs` and for error messages."""

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text


class Parsed:
    """Marks a field whose value goes through `parse` once its TOML type is right.

    pydantic is only imported when a schema is built, so that reading a compiled site does not need it.
    """

    __slots__ = ("parse",)

    def __init__(self, parse: Callable[[Any], Any]) -> None:
        self.parse = parse

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        from pydantic_core import core_schema

        return core_schema.no_info_after_validator_function(self.parse, handler(source))


_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_BYTES = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}
_NUMBER = r"([0-9]{1,15}(?:\.[0-9]{1,9})?)"
_DURATION_PART = re.compile(_NUMBER + "(ms|min|s|m|h|d|w)")
_SIZE = re.compile(_NUMBER + " ?([kmgt]i?)?b?", re.IGNORECASE | re.ASCII)
_LOCAL_PART = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*")
_LABEL = re.compile(r"(?!-)[a-z0-9-]{1,63}(?<!-)", re.IGNORECASE | re.ASCII)


def seconds(text: str) -> float:
    """Seconds in a duration such as `90s`, `1h30m` or `500ms`."""
    parts = _DURATION_PART.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise ValueError(f'"{text}" is not a duration: write a number and a unit, such as "90s", "5m" or "1h30m"')
    return sum(float(number) * _SECONDS[unit] for number, unit in parts)


def byte_count(text: str) -> int:
    """Bytes in a size such as `25MB` (10^6), `512KiB` (2^10) or `4096`."""
    found = _SIZE.fullmatch(text)
    if not found:
        raise ValueError(f'"{text}" is not a size: write a number and a unit, such as "25MB" or "512KiB"')
    whole, _, fraction = found[1].partition(".")
    unit = _BYTES[(found[2] or "").lower()]
    return int(whole + fraction) * unit // int(10 ** len(fraction))


def absolute_path(text: str) -> str:
    """An absolute path in its one spelling: no doubled or trailing slashes, no `.`; `..` is refused."""
    if not text.startswith("/"):
        raise ValueError(f'"{text}" is not an absolute path: it must begin with "/"')
    if "\0" in text:
        raise ValueError("a path cannot hold a NUL")
    parts = [part for part in text.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise ValueError(f'"{text}" has ".." in it: write the path it means')
    return "/" + "/".join(parts)


def file_mode(text: str) -> str:
    """Permission bits as four octal digits: `644` and `0644` both become `0644` (chmod(1))."""
    if not re.fullmatch(r"0?[0-7]{3}|[0-7]{4}", text):
        raise ValueError(f'"{text}" is not a mode: write three or four octal digits, such as "0644"')
    return text.rjust(4, "0")


def hostname(text: str) -> str:
    """A host or domain name (RFC 1123): labels of letters, digits and hyphens."""
    if not text.isascii():
        raise ValueError(f'"{text}" has other letters than a to z: such a name is written in its "xn--" form')
    name = text.removesuffix(".")
    if len(name) > 253 or not name or not all(_LABEL.fullmatch(label) for label in name.split(".")):
        raise ValueError(f'"{text}" is not a host name: labels of letters, digits and "-", joined by "."')
    return text


def email(text: str) -> str:
    """A mail address `local@domain` (RFC 5321, without quoted local parts)."""
    local, at, domain = text.rpartition("@")
    if not at or len(local) > 64 or not _LOCAL_PART.fullmatch(local):
        raise ValueError(f'"{text}" is not a mail address: write "name@domain"')
    try:
        hostname(domain)
    except ValueError:
        raise ValueError(f'"{text}" is not a mail address: "{domain}" is not a domain') from None
    return text


def port(number: int) -> int:
    """A TCP or UDP port, 1 to 65535."""
    if not 1 <= number <= 65535:
        raise ValueError(f"{number} is not a port: 1 to 65535")
    return number


def cidr(text: str) -> str:
    """An IPv4 or IPv6 network such as `192.0.2.0/24`, or a single address."""
    import ipaddress

    try:
        ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise ValueError(f'"{text}" is not a network: write an address and a prefix, such as "192.0.2.0/24"') from None
    return text


def time_span(text: str) -> str:
    """A duration that is longer than none."""
    if not seconds(text):
        raise ValueError(f'"{text}" is no time at all')
    return text


def regex(text: str) -> str:
    """A regular expression in Python's syntax."""
    try:
        re.compile(text)
    except re.error as error:
        raise ValueError(f'"{text}" is not a regular expression: {error}') from None
    return text


def argv(words: list[str]) -> list[str]:
    """A command as a list of arguments; the first one is the program."""
    if not words or not words[0]:
        raise ValueError('a command is a list of at least the program, such as ["systemctl", "daemon-reload"]')
    if any("\0" in word for word in words):
        raise ValueError("an argument cannot hold a NUL")
    return words


def account_name(text: str) -> str:
    """A user's or group's name (useradd(8)); a number is not a name."""
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_-]{0,31}\$?", text):
        raise ValueError(f'"{text}" is not the name of a user or group')
    return text


def account_id(number: int) -> int:
    """The number of a user or group; -1 as 16 and 32 bits stands for "none" (chown(2))."""
    if not 0 <= number < 2**32 - 1 or number == 2**16 - 1:
        raise ValueError(f"{number} is not the number of a user or group: 0 to {2**32 - 2}, but not {2**16 - 1}")
    return number


AbsolutePath = Annotated[str, Parsed(absolute_path)]
Mode = Annotated[str, Parsed(file_mode)]
Duration = Annotated[str, Parsed(lambda text: (seconds(text), text)[1])]
TimeSpan = Annotated[str, Parsed(time_span)]
Regex = Annotated[str, Parsed(regex)]
Argv = Annotated[list[str], Parsed(argv)]
AccountName = Annotated[str, Parsed(account_name)]
AccountId = Annotated[int, Parsed(account_id)]


class Internal:
    """Marks a field that the engine fills in; no declaration can set it."""

    __slots__ = ()
