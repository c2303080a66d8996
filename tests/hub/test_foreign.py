"""What the repositories of other libraries say of themselves."""

import pytest

from zoo.hub import stated_licence


@pytest.mark.parametrize(
    ("card", "licence"),
    [
        ("---\nlicense: mit\n---\n", "mit"),
        ("---\ntags:\n- x\nlicense: 'cc-by-nc-4.0'\n---\n", "cc-by-nc-4.0"),
        ("---\ntags: []\n---\nlicense: mit\n", None),
        ("---\nlicense: \x1b[31mred\n---\n", None),
        (None, None),
    ],
)
def test_licence(tmp_path, card, licence):
    if card is not None:
        (tmp_path / "README.md").write_text(card, "utf-8")
    assert stated_licence(tmp_path) == licence
