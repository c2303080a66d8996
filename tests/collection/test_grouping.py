"""Groups: found without their number, in layers, the same every time, and kept over changes."""

import os
import subprocess
import sys

import numpy as np
import pytest

from zoo.collection import grouping
from zoo.collection.grouping import FEW, keep_identity
from zoo.collection.neighbours import build, connect
from zoo.errors import InputError

pytest.importorskip("faiss")
pytest.importorskip("sknetwork")


def blobs(sizes, spread=0.35, width=16, seed=0):
    """Features around as many centres, and which centre each is of."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(len(sizes), width))
    truth = np.repeat(np.arange(len(sizes)), sizes)
    features = centres[truth] + spread * rng.normal(size=(len(truth), width))
    return features.astype(np.float32), truth


def middle(features, hashes=None, **more):
    _, _, graph = build(features, hashes)
    return next(layer for layer in grouping.group(graph, hashes, **more) if layer.name == "middle")


def same_division(a, b):
    return len(set(zip(a.tolist(), b.tolist(), strict=True))) == len(set(a)) == len(set(b))


@pytest.fixture(scope="module")
def crowd():
    return blobs([90, 60, 40, 25, 15])


def test_what_belongs_together_is_found_without_its_number(crowd):
    features, truth = crowd
    layer = middle(features)
    for label in range(layer.labels.max() + 1):
        assert len(set(truth[layer.labels == label])) == 1, "no group has two kinds"
    assert layer.labels.max() < 12
    assert (layer.labels >= 0).all()


def test_the_layers_go_from_coarse_to_fine_and_the_largest_group_is_the_first(crowd):
    _, _, graph = build(crowd[0])
    layers = grouping.group(graph)
    assert [layer.name for layer in layers] == ["coarse", "middle", "fine"]
    counts = [layer.labels.max() for layer in layers]
    assert counts == sorted(counts)
    assert counts[0] < counts[2]
    for layer in layers:
        sizes = np.bincount(layer.labels)
        assert sizes.tolist() == sorted(sizes, reverse=True)
        assert layer.labels.dtype == np.int32


def test_what_lies_between_two_groups_is_less_sure(crowd):
    features, truth = crowd
    layer = middle(np.concatenate([features, (features[:5] + features[90:95]) / 2]))
    assert layer.sureness.min() >= 0
    assert layer.sureness.max() <= 1 + 1e-6
    assert layer.sureness[-5:].mean() < np.median(layer.sureness[truth.nonzero()]) - 0.1


@pytest.mark.slow
def test_the_same_seed_gives_the_same_groups_on_any_number_of_threads(tmp_path, crowd):
    np.save(tmp_path / "features.npy", crowd[0])
    script = (
        "import sys, numpy as np; from zoo.collection import grouping, neighbours\n"
        "graph = neighbours.build(np.load(sys.argv[1]))[2]\n"
        "print([layer.labels.tolist() for layer in grouping.group(graph)])"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "features.npy")]
    printed = [
        subprocess.run(
            command, env={**os.environ, "OMP_NUM_THREADS": threads}, capture_output=True, check=True
        ).stdout
        for threads in ("1", "3")
    ]
    assert printed[0] == printed[1]
    assert str(middle(crowd[0]).labels.tolist()).encode() in printed[0]


def test_a_number_of_groups_can_be_asked_for(crowd):
    features, truth = crowd
    assert same_division(middle(features, number=5).labels, truth)
    for number in (2, 230):
        labels = middle(features, number=number).labels
        assert sorted(set(labels.tolist())) == list(range(number))
    with pytest.raises(InputError, match="from 1 to 230"):
        middle(features, number=231)
    with pytest.raises(InputError, match="from 1 to 230"):
        middle(features, number=0)


def test_copies_go_with_the_picture_and_do_not_weigh(crowd):
    features, _ = crowd
    order = np.concatenate([np.arange(len(features)), np.full(200, 3)])
    layer = middle(features[order], [f"h{i}" for i in order])
    assert same_division(layer.labels[: len(features)], middle(features).labels)
    assert set(layer.labels[len(features) :]) == {layer.labels[3]}


def test_too_few_of_a_kind_are_in_the_one_group_of_those():
    features, truth = blobs([60, 60, 2], spread=0.05, seed=3)
    graph = build(features)[2]
    labels = np.array([0] * 60 + [1] * 60 + [2, 2])
    cut = graph.similarities.copy()
    cut[truth == 2, 1:] = -1  # near to each other alone
    near = grouping.weights(graph._replace(similarities=cut))
    assert set(grouping._settled(near, labels)[truth == 2]) == {FEW}
    single = np.array([0] * 59 + [2] + [1] * 60 + [0, 0])
    assert grouping._settled(near, single)[59] == 0, "all its neighbours are in that group"


@pytest.mark.parametrize("count", range(6))
def test_a_handful_of_pictures_can_be_grouped(count):
    layers = grouping.group(build(blobs([count])[0])[2])
    assert all(layer.labels.shape == layer.sureness.shape == (count,) for layer in layers)


def test_pictures_that_are_all_alike_are_one_group():
    assert set(middle(np.ones((50, 8), np.float32)).labels) == {0}


def test_a_group_of_the_same_pictures_keeps_its_number():
    hashes = [f"h{i}" for i in range(20)]
    before = dict(zip(hashes, [4] * 8 + [7] * 8 + [FEW] * 4, strict=True))
    now = np.array([1] * 6 + [2] * 2 + [0] * 8 + [3] * 4)
    kept = keep_identity(before, now, hashes)
    assert kept.tolist() == [4] * 6 + [8] * 2 + [7] * 8 + [9] * 4


def test_of_a_group_that_is_parted_the_larger_half_keeps_the_number():
    hashes = [f"h{i}" for i in range(10)]
    before = dict.fromkeys(hashes, 3)
    assert keep_identity(before, np.array([1] * 4 + [0] * 6), hashes).tolist() == [4] * 4 + [3] * 6


def test_removed_pictures_and_copies_count_for_nothing():
    before = {f"h{i}": i % 2 for i in range(40)}
    hashes = ["h1", "h0", "h2", "h0", "h0", "h3"]
    kept = keep_identity(before, np.array([0, 1, 1, 1, 1, 0]), hashes)
    assert kept.tolist() == [1, 0, 0, 0, 0, 1]


def test_a_group_of_other_pictures_gets_a_number_that_none_had():
    kept = keep_identity({"a": 5, "b": 5}, np.array([0, 0, FEW]), ["c", "d", "a"])
    assert kept.tolist() == [6, 6, FEW]
    assert keep_identity({}, np.array([0, 1]), ["c", "d"]).tolist() == [0, 1]


# -- after an update -------------------------------------------------------------------------------


def grouped(features, chosen, before=None, **more):
    """The layers of some of the pictures, by hash; the projection is that of all."""
    hashes = [f"h{i}" for i in chosen]
    graph = connect(build(features)[1][chosen], hashes)
    layers = grouping.group(graph, hashes, before=before, **more)
    return {layer.name: dict(zip(hashes, layer.labels.tolist(), strict=True)) for layer in layers}


@pytest.fixture(scope="module")
def wide_crowd():
    """Groups that are not easily told from each other: found anew, a tenth is in other ones."""
    return blobs([60, 60, 50, 50, 40, 30, 30], spread=1.5, seed=1)


def test_after_an_update_of_a_twentieth_the_others_stay_in_their_groups(wide_crowd):
    features, _ = wide_crowd
    order = np.random.default_rng(0).permutation(len(features))
    before = grouped(features, order[16:])
    anew, after = grouped(features, order), grouped(features, order, before)
    for name, old in before.items():
        assert [after[name][one] for one in old] == list(old.values())
        assert FEW not in after[name].values()
    hashes = list(before["middle"])
    kept = keep_identity(
        before["middle"], np.array([anew["middle"][one] for one in hashes]), hashes
    )
    assert np.mean(kept == list(before["middle"].values())) < 0.98, "which is not so by itself"


def test_pictures_that_are_added_go_to_their_like(crowd):
    features, truth = crowd
    order = np.random.default_rng(0).permutation(len(features))
    before = grouped(features, order[20:], number=5)["middle"]
    whose = {label: truth[int(one[1:])] for one, label in before.items()}
    after = grouped(features, order, {**grouped(features, order[20:]), "middle": before}, number=5)
    for i in order[:20]:
        assert whose[after["middle"][f"h{i}"]] == truth[i]


def test_a_kind_that_is_new_is_a_new_group(wide_crowd):
    features, truth = wide_crowd
    kinds = np.concatenate([features, features[truth == 6] + 20])
    before = grouped(kinds, np.arange(len(features)))
    after = grouped(kinds, np.arange(len(kinds)), before)
    for name, old in before.items():
        assert [after[name][one] for one in old] == list(old.values())
        new = {after[name][f"h{i}"] for i in range(len(features), len(kinds))}
        assert min(new) > max(old.values())


def test_of_very_many_pictures_only_what_is_near_to_new_ones_is_grouped(monkeypatch):
    features, truth = blobs([90, 60, 40, 25, 15])
    features = np.concatenate([features, features[:12] + 20])  # a kind that is new
    truth = np.concatenate([truth, np.full(12, 5)])
    order = np.random.default_rng(0).permutation(len(features))
    new = (truth[order] == 5) | (np.arange(len(order)) < 4)
    hashes = [f"h{i}" for i in order]
    vectors = build(features)[1][order]
    old = [one for one, is_new in zip(hashes, new, strict=True) if not is_new]
    layers = grouping.group(connect(vectors[~new], old), old)
    before = []
    for layer in layers:
        labels, sureness = np.full(len(new), FEW, np.int32), np.zeros(len(new), np.float32)
        labels[~new], sureness[~new] = layer.labels, layer.sureness
        before.append(grouping.Layer(layer.name, labels, sureness))
    seen = []
    real = grouping._communities
    monkeypatch.setattr(
        grouping,
        "_communities",
        lambda near, *more: seen.append(near.shape[0]) or real(near, *more),
    )
    unused = [50, 60, 70]
    after = grouping.refine(connect(vectors, hashes), hashes, before, new, unused)
    assert max(seen) < 140
    for was, now, number in zip(before, after, unused, strict=True):
        kept = was.labels >= 0
        assert (now.labels[kept] == was.labels[kept]).all()
        assert (now.sureness[~new] == was.sureness[~new]).all()
        assert set(now.labels[truth[order] == 5]) == {number}
        assert (now.sureness[new] > 0.4).all()
    middles = next(layer for layer in after if layer.name == "middle").labels
    for i in range(4):
        if truth[order[i]] != 5:
            same = ~new & (truth[order] == truth[order[i]])
            assert middles[i] in middles[same]


def test_more_of_a_kind_that_was_there_are_no_new_group():
    """Though most of the kind is new."""
    features, truth = blobs([40, 50, 60])
    few = np.flatnonzero((truth > 0) | (np.arange(len(truth)) < 15))
    before = grouped(features, few, number=3)
    for number in (None, 3):
        after = grouped(features, np.arange(len(truth)), before, number=number)["middle"]
        assert {after[f"h{i}"] for i in range(40)} == {before["middle"]["h0"]}


def test_very_many_pictures_are_grouped_the_same_with_less_memory(monkeypatch):
    """The graph is prepared without scikit-network's copies of it, and looked at by parts.

    In the order of scikit-network everything is the same; in ours the groups are as good.
    """
    from sklearn.metrics import adjusted_mutual_info_score as agreement

    features, truth = blobs([150, 90, 60, 40, 25, 15, 3], spread=0.8)
    _, _, graph = build(features)
    few = grouping.group(graph)
    prepared = []
    prepare = grouping._prepared

    def counted(*given):
        prepared.append(given)
        return prepare(*given)

    monkeypatch.setattr(grouping, "LARGE", 100)
    monkeypatch.setattr(grouping, "_ROWS", 64)
    monkeypatch.setattr(grouping, "_SHUFFLED", 32)
    monkeypatch.setattr(grouping, "_prepared", counted)
    for layer, other in zip(grouping.group(graph), few, strict=True):
        assert agreement(truth, layer.labels) > agreement(truth, other.labels) - 0.03
    prepared.clear()
    monkeypatch.setattr(grouping, "_nearby", lambda near, any: any.permutation(near.shape[0]))
    for layer, other in zip(grouping.group(graph), few, strict=True):
        assert (layer.labels == other.labels).all()
        assert (layer.sureness == other.sureness).all()
    assert len(prepared) == 4 * 8 + 3
    assert 0 < few[1].sureness.min() < 1


def test_nodes_that_are_near_come_after_each_other_and_else_at_random(monkeypatch):
    features, _ = blobs([60] * 10, spread=0.8)
    order = np.random.default_rng(0).permutation(len(features))
    near = grouping.weights(build(features[order])[2])
    monkeypatch.setattr(grouping, "_SHUFFLED", 40)
    found = [grouping._nearby(near, np.random.RandomState(seed)) for seed in (0, 0, 1)]
    assert (found[0] == found[1]).all()
    assert (found[0] != found[2]).any()
    rows, columns = near.nonzero()

    def together(nodes):
        block = np.argsort(nodes) // 40
        return (block[rows] == block[columns]).mean()

    for nodes in found:
        assert (np.sort(nodes) == np.arange(len(nodes))).all()
        assert together(nodes) > 3 * together(np.arange(len(nodes)))


def test_of_the_same_pictures_nothing_is_found_again(crowd, monkeypatch):
    features, _ = crowd
    before = grouped(features, np.arange(230))
    monkeypatch.setattr(grouping, "_communities", None)
    assert grouped(features, np.arange(230)[::-1], before) == before
    fewer = grouped(features, np.arange(100), before)["middle"]
    assert all(before["middle"][one] == label for one, label in fewer.items())


def test_a_group_that_is_made_of_parts_of_others_is_none_of_the_new():
    old = np.array([0] * 10 + [1] * 10 + [FEW] * 9)
    parts = np.r_[0:4, 10:14]
    for added, is_new in ((8, False), (9, True)):
        members = np.isin(np.arange(29), [*parts, *range(20, 20 + added)])
        assert grouping._is_new(old, members, np.array([10, 10])) is is_new
    most_of_the_first = np.isin(np.arange(29), [*range(6), *range(20, 29)])
    assert not grouping._is_new(old, most_of_the_first, np.array([10, 10]))
