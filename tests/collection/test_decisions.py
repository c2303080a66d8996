"""What a person decided is on the disk once it is acknowledged, whatever happens then."""

import errno
import hashlib
import json
import os
import random
import subprocess
import sys
import time

import numpy as np
import pytest

from zoo.collection import decisions as module
from zoo.collection.decisions import Decision, Decisions, fold, parse, regrouped, valid_name
from zoo.errors import DataError, InputError


def sha(text):
    return hashlib.sha256(str(text).encode()).hexdigest()


A, B, C, D = (sha(each) for each in "abcd")


@pytest.fixture
def kept(tmp_path):
    return Decisions(tmp_path / "decisions.jsonl")


def names(decisions):
    return [each.value for each in decisions.read().decisions]


def test_a_line_is_a_json_object(kept):
    kept.append("name", [A, B, A], "Katzen – ネコ", group=3)
    (line,) = kept.path.read_text("utf-8").splitlines()
    record = json.loads(line)
    assert record.pop("time").endswith("+00:00")
    assert record == {"kind": "name", "hashes": [A, B], "value": "Katzen – ネコ", "group": 3}


def test_nothing_decided_is_no_file(kept):
    assert kept.read() == module.Read()
    assert not kept.path.exists()


def test_what_was_read_is_what_was_appended(kept):
    made = [
        kept.append("name", [A], "cats"),
        kept.append("merge", [A, B], 2),
        kept.append("not_duplicate", [A, B], False),
        kept.append("keep_both", [C]),
    ]
    read = kept.read()
    assert [each[:4] for each in read.decisions] == [each[:4] for each in made]
    assert (read.torn, read.unknown, read.notes()) == (0, {}, [])


# -- kills ---------------------------------------------------------------------------------------


def test_cut_off_anywhere_and_gone_on(kept):
    """Every byte at which a kill may cut off a line: what was acknowledged is there, before and
    after, and the next decision is not glued to the torn one."""
    kept.append("name", [A], "first")
    whole = kept.path.read_bytes()
    kept.append("name", [B], "second")
    both = kept.path.read_bytes()
    for cut in range(len(whole), len(both) + 1):
        kept.path.write_bytes(both[:cut])
        before = names(kept)
        assert before in (["first"], ["first", "second"])
        torn = kept.read().torn
        assert torn == (len(whole) < cut < len(both) - 1)
        kept.append("name", [C], "third")
        assert names(kept) == [*before, "third"]
        assert kept.read().torn == torn
        assert kept.path.read_bytes().startswith(both[:cut]), "mended only by appending"


@pytest.mark.parametrize("written", [0, 1, 40])
def test_a_full_disk_is_no_acknowledgement(kept, monkeypatch, written):
    kept.append("name", [A], "first")
    write = os.write

    def full(file, data):
        if len(data) <= 40:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(file, data[:written]) if written else full(file, b"")

    monkeypatch.setattr(module.os, "write", full)
    with pytest.raises(OSError, match="No space"):
        kept.append("name", [B], "x" * written if written else "second")
    monkeypatch.undo()
    kept.append("name", [C], "third")
    assert names(kept)[0] == "first"
    assert names(kept)[-1] == "third"


def test_acknowledged_only_after_the_disk_has_it(kept, monkeypatch):
    def refused(file):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(module.os, "fsync", refused)
    with pytest.raises(OSError, match="output error"):
        kept.append("name", [A], "first")


def test_several_are_one_write(kept, monkeypatch):
    synced = []
    monkeypatch.setattr(module.os, "fsync", synced.append)
    kept.append_all([Decision("name", (sha(i),), f"n{i}") for i in range(100)])
    assert names(kept) == [f"n{i}" for i in range(100)]
    assert len(synced) == 2  # the file and its folder


KILLED = """
import sys
from pathlib import Path
from zoo.collection.decisions import Decisions
decisions = Decisions(Path(sys.argv[1]))
number = int(sys.argv[2])
while True:
    decisions.append("name", ["%064x" % (number + i) for i in range(50)], f"n{number}")
    print(number, flush=True)
    number += 1
"""


@pytest.mark.slow
def test_twenty_kills_lose_nothing_acknowledged(kept):
    rng = random.Random(0)
    acknowledged: list[int] = []
    for run in range(20):
        command = [sys.executable, "-c", KILLED, str(kept.path), str(run * 1_000_000)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        acknowledged += [int(process.stdout.readline()) for _ in range(rng.randint(1, 9))]
        time.sleep(rng.uniform(0, 0.01))
        process.kill()
        acknowledged += [int(line) for line in process.communicate()[0].splitlines()]
        assert process.returncode < 0
    found = names(kept)
    assert set(found) >= {f"n{each}" for each in acknowledged}
    assert len(found) <= len(acknowledged) + 20, "at most the one under way is there unacknowledged"


@pytest.mark.slow
def test_two_processes_at_once(kept):
    many = KILLED.replace("while True", "for _ in range(200)")
    both = [
        subprocess.Popen(
            [sys.executable, "-c", many, str(kept.path), str(begin)], stdout=subprocess.DEVNULL
        )
        for begin in (0, 1000)
    ]
    assert [each.wait(120) for each in both] == [0, 0]
    assert set(names(kept)) == {f"n{begin + i}" for begin in (0, 1000) for i in range(200)}


# -- what others may have written ----------------------------------------------------------------


@pytest.mark.parametrize(
    "line",
    [
        b"nonsense",
        b"[]",
        b"3",
        b"{}",
        b'{"kind": 3}',
        b"\xff\xfe",
        b"\x00" * 20,
        b"[" * 100_000,
        b'{"kind": "name", "value": ' + b"9" * 5000 + b"}",
        b'{"kind": "name", "hashes": "%s", "value": "x"}' % A.encode(),
        b'{"kind": "name", "hashes": ["../../etc"], "value": "x"}',
        b'{"kind": "name", "hashes": [], "value": "x"}',
        b'{"kind": "name", "hashes": ["%s"], "value": "a\\nb"}' % A.encode(),
        b'{"kind": "name", "hashes": ["%s"], "value": "\\ud800"}' % A.encode(),
        b'{"kind": "name", "hashes": ["%s"], "value": 3}' % A.encode(),
        b'{"kind": "name", "hashes": ["%s"], "value": "x", "group": "y"}' % A.encode(),
        b'{"kind": "split", "hashes": ["%s"], "value": -1}' % A.encode(),
        b'{"kind": "split", "hashes": ["%s"], "value": 1e999}' % A.encode(),
        b'{"kind": "not_duplicate", "hashes": ["%s"]}' % A.encode(),
    ],
)
def test_a_line_that_says_nothing_is_counted_and_costs_itself(kept, line):
    good = kept.append("name", [A], "cats").line()
    kept.path.write_bytes(good + b"\n" + line + b"\n" + good + b"\n")
    read = kept.read()
    assert (len(read.decisions), read.torn) == (2, 1)
    assert "1 line of decisions.jsonl" in read.notes()[0]


def test_a_newer_version_is_said_and_kept(kept):
    newer = b'{"kind": "rotate", "hashes": ["x"], "degrees": 90}\n'
    kept.path.write_bytes(newer)
    kept.append("name", [A], "cats")
    read = kept.read()
    assert read.unknown == {"rotate": 1}
    assert "'rotate', which this version of the zoo does not know" in read.notes()[0]
    assert kept.path.read_bytes().startswith(newer)
    assert names(kept) == ["cats"]


def test_blank_lines_are_nothing(kept):
    kept.path.write_bytes(b"\n\n \r\n")
    assert kept.read() == module.Read()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no pipes with names")
def test_a_pipe_is_not_waited_for(kept):
    os.mkfifo(kept.path)
    with pytest.raises(DataError, match="should be a file of decisions"):
        kept.read()
    with pytest.raises(DataError, match="should be a file of decisions"):
        kept.append("name", [A], "cats")


@pytest.mark.parametrize(
    ("decision", "message"),
    [
        (Decision("rename", (A,), "x"), "expected a kind"),
        (Decision("name", (), "x"), "at least one picture"),
        (Decision("name", ("abc",), "x"), "64 hex digits"),
        (Decision("name", (A,), ""), "cannot have the value ''"),
        (Decision("name", (A,)), "cannot have the value None"),
        (Decision("unname", (A,), "x"), "cannot have the value 'x'"),
        (Decision("merge", (A,), True), "cannot have the value True"),
        (Decision("keep_both", (A,), 1), "cannot have the value 1"),
        (Decision("not_duplicate", (A,)), "2 to 1000 pictures"),
    ],
)
def test_what_is_no_decision_is_not_written(kept, decision, message):
    with pytest.raises(InputError, match=message):
        kept.append_all([Decision("name", (A,), "good"), decision])
    assert not kept.path.exists()


def test_a_name_is_the_same_however_it_was_typed():
    assert valid_name("  ca\u0301t\t s\x07\u200b ") == "cát s"
    assert valid_name("می\u200cخواهم\u200d") == "می\u200cخواهم"
    with pytest.raises(InputError, match="at least one letter"):
        valid_name(" \x00\u200d ")
    with pytest.raises(InputError, match="100 characters"):
        valid_name("x" * 101)


# -- what holds ----------------------------------------------------------------------------------


def state(*decisions):
    return fold(decisions)


def test_the_later_name_holds():
    found = state(
        Decision("name", (A, B), "cats"),
        Decision("name", (B,), "dogs"),
        Decision("name", (C,), "birds"),
        Decision("unname", (C,)),
    )
    assert found.pictures == {A: "cats", B: "dogs"}
    assert found.names == ["cats", "dogs"]


def test_a_picture_named_by_itself_outlasts_the_names_of_its_groups():
    found = state(
        Decision("name", (A, B), "cats", 1),
        Decision("name", (A,), "dogs"),
        Decision("name", (A, B), "pets", 1),
    )
    assert found.pictures == {A: "dogs"}
    assert found.members == {A: "pets", B: "pets"}
    named = [Decision("name", (A, B), "x", 1), Decision("name", (A,), "y")]
    assert fold([*named, Decision("unname", (A, B))]) == module.State()
    assert fold([*named, Decision("unname", (A, B), None, 1)]) == module.State({A: "y"})


def test_duplicates_that_are_none():
    found = state(
        Decision("not_duplicate", (C, A, B)),
        Decision("not_duplicate", (A, B), False),
        Decision("keep_both", (B, A)),
        Decision("keep_both", (C,)),
        Decision("keep_both", (D,)),
        Decision("keep_both", (D,), False),
    )
    assert found.are_apart(B, C)
    assert found.are_apart(C, A)
    assert not found.are_apart(A, B)
    assert found.are_kept([A, B])
    assert found.are_kept([A])
    assert found.are_kept([C])
    assert not found.are_kept([A, C])
    assert not found.are_kept([D])


HASHES = [sha(i) for i in range(8)]


def edited(labels, *decisions):
    return regrouped(np.array(labels), HASHES[: len(labels)], fold(decisions).edits).tolist()


def test_merged_groups_stay_one_when_they_have_grown():
    merged = Decision("merge", tuple(HASHES[:4]), 0)
    assert edited([0, 0, 1, 1, 2, 2], merged) == [0, 0, 0, 0, 2, 2]
    assert edited([0, 0, 1, 1, 1, 2], merged) == [0, 0, 0, 0, 0, 2], "a new one came along"
    assert edited([5, 5, 3, 3, 3, 2], merged) == [3, 3, 3, 3, 3, 2], "numbers of a new grouping"
    assert edited([7, 1, 2, 3, 7, 1, 2, 3], merged)[:4] == [0] * 4, "even where all were scattered"


def test_the_few_of_a_kind_are_no_group_that_comes_along():
    merged = Decision("merge", tuple(HASHES[:3]), 0)
    assert edited([0, 0, -1, -1], merged) == [0, 0, 0, -1]
    assert edited([-1, -1, -1, 1], merged) == [0, 0, 0, 1]


def test_what_was_split_off_stays_apart():
    split = Decision("split", tuple(HASHES[:2]), 9)
    assert edited([0, 0, 0, 1], split) == [9, 9, 0, 1]
    assert edited([3, 4, 4, 9], split) == [10, 10, 4, 9], "its number is somebody else's by now"
    assert edited([3, 4, 4, 9], split._replace(hashes=(D,))) == [3, 4, 4, 9], "all of it is gone"


def test_later_edits_go_before_earlier_ones():
    split = Decision("split", tuple(HASHES[:2]), 5)
    merge = Decision("merge", tuple(HASHES[:4]), 0)
    assert edited([0, 0, 0, 0], split, merge) == [0, 0, 0, 0]
    assert edited([0, 0, 0, 0], merge, split) == [5, 5, 0, 0]


def test_regrouped_leaves_its_argument_alone():
    labels = np.array([0, 0, 1])
    regrouped(labels, HASHES[:3], fold([Decision("split", (HASHES[0],), 2)]).edits)
    assert labels.tolist() == [0, 0, 1]


def test_hash_prefixes_and_texts_are_no_lines():
    assert parse([b"", b" ", b"\r"]) == module.Read()
