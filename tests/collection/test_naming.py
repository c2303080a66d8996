"""Names spread from what a person named, with probabilities, and the next question is worth it."""

import numpy as np
import pytest

from zoo.collection import naming
from zoo.collection.decisions import Decision, fold
from zoo.collection.grouping import Layer, weights
from zoo.collection.naming import name_all, propose, spread
from zoo.collection.neighbours import Graph, build, connect


@pytest.fixture(scope="module")
def blobs():
    """Six groups of 40 in 16 dimensions, and a few points that are near to nothing."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(6, 16)) * 2
    points = np.concatenate([centre + rng.normal(size=(40, 16)) for centre in centres])
    truth = np.repeat(np.arange(6), 40)
    _, vectors, graph = build(points.astype(np.float32), k=10)
    return vectors, graph, truth


@pytest.fixture(scope="module")
def bridge():
    """Two groups of 40, and ten pictures, the last, on the way from one to the other."""
    rng = np.random.default_rng(3)
    ends = rng.normal(size=(2, 16)) * 3
    points = np.concatenate([end + rng.normal(size=(40, 16)) for end in ends])
    between = ends.mean(0) + rng.normal(size=(10, 16)) * 0.5
    _, _, graph = build(np.concatenate([points, between]).astype(np.float32), k=8)
    return graph, np.repeat([0, 1, 0, 1], [40, 40, 5, 5])


def test_one_click_names_a_group_and_no_other(blobs):
    _, graph, truth = blobs
    members = dict.fromkeys(np.flatnonzero(truth == 2).tolist(), "cats")
    naming = spread(graph, {}, members, truth)
    assert naming.names == ["cats"]
    assert naming.named[truth == 2].mean() > 0.95
    assert naming.named[truth != 2].mean() < 0.05
    assert naming.probability[truth == 2].mean() > 0.8
    assert not naming.given.any()


def test_few_pictures_name_what_is_like_them(blobs):
    _, graph, truth = blobs
    pictures = {i * 40 + j: f"n{i}" for i in range(6) for j in range(3)}
    naming = spread(graph, pictures)
    assert (naming.likeliest == truth).mean() > 0.95
    assert all(naming.of(i) == name for i, name in pictures.items())
    assert naming.named.mean() > 0.7


def test_very_many_pictures_have_the_same_names(blobs, monkeypatch):
    """Fewer numbers are held at once, and some of them with fewer digits."""
    _, graph, truth = blobs
    pictures = {i * 40 + j: f"n{i}" for i in range(4) for j in range(3)}
    members = dict.fromkeys(np.flatnonzero(truth == 5).tolist(), "n5")
    few = spread(graph, pictures, members, truth)
    monkeypatch.setattr(naming, "LARGE", 10)
    monkeypatch.setattr(naming, "AT_ONCE", 500)
    many = spread(graph, pictures, members, truth)
    assert (many.likeliest == few.likeliest).all()
    assert (many.named == few.named).all()
    assert (many.probability != few.probability).any()
    assert many.probability == pytest.approx(few.probability, abs=2e-3)


def test_a_place_for_each_group_lies_behind_those_of_the_pictures(blobs):
    _, graph, truth = blobs
    near = weights(graph).astype(np.float32)
    labels = np.random.default_rng(1).permutation(truth)
    labels[[3, 100, 101]] = -1
    sureness = np.random.default_rng(0).random(len(labels)).astype(np.float32)
    both = naming._with_groups(near, labels, sureness).toarray()
    assert both.shape == (246, 246)
    assert (both == both.T).all()
    assert (both[:240, :240] == near.toarray()).all()
    assert not both[240:, 240:].any()
    links = both[:240, 240:]
    assert (links.argmax(1)[labels >= 0] == labels[labels >= 0]).all()
    assert not links[labels < 0].any()
    degree = np.asarray(near.sum(1)).ravel()
    wanted = np.where(labels >= 0, naming.TOGETHER * degree * sureness, 0)
    assert links.sum(1) == pytest.approx(wanted)


def test_copies_count_once_and_have_one_name(blobs):
    """However many files of one content there are, who is near to them hears it once."""
    vectors, _, truth = blobs
    order = np.concatenate([np.arange(240), np.full(60, 5)])
    hashes = [f"h{i}" for i in order]
    graph = connect(vectors[order], hashes, 10)
    pictures = {4: "cats", 50: "dogs", 90: "birds"}
    found = spread(graph, {**pictures, 299: "cats"}, labels=truth[order], hashes=hashes)
    assert found.given[order == 5].all()
    assert {found.of(i) for i in np.flatnonzero(order == 5)} == {"cats"}
    alone = spread(connect(vectors, None, 10), {**pictures, 5: "cats"}, labels=truth)
    for one, other in zip(found[1:], alone[1:], strict=True):
        assert np.allclose(one[:240], other, atol=1e-5)


def test_exceptions_do_not_take_the_groups_name_from_a_content_that_most_of_it_is():
    """A group of 100 copies and what looks the same; two of those are named as something else."""
    rng = np.random.default_rng(0)
    order = np.concatenate([np.arange(60), np.full(100, 0)])
    points = rng.normal(size=(60, 16))
    points[:8] = points[0] + 0.01 * rng.normal(size=(8, 16))
    features = points[order].astype(np.float32)
    hashes = [f"h{i}" for i in order]
    graph = build(features, hashes, k=10)[2]
    group = np.where(order < 8, 0, 1)
    members = dict.fromkeys(np.flatnonzero(group == 0).tolist(), "plain")
    spans = np.where(group == 0, len(members), 0)
    found = spread(graph, {1: "ball", 2: "ball"}, members, group, None, spans, hashes)
    assert [found.of(i) for i in (0, 1, 2, 159)] == ["plain", "ball", "ball", "plain"]


def test_what_a_person_named_is_never_changed(blobs):
    _, graph, truth = blobs
    members = dict.fromkeys(np.flatnonzero(truth == 0).tolist(), "cats")
    naming = spread(graph, {3: "a dog among cats", 100: "cats"}, members, truth)
    assert naming.of(3) == "a dog among cats"
    assert naming.of(100) == "cats"
    assert naming.probability[[3, 100]].tolist() == [1, 1]
    assert np.flatnonzero(naming.given).tolist() == [3, 100]


def test_pictures_of_another_name_are_freed_from_their_group(blobs):
    """Two kinds were named as one group; a few clicks on pictures give the second its own name."""
    _, graph, truth = blobs
    both = truth <= 1
    members = dict.fromkeys(np.flatnonzero(both).tolist(), "cats")
    before = spread(graph, {}, members)
    assert (before.likeliest[both] == 0).all()
    after = spread(graph, dict.fromkeys(range(40, 46), "dogs"), members)
    assert (after.likeliest[truth == 0] == 0).mean() > 0.95
    assert (after.likeliest[truth == 1] == 1).mean() > 0.9


def test_a_name_stops_at_a_group_that_nobody_spoke_of(bridge):
    graph, truth = bridge
    members = dict.fromkeys(np.flatnonzero(truth == 0).tolist(), "n0")
    alone = spread(graph, {}, members, truth)
    without = spread(graph, {}, members)
    strangers = (truth == 1) & (np.arange(90) >= 80)
    assert alone.probability[strangers].max() < without.probability[strangers].max() - 0.1
    told = spread(graph, {45: "n1"}, members, truth)
    assert (told.probability[truth == 1] > alone.probability[truth == 1] + 0.05).mean() > 0.9


def test_a_picture_that_was_named_speaks_for_its_group(blobs):
    _, graph, truth = blobs
    alone = spread(graph, {3: "cats", 50: "dogs"})
    grouped = spread(graph, {3: "cats", 50: "dogs"}, {}, truth)
    cats = truth == 0
    assert grouped.probability[cats].mean() > alone.probability[cats].mean() + 0.05
    assert grouped.named[cats].mean() > 0.9
    two = spread(graph, {3: "cats", 4: "dogs"}, {}, truth)
    assert two.probability[cats].mean() < grouped.probability[cats].mean() - 0.1, "one of two kinds"
    outside = spread(graph, {3: "cats"}, {}, np.where(cats, -1, truth))
    assert outside.probability[cats].mean() < grouped.probability[cats].mean()


def test_members_have_their_groups_name_unless_another_is_likelier(blobs, monkeypatch):
    """However improbable it is: a person said so."""
    monkeypatch.setattr("zoo.collection.naming.LEAST", 1.1)
    _, graph, truth = blobs
    members = dict.fromkeys(np.flatnonzero(truth <= 1).tolist(), "cats")
    found = spread(graph, dict.fromkeys(range(40, 46), "dogs"), members, truth)
    cats = found.likeliest == found.names.index("cats")
    free = ~found.given
    assert (found.named == (truth <= 1) & cats)[free].all()
    assert 20 < (found.named & free).sum() < 60


def test_no_two_questions_are_about_the_same_pictures(blobs):
    _, graph, truth = blobs
    naming = spread(graph, {}, {}, truth)
    twice = [layer("m", truth), layer("again", truth)]
    members = dict.fromkeys(range(240), "things")
    named = spread(graph, {}, members, truth, spans=np.full(240, 240))
    for found in (
        propose([layer("m", truth)], naming, graph),
        propose(twice, named, graph, np.full(240, 240)),
    ):
        groups = [q.group for q in found if q.group is not None]
        assert len(groups) == len(set(groups)) == 6
        assert not any(q.group is None for q in found), "their pictures were asked for already"


def test_the_smaller_of_two_named_groups_is_the_more_certain(blobs):
    _, graph, truth = blobs
    members = dict.fromkeys(np.flatnonzero(truth == 0).tolist(), "cats")
    narrow = spread(graph, {}, members, spans=np.where(truth == 0, 40, 0))
    broad = spread(graph, {}, members, spans=np.where(truth == 0, 4000, 0))
    assert narrow.probability[truth == 0].mean() > broad.probability[truth == 0].mean() + 0.01


def test_probabilities_are_those_of_a_walk():
    """Three in a row, the ends named: worked out by hand."""
    from zoo.collection import naming as module
    from zoo.collection.grouping import weights

    similarities = np.array([[0.9], [0.9], [0.5]], np.float32)
    graph = Graph(np.array([[1], [0], [1]], np.int32), similarities)
    found = spread(graph, {0: "a", 2: "b"})
    near, far = weights(graph)[1, [0, 2]].toarray().ravel()
    total = (near + far) * (1 + module.LOST)
    assert found.probability[1] == pytest.approx(near / total, rel=1e-4)
    assert found.second[1] == pytest.approx(far / total, rel=1e-4)
    assert found.of(1) == "a"


def test_the_same_every_time(blobs):
    _, graph, truth = blobs
    pictures = {i * 40: f"n{i}" for i in range(6)}
    first, second = (spread(graph, pictures, {}, truth, np.ones(240)) for _ in range(2))
    assert all(np.array_equal(a, b) for a, b in zip(first[1:], second[1:], strict=True))


def test_no_names_and_no_pictures(blobs):
    _, graph, _ = blobs
    naming = spread(graph, {})
    assert not naming.named.any()
    assert naming.of(0) is None
    nothing = connect(np.zeros((0, 4), np.float32))
    assert len(spread(nothing, {}).likeliest) == 0
    alone = connect(np.ones((1, 4), np.float32))
    assert spread(alone, {0: "x"}).of(0) == "x"


def test_pictures_alike_to_nothing_and_groups_without_sureness_are_no_error(blobs):
    _, graph, truth = blobs
    silent = Graph(graph.indices, np.full_like(graph.similarities, -1))
    with np.errstate(divide="raise", invalid="raise", over="raise"):
        found = spread(silent, {0: "x"}, {1: "y"}, truth, np.zeros(240))
    assert np.isfinite(found.probability).all()


def test_decisions_by_hash_find_all_copies(blobs):
    _, graph, truth = blobs
    hashes = [f"{i:064x}" for i in range(240)]
    hashes[200] = hashes[0]  # a copy that lies elsewhere
    state = fold(
        [
            Decision("name", (hashes[0], "f" * 64), "cats"),
            Decision("name", tuple(hashes[40:80]), "dogs", 1),
        ]
    )
    naming = name_all(state, hashes, graph, truth)
    assert naming.of(0) == naming.of(200) == "cats"
    assert naming.of(45) == "dogs"


# -- questions -----------------------------------------------------------------------------------


def layer(name, labels, sureness=1.0):
    return Layer(name, np.asarray(labels), np.full(len(labels), sureness, np.float32))


def asked(layers, pictures, members, graph, truth, **more):
    naming = spread(graph, pictures, members, truth)
    return propose(layers, naming, graph, **more)


def test_the_largest_group_without_a_name_is_asked_first(blobs):
    _, graph, truth = blobs
    labels = np.where(truth == 1, 0, truth)  # a group of 80
    first, second, *_ = asked([layer("middle", labels)], {}, {}, graph, labels)
    assert (first.layer, first.group, first.size) == ("middle", 0, 80)
    assert set(first.pictures.tolist()) <= set(np.flatnonzero(labels == 0).tolist())
    assert len(first.pictures) == 9
    assert first.gain > second.gain
    assert first.guess == ""


def test_of_groups_of_a_size_the_surer_is_asked_first(blobs):
    _, graph, truth = blobs
    sureness = np.where(truth == 3, 0.9, 0.5).astype(np.float32)
    naming = spread(graph, {}, {}, truth, sureness)
    first, *_ = propose([Layer("middle", truth, sureness)], naming, graph)
    assert first.group == 3


def test_pictures_are_shown_from_the_most_typical_to_the_least(blobs):
    vectors, graph, truth = blobs
    (question,) = (q for q in asked([layer("m", truth)], {}, {}, graph, truth) if q.group == 4)
    centre = vectors[truth == 4].mean(0)
    cosines = (vectors @ centre)[question.pictures]
    assert len(question.pictures) == 9
    assert cosines[:3].mean() > cosines[-3:].mean()


def test_what_was_answered_is_not_asked_again(blobs):
    _, graph, truth = blobs
    members = dict.fromkeys(np.flatnonzero(truth == 2).tolist(), "cats")
    spans = np.where(truth == 2, 40, 0)
    groups = [q.group for q in asked([layer("m", truth)], {}, members, graph, truth, spans=spans)]
    assert 2 not in groups
    assert len([group for group in groups if group is not None]) == 5


def test_a_part_of_a_large_group_is_asked_although_the_whole_has_a_name(blobs):
    _, graph, truth = blobs
    whole = np.zeros(240, int)
    members = dict.fromkeys(range(240), "things")
    found = asked(
        [layer("m", whole), layer("fine", truth)],
        {},
        members,
        graph,
        whole,
        spans=np.full(240, 240),
    )
    assert {q.layer for q in found if q.group is not None} == {"fine"}
    assert found[0].guess == "things"


def test_pictures_between_two_names_are_asked(bridge):
    """With all groups named, what is left are the least sure pictures, no two of them alike."""
    graph, truth = bridge
    members = {i: f"n{group}" for i, group in enumerate(truth.tolist())}
    spans = np.full(90, 45)
    naming = spread(graph, {}, members, truth, spans=spans)
    first, *others = propose([layer("m", truth)], naming, graph, spans, count=5)
    assert {q.group for q in (first, *others)} == {None}
    picture = int(first.pictures[0])
    assert picture >= 80
    assert naming.probability[80:].mean() < naming.probability[:80].mean() - 0.1
    near = set(graph.indices[picture].tolist())
    assert not near & {int(q.pictures[0]) for q in others}
    again = spread(graph, {picture: "n0"}, members, truth, spans=spans)
    later = propose([layer("m", truth)], again, graph, spans, count=90)
    assert picture not in [int(q.pictures[0]) for q in later]


def test_questions_are_worth_more_than_pictures_at_random(blobs):
    """Twelve answers to what was proposed name more rightly than twelve about random pictures."""
    _, graph, truth = blobs
    rng = np.random.default_rng(1)
    by_chance = {int(i): f"n{truth[i]}" for i in rng.choice(240, 12, replace=False)}
    pictures: dict[int, str] = {}
    for _ in range(12):
        (question, *_) = propose([], spread(graph, pictures), graph)
        picture = int(question.pictures[0])
        pictures[picture] = f"n{truth[picture]}"

    def rightly(named):
        found = spread(graph, named)
        wanted = np.array([f"n{group}" for group in truth])
        return (np.array(found.names)[found.likeliest] == wanted)[found.named].sum()

    assert rightly(pictures) > rightly(by_chance)
