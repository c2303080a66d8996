"""What the page is made of: arrays, and how the browser gets them."""

import base64
import dataclasses
import json

import numpy as np
import pytest
from pagemaking import HOSTILE, made

from zoo.collection.page.data import script_json, to_json
from zoo.errors import InputError


def unpacked(text: str, kind: str) -> np.ndarray:
    return np.frombuffer(base64.b64decode(text), kind)


def test_the_browser_gets_what_the_arrays_have():
    data = dataclasses.replace(made(50), names=["a", ""] * 25)
    plain = json.loads(script_json(to_json(data)))
    assert plain["paths"] == list(data.paths)
    assert (unpacked(plain["layers"][1]["labels"], "<i4") == data.layers[1].labels).all()
    assert (unpacked(plain["widths"], "<u4") == data.widths).all()
    assert [plain["names"][i] if i >= 0 else "" for i in unpacked(plain["name"], "<i4")] == [
        *data.names
    ]
    assert unpacked(plain["hashes"], "u1")[:32].tobytes().hex() == data.hashes[0]


def test_nothing_in_the_json_can_end_a_script():
    assert HOSTILE in to_json(made(50))["paths"][3]
    text = script_json(to_json(made(50)))
    assert "<" not in text
    assert ">" not in text
    assert "&" not in text


def test_a_name_that_is_no_utf8_is_text_all_the_same():
    data = made(10)
    paths = [*data.paths[:9], "/pictures/\udcff.png"]
    text = script_json(to_json(dataclasses.replace(data, paths=paths)))
    assert json.loads(text)["paths"][9] == "/pictures/\\udcff.png"


def test_in_another_order_everything_says_the_same():
    data = dataclasses.replace(made(60), names=[str(i) for i in range(60)])
    order = data.by_group()
    moved = data.reordered(order)
    for new, old in enumerate(order):
        assert moved.paths[new] == data.paths[old] == f"{data.paths[old]}"
        assert moved.names[new] == str(old)
        assert (order[moved.neighbours[new]] == data.neighbours[old]).all()
        assert moved.layers[0].labels[new] == data.layers[0].labels[old]
    assert [order[i] for i in moved.duplicates[1].pictures] == [8, 9, 10]
    assert order[moved.faults[0].picture] == 7
    labels = moved.layers[1].labels
    assert (np.diff(labels) >= 0).all()


def test_columns_of_unlike_lengths_are_refused():
    with pytest.raises(InputError, match=r"expected 20 entries.*'odd': 19"):
        dataclasses.replace(made(20), odd=np.zeros(19))
