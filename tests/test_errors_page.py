"""The page on errors has the words of every message, and no others."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.pages import ROOT

_PAGE = (ROOT / "docs/errors.md").read_text()
# Parts of a message in double backticks; `…` for what differs from case to case.
_QUOTED = [
    " ".join(quoted.split())
    for quoted in re.findall(r"(?<!`)``(?!`)(.+?)``(?!`)", _PAGE, re.DOTALL)
]
# The command's errors are for its command line, and say what to do there.
_SOURCES = [
    path for path in sorted(ROOT.glob("packages/*/src/**/_*.py")) if path.parent.name != "_diagnose"
]

_NOT_FOR_USERS = [
    "has no attribute",  # Python's own words, for a module without the name.
    "cannot pickle",  # Python's own words, which another message quotes.
    "are not all within",  # What no loader asks of an order.
]


def test_the_page_quotes_messages_that_exist() -> None:
    messages = [text for source in _SOURCES for text in _texts(source)]
    for quoted in _QUOTED:
        assert any(_pattern(quoted).search(text) for text in messages), quoted


@pytest.mark.parametrize("source", _SOURCES, ids=lambda path: path.stem)
def test_every_message_is_on_the_page(source: Path) -> None:
    for message in _messages(source):
        if not any(words in message for words in _NOT_FOR_USERS):
            assert any(_pattern(quoted).search(message) for quoted in _QUOTED), message


def _pattern(quoted: str) -> re.Pattern[str]:
    return re.compile(".*".join(map(re.escape, quoted.split("…"))), re.DOTALL)


def _texts(source: Path) -> list[str]:
    return [_text(node) for node in ast.walk(ast.parse(source.read_text())) if _is_text(node)]


def _messages(source: Path) -> Iterator[str]:
    """What is given to exceptions, warnings and notes."""
    for node in ast.walk(ast.parse(source.read_text())):
        if isinstance(node, ast.Call) and re.search(
            r"(Error|\bwarn|\.warning|add_note)$", ast.unparse(node.func)
        ):
            yield from map(_text, filter(_is_text, node.args[:1]))


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.JoinedStr) or (
        isinstance(node, ast.Constant) and isinstance(node.value, str)
    )


def _text(node: ast.AST) -> str:
    """The literal parts of a string, in order."""
    if isinstance(node, ast.JoinedStr):
        return "\0".join(
            str(part.value) if isinstance(part, ast.Constant) else "" for part in node.values
        )
    assert isinstance(node, ast.Constant)
    return str(node.value)
