"""Lines of keys, against documents that are written with every key on a known line."""

from __future__ import annotations

import tomllib
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from agent.declaration.lines import KeyPath, Lines

DOCUMENT = '''\
# a comment = "not a key"
title = "x" # [not.a.table]

[ a . "b c" . 'd' ]
key = 1
"quoted key" = "with ] and } and # and \\" and ,"
'literal \\ key' = 'with " and ]'
dotted.x.y = true
dotted . x . z = 1979-05-27T07:32:00Z
multi = """
[looks.like]
a = "table" \\
   """
literal = \'\'\'
# no comment
''\'\'\'
after = """one "" two""\\""" three"""""
array = [ 1, 2, # comment ] in it
  [ 3, "]", { x = 1, "y z" = [
    4 ] } ],
  { t = { u = 5 } },
]
inline = { p = 1, q = { r = "}" }, s.t = [
 9] }
[[list]]
n = 1
[list.sub]
m = 1
[[list.inner]]
i = 1
[[list.inner]]
i = 2
[[list]]
n = 2
[list.sub]
m = 2
[z.y]
[z]
w = 1
'''
PLACES: dict[KeyPath, int] = {
    ("title",): 2, ("a",): 4, ("a", "b c", "d"): 4, ("a", "b c", "d", "key"): 5, ("a", "b c", "d", "quoted key"): 6,
    ("a", "b c", "d", "literal \\ key"): 7, ("a", "b c", "d", "dotted", "x", "y"): 8,
    ("a", "b c", "d", "dotted", "x", "z"): 9, ("a", "b c", "d", "dotted", "x"): 8, ("a", "b c", "d", "multi"): 10,
    ("a", "b c", "d", "literal"): 14, ("a", "b c", "d", "after"): 17, ("a", "b c", "d", "array"): 18,
    ("a", "b c", "d", "array", 1): 18, ("a", "b c", "d", "array", 2): 19, ("a", "b c", "d", "array", 2, 2, "y z"): 19,
    ("a", "b c", "d", "array", 2, 2, "y z", 0): 20, ("a", "b c", "d", "array", 3, "t", "u"): 21,
    ("a", "b c", "d", "inline", "q", "r"): 23, ("a", "b c", "d", "inline", "s", "t", 0): 24,
    ("list",): 25, ("list", 0, "n"): 26, ("list", 0, "sub", "m"): 28, ("list", 0, "inner", 0, "i"): 30,
    ("list", 0, "inner", 1, "i"): 32, ("list", 1): 33, ("list", 1, "n"): 34, ("list", 1, "sub", "m"): 36,
    ("z", "y"): 37, ("z",): 38, ("z", "w"): 39,
}  # fmt: skip


def test_every_way_to_write_a_key() -> None:
    assert tomllib.loads(DOCUMENT)["a"]["b c"]["d"]["after"] == 'one "" two""""" three""'
    lines = Lines(DOCUMENT)
    assert {path: lines.of(path) for path in PLACES} == PLACES


def test_a_key_that_is_not_there_has_the_line_of_the_table_around_it() -> None:
    lines = Lines("\n[a]\nb = { c = 1 }\n")
    assert [lines.of(path) for path in ((), ("x",), ("a", "x"), ("a", "b", "x", 3), ("a", 7))] == [1, 1, 2, 3, 2]
    assert Lines("").of(("x",)) == 1


keys = st.text(min_size=0, max_size=5)
strings = st.text(max_size=20)
scalars = strings | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | st.booleans() | st.datetimes()
values = st.recursive(scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3))


class Writer:
    """Writes a document in a way that chance chooses, and notes the line of each key."""

    def __init__(self, chance: Any) -> None:
        self.chance = chance
        self.text = ""
        self.places: dict[KeyPath, int] = {}

    def put(self, *words: str) -> None:
        self.text += "".join(words)

    def note(self, path: KeyPath) -> None:
        self.places.setdefault(path, self.text.count("\n") + 1)

    def escaped(self, text: str, keep: str = "") -> str:
        return "".join(
            each if each in keep or (each >= " " and each not in '"\\\x7f') else f"\\U{ord(each):08x}" for each in text
        )

    def string(self, text: str) -> str:
        way = self.chance.randint(0, 3)
        plain = all(each >= " " and each != "\x7f" for each in text)
        if way == 1 and plain and "'" not in text:
            return f"'{text}'"
        if way == 2:
            begin = self.chance.choice(["", "\n", "\\\n  ", "\n\\\n"])
            body = self.escaped(text)
            if "\\" in begin and body.startswith(" "):  # which would belong to the line's end
                body = "\\U00000020" + body[1:]
            return f'"""{begin}{body}"""'
        if way == 3 and "'''" not in text and not text.endswith("'") and plain:
            return f"'''\n{text}'''"
        return f'"{self.escaped(text)}"'

    def key(self, key: str) -> None:
        bare = key.isascii() and key.replace("_", "").replace("-", "").isalnum()
        self.put(key if bare and self.chance.randint(0, 1) else f'"{self.escaped(key)}"')

    def blank(self) -> None:
        self.put(self.chance.choice(["", " ", "\n", ' # ] } = "\n', "\t"]))

    def value(self, value: Any, path: KeyPath) -> None:
        if isinstance(value, list):
            self.put("[")
            for i, item in enumerate(value):
                self.blank()
                self.note((*path, i))
                self.value(item, (*path, i))
                self.blank()
                self.put(",")
            self.blank()
            self.put("]")
        elif isinstance(value, dict):
            self.put("{ ")
            for i, (key, item) in enumerate(value.items()):
                self.put(", " if i else "")
                self.pair(key, item, path)
            self.put(" }")
        elif isinstance(value, str):
            self.put(self.string(value))
        else:
            self.put(str(value).lower() if isinstance(value, bool) else str(value))

    def pair(self, key: str, value: Any, path: KeyPath) -> None:
        self.note((*path, key))
        self.key(key)
        self.put(self.chance.choice(["=", " = "]))
        self.value(value, (*path, key))

    def table(self, table: dict[str, Any], path: KeyPath) -> None:
        later = []
        for key, value in table.items():
            if isinstance(value, dict) and self.chance.randint(0, 1):
                later.append((key, value))
                continue
            self.pair(key, value, path)
            self.put(self.chance.choice(["\n", " # [x]\n", "\n\n"]))
        for key, value in later:
            self.places[(*path, key)] = self.text.count("\n") + 1
            self.put("[")
            for i, part in enumerate((*path, key)):
                self.put("." if i else "")
                self.key(str(part))
            self.put("]\n")
            self.table(value, (*path, key))


@settings(max_examples=200, deadline=None)
@given(document=st.dictionaries(keys, values, max_size=4), chance=st.randoms(use_true_random=False))
def test_random_documents(document: dict[str, Any], chance: Any) -> None:
    writer = Writer(chance)
    writer.table(document, ())
    assert tomllib.loads(writer.text) == document
    lines = Lines(writer.text)
    assert {path: lines.of(path) for path in writer.places} == writer.places


def test_long_documents_take_no_time() -> None:
    text = "a = [" + ", ".join(["1"] * 20000) + "]\n" + 'b = """' + "x\n\\t" * 50000 + '"""\n' + "c = 1\n"
    assert tomllib.loads(text)["c"] == 1
    assert Lines(text).of(("c",)) == 50003
