"""Text from files, made safe to print: names, labels, messages.

A name may hold whatever a file's author liked: escape codes that a terminal obeys, characters that
reverse the line, markup of rich.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.text import Text


def printable(text: str, keep: str = "") -> str:
    """The text with every character that is not printable as its escape in Python.

    Args:
      text: any.
      keep: characters that stay, as the ends of lines.
    """
    return "".join(
        each
        if each.isprintable() or each in keep
        else each.encode("unicode_escape", "surrogatepass").decode()
        for each in text
    )


def cell(text: str, style: str = "") -> Text:
    """`printable` text for a table or a line of rich, without markup, emoji or highlighting."""
    from rich.text import Text

    return Text(printable(text), style)
