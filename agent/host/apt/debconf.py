"""Answers to debconf's questions, as debconf-set-selections(1) takes them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

_QUESTION = re.compile(r"[^\s/]+(/[^\s/]+)+")
_ANSWER = re.compile(r"(string|boolean|select|multiselect|password|note|text|title|error)(\s|$)")


def problems_of_answer(question: str, answer: str) -> Iterable[str]:
    """Sentences about what is wrong with an answer `type value` (of a secret one: with the part before the secret)."""
    if not _QUESTION.fullmatch(question):
        yield f'debconf: "{question}" is not a question: write "package/question"'
    if not _ANSWER.match(answer):
        yield f'debconf: the answer to {question} must be "type value", such as "string example.org" or "boolean true"'
    if "\n" in answer:
        yield f"debconf: the answer to {question} has more than one line"


def answer_line(packages: Sequence[str], question: str, answer: str) -> str:
    """The line that gives an answer; it belongs to the package that the question names, else to the first one."""
    owner = question.partition("/")[0]
    if owner not in packages:
        owner = packages[0].partition(":")[0]
    return f"{owner} {question} {answer}"
