"""Copies: found however they were turned, cropped and saved; and nothing else is taken for one."""

import dataclasses
import hashlib
import importlib.util
import io
import itertools
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from zoo.collection import duplicates, matching
from zoo.collection.decisions import Decision, fold
from zoo.collection.duplicates import (
    Candidates,
    Verdicts,
    alike,
    best_first,
    numbered,
    preview,
    same_file,
    same_picture,
)
from zoo.collection.neighbours import Graph
from zoo.collection.store import Pictures

_BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def _load_copies():
    spec = importlib.util.spec_from_file_location("copies", _BENCHMARKS / "copies.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


copying = _load_copies()


class Folder:
    """Pictures by name, as a collection would have them."""

    def __init__(self, files):
        self.names = list(files)
        self.files = list(files.values())
        self.images = [copying.upright(io.BytesIO(data)) for data in self.files]
        self.decoded = []

    @property
    def pictures(self):
        count = len(self.files)
        return Pictures(
            rows=np.arange(count),
            paths=[f"/p/{name}" for name in self.names],
            members=[None] * count,
            hashes=[hashlib.sha256(data).hexdigest() for data in self.files],
            bytes=np.array([len(data) for data in self.files]),
            mtimes=np.arange(count),
            widths=np.array([image.width for image in self.images]),
            heights=np.array([image.height for image in self.images]),
            measures={},
        )

    def pixels(self, i, side):
        self.decoded.append(i)
        return self._squeezed(i, side)

    def _squeezed(self, i, side):
        return np.asarray(self.images[i].resize((side, side), Image.Resampling.BICUBIC))

    def small(self, positions):
        return np.stack([self._squeezed(i, 32) for i in positions])

    def found(self, **more):
        """The sets of the same picture, by name, each in the order in which it is kept."""
        found = same_picture(self.pictures, self.small, self.pixels, **more)
        return [tuple(self.names[i] for i in each.members) for each in found]


def png(image):
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def jpeg(image, quality=90):
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def photographs(*names, width=240):
    """Photographs that come with scikit-learn and scikit-image."""
    import skimage
    import sklearn

    folders = (
        Path(sklearn.__file__).parent / "datasets/images",
        Path(skimage.__file__).parent / "data",
    )
    for name in names:
        path = next(folder / name for folder in folders if (folder / name).exists())
        image = copying.upright(path)
        yield image.resize((width, round(image.height * width / image.width)))


@pytest.fixture(scope="module")
def photo():
    return next(photographs("china.jpg", width=160))


# -- what is the same picture --------------------------------------------------------------------


@pytest.fixture(scope="module")
def of_one(photo):
    """One photograph, all kinds of copies of it, and others: the names of those with the first."""
    others = photographs("flower.jpg", "chelsea.png", "coffee.png", "astronaut.png")
    files = {"original.png": png(photo)}
    files |= {f"{kind}{ending}": data for kind, ending, data in copying.copies(photo, seed=1)}
    files |= {f"other {i}.png": png(image) for i, image in enumerate(others)}
    sets = Folder(files).found()
    assert len(sets) == 1
    return {Path(name).stem for name in sets[0]}


KINDS = [kind for kind, _, _ in copying.copies(Image.new("RGB", (64, 64)))]


@pytest.mark.parametrize("kind", KINDS)
def test_every_copy_of_a_photograph_is_found(of_one, kind):
    assert kind in of_one


def test_and_nothing_else(of_one):
    assert of_one <= {"original", *KINDS}


def test_copies_of_many_photographs():
    images = list(photographs("flower.jpg", "chelsea.png", "coffee.png", "astronaut.png"))
    files = {}
    for number, image in enumerate(images):
        mirrored = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        files[f"{number}.png"] = png(image)
        files[f"{number} mirrored.jpg"] = jpeg(mirrored, 60)
        files[f"{number} cropped.jpg"] = jpeg(copying.cropped(image, {"top", "left"}))
    sets = Folder(files).found()
    assert sorted(map(sorted, sets)) == [
        [f"{i} cropped.jpg", f"{i} mirrored.jpg", f"{i}.png"] for i in range(4)
    ]


@pytest.mark.slow
def test_copies_of_tiny_and_grey_pictures(data_dir_of):
    faces = data_dir_of("olivetti_faces.npz")["images"].reshape(-1, 64, 64)[:60]
    faces = (faces.astype(np.float32) / faces.max() * 255).astype(np.uint8)
    files = {f"{i:02}.png": png(Image.fromarray(face)) for i, face in enumerate(faces)}
    for i in range(0, 60, 6):
        image = Image.fromarray(faces[i])
        files[f"{i:02} mirrored.jpg"] = jpeg(image.transpose(Image.Transpose.FLIP_LEFT_RIGHT), 80)
    sets = Folder(files).found()
    assert sorted(map(sorted, sets)) == [
        [f"{i:02} mirrored.jpg", f"{i:02}.png"] for i in range(0, 60, 6)
    ]


@pytest.fixture
def data_dir_of():
    import os

    def load(name):
        path = Path(os.environ.get("ZOO_DATA_DIR", "")) / name
        if not path.is_file():
            pytest.skip(f"needs {name} in ZOO_DATA_DIR")
        return np.load(path)

    return load


def test_fewer_colours_and_thumbnails(photo):
    few, thumbnail = io.BytesIO(), photo.resize((64, 42))
    photo.quantize(256).save(few, "GIF")
    files = {"a.png": png(photo), "b.gif": few.getvalue(), "c.png": png(thumbnail)}
    assert [set(each) for each in Folder(files).found()] == [set(files)]


# -- what is not ---------------------------------------------------------------------------------


def light(colour):
    """A traffic light, with one lamp on."""
    image = Image.new("RGB", (150, 300), (130, 130, 135))
    draw = ImageDraw.Draw(image)
    draw.rectangle((35, 20, 115, 280), fill=(30, 30, 32))
    for i, each in enumerate(("red", "yellow", "green")):
        lit = each if each == colour else (60, 60, 60)
        draw.ellipse((45, 30 + 82 * i, 105, 90 + 82 * i), fill=lit)
    return image


def letter(which):
    """b, or d as its mirror image."""
    image = Image.new("RGB", (128, 128), "white")
    draw = ImageDraw.Draw(image)
    draw.rectangle((36, 16, 48, 110), fill="black")
    draw.ellipse((40, 58, 92, 110), outline="black", width=12)
    return image if which == "b" else image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)


def arrow(turn):
    image = Image.new("RGB", (128, 128), "white")
    draw = ImageDraw.Draw(image)
    draw.polygon([(10, 64), (60, 14), (60, 44), (118, 44), (118, 84), (60, 84), (60, 114)], "navy")
    return image.rotate(90 * turn)


def outline(points):
    """A faint star of many points, which looks like a ring."""
    image = Image.new("RGB", (512, 512), "white")
    turns = np.linspace(0, 2 * np.pi, 2 * points, endpoint=False)
    radius = np.where(np.arange(2 * points) % 2, 231, 232)
    corners = np.stack([256 + radius * np.cos(turns), 256 + radius * np.sin(turns)], 1)
    outline = [tuple(each) for each in [*corners, corners[0]]]
    ImageDraw.Draw(image).line(outline, fill=(218, 218, 218), width=5)
    return image.resize((128, 128), Image.Resampling.LANCZOS)


DIFFERENT = {
    "outlines": [outline(31), outline(33), outline(41)],
    "traffic lights": [light("red"), light("green"), light("yellow")],
    "letters": [letter("b"), letter("d")],
    "arrows": [arrow(0), arrow(1), arrow(2)],
    "blank": [Image.new("RGB", (64, 64), "white"), Image.new("RGB", (80, 80), (253, 253, 253))],
}


@pytest.mark.parametrize("what", DIFFERENT)
def test_what_only_looks_alike(what):
    images = DIFFERENT[what]
    assert Folder({f"{i}.png": png(image) for i, image in enumerate(images)}).found() == []


@pytest.mark.parametrize("what", ["traffic lights", "letters", "arrows"])
def test_drawings_saved_again_are_the_same(what):
    first, second, *_ = DIFFERENT[what]
    smaller = copying.resized(first, 0.75)
    files = {"a.png": png(first), "b.png": png(second), "c.png": png(smaller), "d.jpg": jpeg(first)}
    assert [set(each) for each in Folder(files).found()] == [{"a.png", "c.png", "d.jpg"}]


def test_a_photograph_with_something_else_in_it(photo):
    changed = photo.copy()
    ImageDraw.Draw(changed).ellipse((66, 40, 82, 56), fill="red")
    assert Folder({"a.png": png(photo), "b.png": png(changed)}).found() == []


def test_a_photograph_in_other_colours(photo):
    red, green, blue = photo.split()
    other = Image.merge("RGB", (blue, green, red))
    assert Folder({"a.png": png(photo), "b.png": png(other)}).found() == []


# -- sets ----------------------------------------------------------------------------------------


@pytest.fixture
def three(photo):
    """A photograph at three sizes: a, b and c from the largest to the smallest."""
    return Folder(
        {
            "c.png": png(copying.resized(photo, 0.5)),
            "a.png": png(photo),
            "b.png": png(copying.resized(photo, 0.7)),
        }
    )


def test_the_largest_is_the_one_to_keep(three):
    assert three.found() == [("a.png", "b.png", "c.png")]


def test_no_chains(three):
    c, a, b = three.pictures.hashes
    verdicts = Verdicts()
    verdicts.put(a, b, True)
    verdicts.put(b, c, True)
    verdicts.put(a, c, False)
    assert three.found(verdicts=verdicts) == [("a.png", "b.png")]


def of_sizes(photo, count):
    """A photograph ``count`` times, the largest first."""
    return Folder({f"{i}.png": png(copying.resized(photo, 1 - 0.1 * i)) for i in range(count)})


def verdicts_of(folder, same):
    verdicts = Verdicts()
    for a, b in itertools.combinations(range(len(folder.names)), 2):
        verdicts.put(folder.pictures.hashes[a], folder.pictures.hashes[b], (a, b) in same)
    return verdicts


@pytest.mark.parametrize(
    ("same", "expected"),
    [
        ({(0, 1), (2, 3), (2, 4), (0, 2), (0, 3), (0, 4)}, ["01234"]),
        ({(0, 1), (2, 3), (2, 4), (0, 2), (0, 4)}, ["0124"]),  # 3 is left alone
        ({(0, 1), (2, 3), (2, 4), (0, 2), (3, 4)}, ["012", "34"]),
        ({(0, 1), (2, 3), (2, 4), (0, 3), (0, 4)}, ["01", "234"]),  # the first ones differ
    ],
)
def test_two_sets_that_are_alike_become_one_as_far_as_they_are_the_same(photo, same, expected):
    folder = of_sizes(photo, 5)
    pairs = np.array([[0, 1], [2, 3], [2, 4], [3, 4], [1, 3]])
    misfits = np.array([0.01, 0.02, 0.02, 0.03, 0.3], np.float16)
    candidates = Candidates(np.array(folder.pictures.hashes, "S16"), pairs, misfits)
    found = folder.found(verdicts=verdicts_of(folder, same), candidates=candidates)
    assert [tuple(f"{i}.png" for i in each) for each in expected] == found


def test_of_many_copies_of_drawings_that_are_alike_few_are_compared(monkeypatch):
    """Ten drawings that differ in a corner, six copies of each: pairs are many times as many."""
    files = {}
    for number in range(10):
        image = drawing_with_a_mark(number)
        files[f"{number}.png"] = png(image)
        for quality in (95, 90, 85, 80, 75):
            files[f"{number} {quality}.jpg"] = jpeg(image, quality)
    compared, compare = [], matching.compare
    monkeypatch.setattr(matching, "compare", lambda *a: compared.append(1) or compare(*a))
    candidates = Candidates()
    found = Folder(files).found(candidates=candidates)
    drawings = [{name[0] for name in each} for each in found]
    assert sorted("".join(each) for each in drawings) == list("0123456789")
    assert sum(map(len, found)) == 60
    assert len(candidates.pairs) > 400
    assert len(compared) < 150


def drawing_with_a_mark(number):
    image = Image.new("RGB", (160, 160), "white")
    draw = ImageDraw.Draw(image)
    draw.rectangle((10, 10, 150, 100), fill="navy")
    draw.ellipse((40, 30, 90, 80), fill="orange")
    draw.rectangle((12 + 13 * number, 120, 24 + 13 * number, 140), fill="darkgreen")
    return image


def test_a_picture_that_lies_as_it_did_is_not_moved(photo, monkeypatch):
    folder = Folder({"a.png": png(photo), "b.jpg": jpeg(photo, 60)})
    monkeypatch.setattr(matching, "_follow", lambda *a: pytest.fail("it lies there already"))
    assert folder.found() == [("a.png", "b.jpg")]


def test_not_a_duplicate(three):
    c, a, b = three.pictures.hashes
    state = fold([Decision("not_duplicate", (b, c))])
    assert three.found(state=state) == [("a.png", "b.png")]
    state = fold([Decision("not_duplicate", (a, c)), Decision("not_duplicate", (a, b))])
    assert three.found(state=state) == [("b.png", "c.png")]


def test_keep_both(three):
    state = fold([Decision("keep_both", tuple(three.pictures.hashes))])
    (found,) = same_picture(three.pictures, three.small, three.pixels, state=state)
    assert found.kept
    assert not same_picture(three.pictures, three.small, three.pixels)[0].kept


def test_what_was_compared_is_kept(three, tmp_path):
    verdicts = Verdicts()
    first = three.found(verdicts=verdicts)
    assert verdicts.new == len(verdicts.same) > 0
    verdicts.save(tmp_path)
    three.decoded.clear()
    assert three.found(verdicts=Verdicts.load(tmp_path)) == first
    assert three.decoded == []
    (tmp_path / Verdicts.FILE).write_bytes(b"nonsense")
    assert Verdicts.load(tmp_path) == Verdicts()


def test_what_is_to_be_compared_is_kept(three, tmp_path):
    candidates = Candidates()
    first = three.found(candidates=candidates)
    candidates.save(tmp_path)
    known = Candidates.load(tmp_path)
    assert known.pairs.tolist() == candidates.pairs.tolist() != []
    three.small = lambda positions: pytest.fail("they are known")
    assert three.found(candidates=known, verdicts=all_same(three)) == first


def arrays_of(candidates):
    return {name: getattr(candidates, name) for name in ("contents", "pairs", "misfits")}


@pytest.mark.parametrize(
    "change",
    [
        {"contents": np.array([b"a", b"b"], "S16")},  # the pairs have numbers up to 2
        {"contents": np.arange(3)},
        {"pairs": np.array([[-1, 0], [0, 1], [0, 2]])},
        {"pairs": np.zeros((3, 2))},
        {"misfits": np.zeros(2, np.float16)},
        {"misfits": np.float16(0)},
        {"misfits": None},
        {"version": 2},
    ],
)
def test_candidates_that_are_not_whole_are_found_anew(three, tmp_path, change):
    candidates = Candidates()
    three.found(candidates=candidates)
    whole = {**arrays_of(candidates), "version": Candidates.VERSION}
    assert len(candidates.pairs) == 3
    changed = {key: value for key, value in (whole | change).items() if value is not None}
    np.savez(tmp_path / Candidates.FILE, **changed)
    assert not len(Candidates.load(tmp_path).contents)
    (tmp_path / Candidates.FILE).write_bytes(b"nonsense")
    assert not len(Candidates.load(tmp_path).contents)


def test_candidates_of_new_pictures_are_added_to_those_that_are_known(photo, monkeypatch):
    """Of very many; where a few are gone, or most are new, too."""
    monkeypatch.setattr(matching, "EXACT", 5)
    monkeypatch.setattr(matching, "_index", flat_index)
    images = {"photo": photo} | dict(zip("abcd", photographs(
        "flower.jpg", "chelsea.png", "coffee.png", "astronaut.png"), strict=True))  # fmt: skip
    files = {f"{name}.png": png(image) for name, image in images.items()}
    files |= {f"{name}.jpg": jpeg(image, 80) for name, image in images.items()}
    names = sorted(files)
    first, second = names[:8], [*names[1:8], "photo.png"]
    asked, found = [], matching._found
    monkeypatch.setattr(
        matching, "_found", lambda i, a, new, k: asked.append(new.tolist()) or found(i, a, new, k)
    )
    candidates = Candidates()
    for chosen in (first, second, names[::-1]):
        folder = Folder({name: files[name] for name in chosen})
        anew = Folder({name: files[name] for name in chosen}).found()
        assert folder.found(candidates=candidates) == anew
        assert set(candidates.contents.tolist()) == {
            h[:16].encode() for h in folder.pictures.hashes
        }
    by_run = asked[1::2]
    assert by_run[0] == [True] * 8
    assert by_run[1] == [False] * 7 + [True]
    assert by_run[2] == [name not in second for name in names[::-1]]


def flat_index(described):
    import faiss

    index = faiss.IndexFlatL2(matching._sought(described[:1], len(described)).shape[1])
    index.add(matching._sought(described, len(described)))
    return index


def all_same(folder):
    """Verdicts by which nothing has to be compared."""
    verdicts = Verdicts()
    for pair in itertools.combinations(folder.pictures.hashes, 2):
        verdicts.put(*pair, True)
    return verdicts


def test_a_file_that_is_gone_is_counted(three):
    verdicts = Verdicts()
    three.pixels = lambda i, side: None if i == 0 else Folder.pixels(three, i, side)
    assert three.found(verdicts=verdicts) == [("a.png", "b.png")]
    assert verdicts.unread == {three.pictures.hashes[0]}
    assert set(verdicts.same.values()) == {True}  # nothing is said of what was not compared


def test_files_of_one_content_are_in_the_set_of_their_picture(three):
    folder = Folder({**dict(zip(three.names, three.files, strict=True)), "a2.png": three.files[1]})
    assert folder.found() == [("a.png", "a2.png", "b.png", "c.png")]
    (same,) = same_file(folder.pictures)
    assert [folder.names[i] for i in same.members] == ["a.png", "a2.png"]
    assert numbered([same], 4).tolist() == [0, 1, 0, 1]
    kept = fold([Decision("keep_both", (folder.pictures.hashes[1],))])
    assert same_file(folder.pictures, kept)[0].kept
    larger = fold([Decision("keep_both", tuple(set(folder.pictures.hashes)))])
    assert not same_file(folder.pictures, larger)[0].kept


def test_neighbours_by_features_are_candidates_too(three, monkeypatch):
    monkeypatch.setattr(matching, "_ASKED", matching._ASKED[:1])
    seen = []
    monkeypatch.setattr(matching, "candidates", lambda *a, more, new: seen.extend(more) or seen[0])
    graph = Graph(np.array([[1], [2], [0]], np.int32), np.ones((3, 1), np.float32))
    assert three.found(graph=graph) == [("a.png", "b.png", "c.png")]
    assert seen[0].tolist() == [[0, 1], [0, 2], [1, 2]]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"widths": [5, 4]}, "the largest: 5 x 3 pixels"),
        ({"bytes": [2000, 1000]}, "of the largest the least compressed: 2,000 bytes"),
        ({"mtimes": [1, 2]}, "otherwise equal, and the oldest"),
        ({}, "all are equal; the first by its path"),
    ],
)
def test_the_one_to_keep_and_why(change, why):
    equal = {"widths": [4, 4], "heights": [3, 3], "bytes": [9, 9], "mtimes": [7, 7]}
    arrays = {name: np.array(values) for name, values in (equal | change).items()}
    pictures = Pictures(
        rows=np.arange(2), paths=["/a", "/b"], members=[None] * 2, hashes=["0", "1"], measures={},
        **arrays,
    )  # fmt: skip
    assert best_first([1, 0], pictures) == ([0, 1], why)
    turned = {name: values[::-1] for name, values in arrays.items()}
    if change:
        assert best_first([1, 0], dataclasses.replace(pictures, **turned)) == ([1, 0], why)


# -- orientations, descriptions ------------------------------------------------------------------


@pytest.fixture(scope="module")
def noise():
    return np.random.default_rng(0).integers(0, 256, (300, 32, 32, 3), np.uint8)


@pytest.mark.parametrize("orientation", range(8))
def test_turning_is_known_of_descriptions(noise, orientation):
    turned = matching.turned(noise[:4], orientation)
    waves = matching.cosines(noise[:4])[:, 0, 0]
    other = matching.cosines(turned)[:, 0, 0]
    np.testing.assert_allclose(other, matching._turned_waves(waves, orientation), atol=1e-3)
    np.testing.assert_allclose(matching._unturned(other), matching._unturned(waves), atol=1e-3)
    back = matching.turned(turned, matching._inverse(orientation))
    np.testing.assert_array_equal(back, noise[:4])


def test_candidates_are_few_and_have_each_turned_copy(noise, monkeypatch):
    turned = np.stack([matching.turned(noise[i], i % 8) for i in range(300)])
    both = np.concatenate([noise, turned])
    pairs = matching.candidates(lambda rows: both[rows], 600)
    monkeypatch.setattr(matching, "EXACT", 100)
    monkeypatch.setattr(matching, "_SCANNED", 300)
    monkeypatch.setattr(matching, "_SEARCHED", 200)
    by_cells = matching.candidates(lambda rows: both[rows], 600)
    wanted = {(i, i + 300) for i in range(300)}
    assert wanted <= set(map(tuple, pairs.tolist()))
    assert wanted <= set(map(tuple, by_cells.tolist()))
    assert len(pairs) <= 600 * 20
    fits = matching.fit_small(lambda rows: both[rows], np.array(sorted(wanted)))
    found = [matching._inverse(int(each)) for each in fits.misfit.argmin(1)]
    assert found == [i % 8 for i in range(300)]


# -- alike ---------------------------------------------------------------------------------------


@pytest.fixture
def line():
    """Five pictures in a row, each like the next one, and less so."""
    folder = Folder({f"{i}.png": png(Image.new("RGB", (9 - i, 9))) for i in range(5)})
    indices = np.array([[1, 2], [0, 2], [1, 3], [2, 4], [3, 2]], np.int32)
    similarities = np.array([[0.99, 0.6], [0.99, 0.97], [0.97, 0.9], [0.9, 0.8], [0.8, 0.5]])
    return folder, Graph(indices, similarities.astype(np.float32))


def test_alike_by_a_threshold(line):
    folder, graph = line
    found = alike(graph, folder.pictures, 0.95)
    assert [each.members for each in found] == [(0, 1)]  # 2 is like 1, and not like 0
    assert alike(graph, folder.pictures, 0.995) == []
    state = fold([Decision("not_duplicate", tuple(folder.pictures.hashes[:2]))])
    assert [e.members for e in alike(graph, folder.pictures, 0.95, state=state)] == []


def test_what_is_known_to_be_the_same_is_one(line):
    folder, graph = line
    known = [duplicates.Set("same_picture", (0, 1), "")]
    assert [each.members for each in alike(graph, folder.pictures, 0.95, known)] == [(0, 2)]


def test_a_preview_of_thresholds(line):
    folder, graph = line
    rows = preview(graph, folder.pictures, thresholds=(0.7, 0.95, 0.98, 1))
    assert [row["pictures"] for row in rows] == [4, 2, 2, 0]
    assert [row["sets"] for row in rows] == [2, 1, 1, 0]
    for row in rows:
        sets = alike(graph, folder.pictures, row["threshold"])
        assert row["extra"] == sum(len(each.members) - 1 for each in sets)
