"""Which changes of a column's type keep every value that it could hold. Pure; types as format_type() prints them."""

from __future__ import annotations

import re

_TYPE = re.compile(
    r"(?P<base>[^()\[\]]+?)\s*(?:\((?P<numbers>\d+(?:,-?\d+)?)\))?(?P<rest>[^()\[\]]*)(?P<array>(?:\[\])*)"
)
_WIDER = {
    ("smallint", "integer"), ("smallint", "bigint"), ("integer", "bigint"), ("real", "double precision"),
    ("cidr", "inet"), ("json", "jsonb"), ("character varying", "text"), ("text", "character varying"),
    ("macaddr", "macaddr8"), ("smallint", "double precision"), ("integer", "double precision"), ("smallint", "real"),
}  # fmt: skip
_SIZED = {"character varying", "bit varying", "character"}
_PRECISE = ("time", "timestamp", "interval")
_TEXTS = ("character varying", "character", "text", "public.citext", "citext")


def _parsed(type: str) -> tuple[str, tuple[int, ...], str]:
    found = _TYPE.fullmatch(type)
    if found is None:
        return type, (), ""
    numbers = tuple(int(number) for number in (found["numbers"] or "").split(",") if number)
    return found["base"] + found["rest"], numbers, found["array"]


def keeps_everything(old: str, new: str) -> bool:
    """Whether every value of the old type is one of the new type, as it is."""
    base, numbers, array = _parsed(old)
    new_base, new_numbers, new_array = _parsed(new)
    if array != new_array:
        return False
    if base != new_base:
        if new_base == "numeric" and base in ("smallint", "integer", "bigint"):
            return not new_numbers
        if (base, new_base) in _WIDER:
            return not new_numbers
        return new in ("text", "public.citext") and base != "character" and (new == "text" or is_text(old))
    if not new_numbers:
        return base not in ("character", "bit")
    if not numbers:
        return base.startswith(_PRECISE) and new_numbers == (6,)
    if base == "numeric":
        scale, new_scale = (*numbers, 0)[1], (*new_numbers, 0)[1]
        return new_scale >= scale and new_numbers[0] - new_scale >= numbers[0] - scale
    if base in _SIZED or base.startswith(_PRECISE):
        return new_numbers >= numbers
    return new_numbers == numbers


def is_text(type: str) -> bool:
    """Whether its values are plain text, so that a cast to anything else is a matter of reading it."""
    return _parsed(type)[0] in _TEXTS
