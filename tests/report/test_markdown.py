"""Texts of strangers stay texts: held against what a Markdown parser makes of them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt  # which rich brings

from zoo.report.markdown import LONGEST, code, line, table, text

PARSER = MarkdownIt("commonmark").enable(["table", "strikethrough"])

HOSTILE = [
    "# heading", "- item", "+ item", "1. item", "12) item", "---", "===", "***", "> quote",
    "`code`", "```\nfence", "a | b", "\\| a", "**bold**", "_emphasis_", "~~gone~~", "$x$",
    "[link](http://x)", "![image](http://x)", "[a]: http://x", "[^1]: x", "[a][b]", "<http://x>",
    "<script>alert(1)</script>", "<!-- x", "&lt;b&gt;", "&#60;", "a\n\n# heading", "a\r\n---\r\n",
    "    indented", "\t", "\x1b[31mred", "\u202eright to left", "a\u2028b", "\ud800", "\\", "a\\",
    "fashion_mnist", "pixels in [0, 1]", "0.1.0", "Hinton & Salakhutdinov", "",
]  # fmt: skip

texts = st.sampled_from(HOSTILE) | st.text(
    st.sampled_from("\\`*_{}[]()<>#+-=.!|~&;:$^/ \n\t\"'aB1é"), max_size=12
)


def shown(markdown):
    """The text that a reader sees of one paragraph or cell, which holds nothing but text."""
    assert [child.type for child in markdown.children] in ([], ["text"])
    return "".join(child.content for child in markdown.children)


@given(texts)
def test_text_is_a_paragraph_of_itself(value):
    tokens = PARSER.parse(text(value))
    if line(value):
        assert [token.type for token in tokens] == ["paragraph_open", "inline", "paragraph_close"]
        assert shown(tokens[1]) == line(value)
    else:
        assert tokens == []


@given(texts, texts)
def test_text_and_code_are_cells_of_themselves(first, second):
    parsed = PARSER.parse(table(("a", "b", "c"), [(text(first), code(second), "end")], numbers=1))
    assert [token.type for token in parsed].count("tr_open") == 2
    cells = [token for token in parsed if token.type == "inline"]
    assert len(cells) == 6
    assert shown(cells[3]) == line(first)
    assert "".join(child.content for child in cells[4].children) == (line(second) or "-")
    assert shown(cells[5]) == "end"


@pytest.mark.parametrize("value", HOSTILE)
def test_one_printable_line(value):
    assert line(value).isprintable()
    text(value).encode()


def test_what_needs_no_escape_has_none():
    for value in ("fashion_mnist", "pixels in [0, 1]", "0.1.0", "Hinton & Salakhutdinov"):
        assert text(value) == value


def test_long_texts_are_cut():
    assert len(line("x" * 10_000_000)) == LONGEST + 3
