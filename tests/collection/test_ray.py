"""Many machines: the folder is the same, whoever computed it, and whichever machine was lost."""

import contextlib
import importlib.util
import shutil
import sys
import time
import zipfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

import zoo
from zoo.cli import main
from zoo.collection import ray as engine
from zoo.collection.known import Contents
from zoo.collection.store import COLUMNS, Store
from zoo.errors import CollectionError, InputError

MODEL = "pca.mnist"
PATIENCE = 60
"""Seconds in which a node of a real cluster has to be there, whatever else runs."""


@pytest.fixture
def pictures(tmp_path):
    """Pictures, copies, what is none, and an archive."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "in"
    folder.mkdir()
    for i in range(60):
        pixels = rng.integers(0, 256, (28, 28), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{i:03}.png")
    shutil.copy(folder / "003.png", folder / "copy.png")
    (folder / "bad.png").write_bytes(b"junk")
    (folder / "empty.png").write_bytes(b"")
    with zipfile.ZipFile(folder / "some.zip", "w") as archive:
        archive.write(folder / "004.png", "again.png")
        archive.write(folder / "bad.png", "worse.png")
        archive.writestr("cut.png", (folder / "005.png").read_bytes()[:200])
    return folder


def assert_same(one, other):
    """Two folders have the same rows; vectors may differ by how many were computed at once."""
    one, other = Store.open(one), Store.open(other)
    assert one.manifest.model == other.manifest.model
    assert one.manifest.shards == other.manifest.shards
    assert one.tables(COLUMNS).equals(other.tables(COLUMNS))
    everything = slice(None)
    np.testing.assert_array_equal(one.small(everything), other.small(everything))
    np.testing.assert_allclose(
        one.features(everything), other.features(everything), rtol=2e-3, atol=2e-3
    )


class Actor:
    """Stands for a process of a cluster."""

    def __init__(self, ray, arguments):
        self.ray, self.embed, self.lost = ray, engine.Embed(*arguments), False
        self.look = SimpleNamespace(remote=lambda entries: (self, tuple(entries)))
        self.ready = SimpleNamespace(remote=lambda: (self, None))


class InProcess:
    """Stands for Ray: two processes, of which the second is lost at its second task."""

    exceptions = SimpleNamespace(
        RayActorError=type("RayActorError", (Exception,), {}),
        ObjectLostError=type("ObjectLostError", (Exception,), {}),
        RayTaskError=type("RayTaskError", (Exception,), {}),
    )

    def __init__(self, last=(None, 1)):
        self.last, self.made, self.done, self.ended = last, [], [], []

    def is_initialized(self):
        return True

    def cluster_resources(self):
        return {"CPU": 2.0}

    def put(self, value):
        return value

    def remote(self, kind):
        def make(*arguments):
            self.made.append(Actor(self, arguments))
            return self.made[-1]

        return SimpleNamespace(options=lambda **options: SimpleNamespace(remote=make))

    def wait(self, results, num_returns, timeout):
        return [each for each in results if each[1] is None], results

    def get(self, result):
        actor, entries = result
        number = self.made.index(actor)
        last = self.last[number % len(self.last)]
        if entries is None and last != 0:
            return actor.embed.ready()
        if last is not None and self.done.count(number) >= last:
            raise self.exceptions.RayActorError("the node died")
        self.done.append(number)
        return actor.embed.look(list(entries))

    def kill(self, actor):
        self.ended.append(actor)


@pytest.fixture
def in_process(monkeypatch):
    def use(ray):
        monkeypatch.setitem(sys.modules, "ray", ray)
        monkeypatch.setattr(engine, "FILES", 8)
        return ray

    return use


def test_the_folder_is_the_same_though_a_process_was_lost(pictures, tmp_path, in_process):
    ray = in_process(InProcess())
    zoo.Collection.index(MODEL, [pictures], tmp_path / "one")
    made = zoo.Collection.index(MODEL, [pictures], tmp_path / "many", engine="ray")
    assert_same(tmp_path / "one", tmp_path / "many")
    assert (made.report.computed, made.report.copied, made.report.unread) == (60, 2, 4)
    assert ray.done.count(1) == 1
    assert ray.done.count(0) >= 7
    assert ray.ended == ray.made[:1]


def test_collections_of_both_engines_are_merged(pictures, tmp_path, in_process):
    late = tmp_path / "late"
    late.mkdir()
    for i in range(20, 40):
        (pictures / f"{i:03}.png").rename(late / f"{i:03}.png")
    in_process(InProcess((None, None)))
    zoo.Collection.index(MODEL, [pictures], tmp_path / "a", engine="ray")
    zoo.Collection.index(MODEL, [late], tmp_path / "b")
    zoo.Collection.index(MODEL, [pictures, late], tmp_path / "whole")
    merged = zoo.Collection.merge([tmp_path / "a", tmp_path / "b"], tmp_path / "c")
    whole = zoo.Collection(tmp_path / "whole")
    rows = [dict(zip(each.pictures().paths, each.pictures().hashes, strict=True))
            for each in (merged, whole)]  # fmt: skip
    assert rows[0] == rows[1]
    assert sorted(merged.unread()) == sorted(whole.unread())
    assert zoo.Collection.index(None, [], tmp_path / "c").report.computed == 0


def test_engines_go_on_with_each_others_work(pictures, tmp_path, in_process):
    late = tmp_path / "late"
    late.mkdir()
    for i in range(20, 40):
        (pictures / f"{i:03}.png").rename(late / f"{i:03}.png")
    for name, order in (("a", ("local", "ray")), ("b", ("ray", "local"))):
        for by, sources in zip(order, ([pictures], [pictures, late]), strict=True):
            in_process(InProcess((None, None)))
            made = zoo.Collection.index(MODEL, sources, tmp_path / name, engine=by)
        assert made.report.computed == 20
        assert made.report.kept == 42
    assert_same(tmp_path / "a", tmp_path / "b")
    # What was only moved is known, and no process decodes it.
    (late / "020.png").rename(late / "moved.png")
    in_process(InProcess((None, None)))
    saw = []
    look = engine.Embed.look
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine.Embed, "look", lambda *a: saw.extend(found := look(*a)) or found)
        made = zoo.Collection.index(None, [], tmp_path / "a", engine="ray")
    assert (made.report.moved, made.report.computed) == (1, 0)
    assert [each.decoded for batch in saw for each in batch.seen if not each.reason] == [False]


def test_when_all_are_lost_it_says_so_and_goes_on_later(pictures, tmp_path, in_process):
    in_process(InProcess((2, 1)))
    with pytest.raises(CollectionError, match="no machine of the cluster is left: the node died"):
        zoo.Collection.index(MODEL, [pictures], tmp_path / "many", engine="ray")
    zoo.Collection.index(MODEL, [pictures], tmp_path / "many")
    zoo.Collection.index(MODEL, [pictures], tmp_path / "one")
    assert_same(tmp_path / "one", tmp_path / "many")


def test_a_machine_that_is_lost_while_it_starts_is_done_without(pictures, tmp_path, in_process):
    ray = in_process(InProcess((0, None)))
    zoo.Collection.index(MODEL, [pictures], tmp_path / "one")
    zoo.Collection.index(MODEL, [pictures], tmp_path / "many", engine="ray")
    assert_same(tmp_path / "one", tmp_path / "many")
    assert {*ray.done} == {1}
    in_process(InProcess((0, 0)))
    with pytest.raises(CollectionError, match="no machine of the cluster is left"):
        zoo.Collection.index(MODEL, [pictures], tmp_path / "none", engine="ray")


def test_pictures_of_a_store_are_fetched_by_the_processes(
    pictures, tmp_path, in_process, monkeypatch
):
    fsspec = pytest.importorskip("fsspec")
    store = fsspec.filesystem("memory", skip_instance_cache=True)
    monkeypatch.setattr(store, "store", {})
    monkeypatch.setattr(store, "pseudo_dirs", [""])
    monkeypatch.setattr("zoo.collection.remote._store", lambda protocol: store)
    for path in pictures.iterdir():
        store.pipe(f"/bucket/{path.name}", path.read_bytes())
    in_process(InProcess())
    zoo.Collection.index(MODEL, ["gs://bucket"], tmp_path / "one")
    made = zoo.Collection.index(MODEL, ["gs://bucket"], tmp_path / "many", engine="ray")
    assert_same(tmp_path / "one", tmp_path / "many")
    assert (made.report.computed, made.report.copied, made.report.unread) == (60, 2, 4)
    found = engine.Embed(MODEL)({"path": ["gs://bucket/000.png", "gs://bucket/none.png"]})
    assert found["reason"][0] == ""
    assert "nothing by that name" in found["reason"][1]


def test_other_weights_on_a_machine_are_refused():
    embed = engine.Embed(MODEL, expected={"sha256": "0" * 64})
    with pytest.raises(CollectionError, match="on one machine of the cluster"):
        embed.look([engine._entry("none.png")])


def test_a_batch_of_paths_becomes_columns(pictures):
    paths = [pictures / "000.png", pictures / "bad.png", pictures / "none.png"]
    found = engine.Embed(MODEL)({"path": np.array([*map(str, paths)], object)})
    assert found["reason"][0] == ""
    assert "not a picture" in found["reason"][1]
    assert found["reason"][2] == "there is no such file"
    expected = zoo.Collection.index(MODEL, paths[:1], pictures.parent / "c").features()
    np.testing.assert_allclose(found["features"][:1], expected, rtol=2e-3, atol=2e-3)
    assert np.isnan(found["features"][1:]).all()
    assert found["small"].shape == (3, 32, 32, 3)
    assert found["width"][0] == 28


def test_known_contents_are_found_among_all():
    contents = Contents()
    digests = [bytes([i]) * 31 + b"\0" for i in range(1, 9)]
    for row, digest in enumerate(digests):
        contents.add(digest, row)
    embed = engine.Embed(MODEL, known=contents.digests())
    assert [*map(embed._is_known, digests)] == [True] * 8
    assert not embed._is_known(b"\xff" * 32)
    assert not engine.Embed(MODEL)._is_known(digests[0])


def test_without_ray_the_command_that_installs_it(pictures, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    out = tmp_path / "c"
    arguments = ["index", MODEL, str(pictures), "--out", str(out), "--engine", "ray"]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 2
    assert "pip install 'latentzoo[ray]'" in result.stderr
    assert not out.exists()


def test_the_benchmark_of_both_engines(tmp_path, in_process):
    in_process(InProcess((None, None)))
    script = Path(__file__).parents[2] / "benchmarks" / "indexing.py"
    spec = importlib.util.spec_from_file_location("benchmark_of_indexing", script)
    benchmark = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(benchmark)
    said = benchmark.engines(tmp_path, 20, "simclr.cifar10")
    assert said["pictures"] == 20
    assert said["ray_per_second"] > 0
    assert said["ratio"] == pytest.approx(
        said["ray_per_second"] / said["local_per_second"], rel=0.05
    )
    assert said["farthest_features"] < 2e-3


@pytest.mark.parametrize(
    "address", ["127.0.0.1:1", "ray://127.0.0.1:1", "no-such-host.invalid:6379"]
)
def test_no_cluster_is_at_an_address(address, in_process, pictures, tmp_path, monkeypatch):
    asked = []
    ray = InProcess()
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    ray.init = lambda *address, **options: asked.append(address)
    in_process(ray)
    with pytest.raises(CollectionError, match=f"no Ray cluster at {address}: .*ray status"):
        zoo.Collection.index(MODEL, [pictures], tmp_path / "c", engine="ray", address=address)
    assert not asked, "Ray itself would have tried for minutes"


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_collection_is_computed_in_its_precision(precision, pictures, in_process, tmp_path):
    model = zoo.load(MODEL)
    model._precision = precision  # also where the processor would be slow
    ray = InProcess((None,))
    in_process(ray)
    zoo.Collection.index(model, [pictures], tmp_path / "c", engine="ray")
    computed = {actor.embed._pipeline.call.__self__._precision for actor in ray.made}
    assert computed == {precision}


def test_an_address_needs_the_engine(pictures, tmp_path):
    with pytest.raises(InputError, match="--engine ray"):
        zoo.Collection.index(MODEL, [pictures], tmp_path / "c", address="127.0.0.1:1")


@pytest.fixture
def nodes(monkeypatch):
    """A cluster of two nodes with a processor each, and how to kill the second."""
    ray = pytest.importorskip("ray", reason="needs pip install 'latentzoo[ray]'")
    from ray._private import services
    from ray.cluster_utils import Cluster

    # Other tests have the processors meanwhile: nodes wait for their parts, and so do we for a
    # node, which Ray expects within 30 seconds.
    for name, value in engine.ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    for name in ("agent_register", "health_check"):
        monkeypatch.setenv(f"RAY_{name}_timeout_ms", str(1000 * PATIENCE))
    find = services.get_node
    monkeypatch.setattr(services, "get_node", lambda *where: patiently(find, *where))
    node = {"num_cpus": 1, "object_store_memory": 100_000_000, "include_log_monitor": False}
    head = {**node, "include_dashboard": False, "no_monitor": True}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    try:
        second = cluster.add_node(**node)
        cluster.wait_for_nodes(PATIENCE)
        yield cluster.address, lambda: switch_off(cluster, second)
    finally:
        ray.shutdown()
        cluster.shutdown()


def switch_off(cluster, node):
    """A node and its processes end at once; without their node, they go on for a while."""
    import psutil  # ray has it

    (raylet,) = node.all_processes["raylet"]
    for process in psutil.Process(raylet.process.pid).children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    cluster.remove_node(node, allow_graceful=False)


def patiently(find, *where):
    end = time.monotonic() + PATIENCE
    while True:
        try:
            return find(*where)
        except RuntimeError:
            if time.monotonic() > end:
                raise
            time.sleep(0.2)


@pytest.mark.slow
def test_a_node_of_a_real_cluster_is_killed(pictures, tmp_path, monkeypatch, nodes):
    import ray

    address, kill = nodes
    monkeypatch.setattr(engine, "FILES", 4)
    killed, again = [], []
    give_again = engine._Crew._again

    def progress(done, total):
        if done >= 4 and not killed:
            killed.append(done)
            kill()

    def counted(crew, lost):
        again.append(lost)
        give_again(crew, lost)

    monkeypatch.setattr(engine._Crew, "_again", counted)
    # The model is there on both before the first picture is looked at: the second has work.
    monkeypatch.setattr(engine._Crew, "_admit", all_join)
    zoo.Collection.index(
        MODEL, [pictures], tmp_path / "many", engine="ray", address=address, progress=progress
    )
    assert killed[0] < 60
    assert len(again) == 1
    assert not ray.is_initialized()
    zoo.Collection.index(MODEL, [pictures], tmp_path / "one")
    assert_same(tmp_path / "one", tmp_path / "many")
    merged = zoo.Collection.merge([tmp_path / "many", tmp_path / "one"], tmp_path / "merged")
    assert_same(tmp_path / "many", tmp_path / "merged")
    assert merged.merged.taken == [len(merged.store), 0]


def all_join(crew):
    for result in [*crew.starting]:
        crew.ray.get(result)
        crew.actors.append(crew.starting.pop(result))
