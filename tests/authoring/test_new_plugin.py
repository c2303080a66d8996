"""``zoo new-plugin``: what it writes is right as it is, from its tests to a published wheel."""

import functools
import http.server
import json
import os
import re
import subprocess
import sys
import threading
import zipfile
from pathlib import Path

import pytest
from click.testing import CliRunner
from PIL import Image

from zoo.authoring import scaffold
from zoo.authoring.scaffold import new_plugin
from zoo.cli import main
from zoo.errors import InputError, InvalidName, MissingDependency, PluginError
from zoo.sample import sample

TREE = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("name", "model"),
    [
        ("mine", "mine"),
        ("latentzoo-mine", "mine"),
        ("my-own", "my_own"),
        ("my_own2", "my_own2"),
        ("latentzoo_my.own", "my_own"),
        ("a", "a"),
        ("x" * 30, "x" * 30),
    ],
)
def test_names(name, model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = new_plugin(name)
    distribution = f"latentzoo-{model.replace('_', '-')}"
    assert folder == Path(distribution)
    project = (folder / "pyproject.toml").read_text("utf-8")
    assert f'name = "{distribution}"' in project
    assert f'[project.entry-points.zoo]\n{model} = "zoo_{model}"' in project
    assert (folder / "src" / f"zoo_{model}" / "model.py").is_file()
    left = [path for path in folder.rglob("*") if "{{" in path.name or path.suffix == ".jinja"]
    assert not left
    assert [path.name for path in tmp_path.iterdir()] == [distribution], "nothing beside it"
    for command in (["check"], ["format", "--check"]):
        ruff = [sys.executable, "-m", "ruff", *command, "--no-cache", "."]
        done = subprocess.run(ruff, cwd=folder, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("Mine", "mine"),
        ("my model", "my-model"),
        ("", "my-model"),
        ("latentzoo-", "my-model"),
        ("../mine", "mine"),
        ("/tmp/mine", "tmp-mine"),
        ("2d", "d"),
        ("mäh", "m-h"),
        ("class", "my-class"),
        ("y" * 31, "y" * 30),
        ("{{ 7 * 7 }}", "my-model"),
        ("mine\x1b[2J", "mine-2j"),
        ("latentzoo-ae", "my-ae"),
        ("dcgan", "my-dcgan"),
    ],
)
def test_refused_names(name, hint, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shown = CliRunner().invoke(main, ["new-plugin", name])
    assert shown.exit_code == 2
    assert f"Try: zoo new-plugin {hint}\n" in shown.stderr
    assert "\x1b" not in shown.stderr
    assert not list(tmp_path.iterdir())


def test_the_hint_of_a_refused_name_is_taken(tmp_path):
    for name in ("My Own!", "class", "9", "latentzoo-ae", "zoo"):
        with pytest.raises(InvalidName) as caught:
            new_plugin(name, tmp_path / "refused")
        hint = str(caught.value).splitlines()[-1].removeprefix("Try: zoo new-plugin ")
        folder = new_plugin(hint, tmp_path / name)
        assert (folder / "pyproject.toml").is_file()


def test_only_new_or_empty_folders(tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("years of work")
    (tmp_path / "file").write_text("")
    for taken in ("full", "file"):
        with pytest.raises(PluginError, match="is not an empty folder, so nothing was written"):
            new_plugin("mine", tmp_path / taken)
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["thesis.txt"]
    (tmp_path / "empty").mkdir()
    shown = CliRunner().invoke(main, ["new-plugin", "mine", "--out", str(tmp_path / "empty")])
    assert shown.exit_code == 0
    assert f"pip install --editable {tmp_path / 'empty'}\n" in shown.output
    assert (tmp_path / "empty" / "pyproject.toml").is_file()
    with pytest.raises(PluginError, match="cannot be written: Not a directory"):
        new_plugin("mine", tmp_path / "file" / "below")


def test_nothing_of_a_template_is_run(tmp_path, monkeypatch):
    """Nor would it be if somebody changed ours."""
    template = tmp_path / "template"
    template.mkdir()
    ran = tmp_path / "ran"
    (template / "copier.yml").write_text(
        "distribution: {type: str}\n"
        "_templates_suffix: .jinja\n"
        f"_tasks: ['touch {ran}']\n"
        f"_migrations: [{{version: v1, command: 'touch {ran}'}}]\n"
    )
    (template / "file.txt.jinja").write_text("{{ distribution }}")
    monkeypatch.setattr(scaffold, "TEMPLATE", template)
    folder = new_plugin("mine", tmp_path / "mine")
    assert (folder / "file.txt").read_text() == "latentzoo-mine"
    assert not ran.exists()


def test_without_copier(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "copier", None)
    with pytest.raises(MissingDependency, match=r"Type: pip install 'latentzoo\[plugin\]'"):
        new_plugin("mine", tmp_path / "mine")
    assert not list(tmp_path.iterdir())


def test_it_needs_no_torch(tmp_path):
    script = (
        "import sys; from zoo.cli import main\n"
        "main(['new-plugin', 'mine', '--out', sys.argv[1]], standalone_mode=False)\n"
        "print([name for name in ('torch', 'timm', 'huggingface_hub') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, tmp_path / "mine"], capture_output=True, text=True
    )
    assert done.stdout.splitlines()[-1] == "[]", done.stdout + done.stderr


def as_if_installed(folder: Path, name: str) -> dict[str, str]:
    """The environment of a process that has the plugin."""
    info = folder / "src" / f"latentzoo_{name}-0.1.0.dist-info"
    info.mkdir()
    (info / "entry_points.txt").write_text(f"[zoo]\n{name} = zoo_{name}\n")
    (info / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: latentzoo-{name}\nVersion: 0.1.0\n"
    )
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder / "src"), *sys.path])}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "calls"),
    [
        ("autoencoder", ["encode", "decode", "reconstruct", "generate", "features", "score"]),
        ("generator", ["generate"]),
        ("features", ["encode", "features"]),
    ],
)
def test_each_kind(kind, calls, preloaded, tmp_path):
    """Its own tests, ``zoo check``, and a short training whose weights are checked as well."""
    folder = tmp_path / "mine"
    made = CliRunner().invoke(main, ["new-plugin", "mine", "--kind", kind, "--out", str(folder)])
    assert made.exit_code == 0, made.output
    assert not (folder / "kinds").exists()
    env = as_if_installed(folder, "mine")

    def run(*command: str) -> str:
        done = preloaded.run("-m", *command, cwd=tmp_path, env=env)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    tested = run("pytest", "-q", "-p", "no:cacheprovider", str(folder)).splitlines()[-1]
    assert " passed" in tested
    assert json.loads(run("zoo.cli", "info", "mine", "--json"))["capabilities"] == calls
    assert json.loads(run("zoo.cli", "check", "latentzoo-mine", "--json"))["well"]

    (tmp_path / "pictures").mkdir()
    for i, pixels in enumerate(sample()[0][:64]):
        Image.fromarray(pixels).save(tmp_path / "pictures" / f"{i}.png")
    run(
        *("zoo.cli", "train", "mine", "--data", "pictures", "--out", "run", "--device", "cpu"),
        *("--recipe", str(folder / "recipes" / "quick.toml")),
    )
    checked = json.loads(run("zoo.cli", "check", "local-dir:run", "--json"))
    assert checked["well"]
    assert {"check_vectors"} <= {r["check"] for r in checked["results"] if r["state"] == "passed"}


@pytest.mark.parametrize("kind", scaffold.KINDS)
def test_the_longest_name_of_each_kind(kind, tmp_path):
    """No line gets too long, nor is another one too short."""
    for name in ("a", "x" * 30):
        folder = new_plugin(name, tmp_path / name, kind=kind)
        for command in (["check"], ["format", "--check"]):
            ruff = [sys.executable, "-m", "ruff", *command, "--no-cache", "."]
            done = subprocess.run(ruff, cwd=folder, capture_output=True, text=True)
            assert done.returncode == 0, done.stdout + done.stderr


def test_kinds_that_there_are_not(tmp_path):
    with pytest.raises(InputError, match=r"\(autoencoder, generator, features\), got 'gan'"):
        new_plugin("mine", tmp_path / "mine", kind="gan")
    shown = CliRunner().invoke(main, ["new-plugin", "mine", "--kind", "gan"])
    assert shown.exit_code == 2
    assert "'autoencoder', 'generator', 'features'" in shown.stderr
    assert not list(tmp_path.iterdir())


@pytest.fixture
def index(tmp_path):
    """``index(*wheels)``: the address of a package index that has them, as pip understands it."""
    root = tmp_path / "index"
    servers = []

    def serve(*wheels: Path) -> str:
        for wheel in wheels:
            project = re.sub(r"[-_.]+", "-", wheel.name.split("-")[0]).lower()
            page = root / "simple" / project
            page.mkdir(parents=True)
            (page / wheel.name).write_bytes(wheel.read_bytes())
            link = f'<a href="{wheel.name}">{wheel.name}</a>'
            (page / "index.html").write_text(f"<!DOCTYPE html><html><body>{link}</body></html>")
        handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=root)
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        servers.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{server.server_port}/simple"

    yield serve
    for server in servers:
        server.shutdown()
        server.server_close()


def install(env, url: str, *requirements: str) -> None:
    """By pip, from that index alone."""
    environ = {k: v for k, v in os.environ.items() if not k.startswith(("PIP_", "ZOO_"))}
    done = subprocess.run(
        [sys.executable, "-m", "pip", "--python", str(env.python), "--isolated", "install",
         "--disable-pip-version-check", "--no-cache-dir", "--index-url", url, *requirements],
        cwd=env.folder, env=environ, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
def test_from_nothing_to_weights_that_others_load(
    clean_env, preload, core_wheel, build_wheel, index, hub, tmp_path
):
    """Written, tested, built, put into an index, installed elsewhere, trained there, published,
    and loaded by a third environment; every tool as it is, and the package untouched."""
    author = clean_env(core_wheel)
    zoo = author.folder / "bin" / "zoo"
    package = tmp_path / "latentzoo-mine"
    subprocess.run([zoo, "new-plugin", "mine", "--out", package], check=True, cwd=tmp_path)
    wheel = build_wheel(package)
    with zipfile.ZipFile(wheel) as files:
        (licence,) = (n for n in files.namelist() if n.endswith(".dist-info/licenses/LICENSE"))
        assert files.read(licence) == (package / "LICENSE").read_bytes()
    author.install(wheel)
    tested = preload(author).run("-m", "pytest", "-q", str(package), "-p", "no:cacheprovider")
    assert " passed" in tested.stdout
    assert "failed" not in tested.stdout

    url = index(core_wheel, wheel)
    user = clean_env()
    install(user, url, "latentzoo-mine")  # which brings latentzoo itself
    assert json.loads(user.run("-m", "zoo.cli", "list", "--json").stdout)[0]["name"] == "mine"
    (found,) = json.loads(user.run("-m", "zoo.cli", "plugins", "--json").stdout)
    assert (found["distribution"], found["fault"]) == ("latentzoo-mine", None)
    preload(user)
    checked = user.run("-m", "zoo.cli", "check", "latentzoo-mine", "--json")
    assert json.loads(checked.stdout)["well"]

    (user.folder / "pictures").mkdir()
    user.run(
        "-c",
        "from PIL import Image; from zoo.sample import sample\n"
        "for i, pixels in enumerate(sample()[0][:64]):\n"
        "    Image.fromarray(pixels).save(f'pictures/{i}.png')",
    )
    user.run(
        *("-m", "zoo.cli", "train", "mine", "--data", "pictures", "--out", "run"),
        *("--recipe", str(package / "recipes" / "quick.toml"), "--device", "cpu"),
    )
    checked = user.run("-m", "zoo.cli", "check", "local-dir:run", "--json")
    assert json.loads(checked.stdout)["well"]
    figures = (
        "import json, sys, zoo\n"
        "model = zoo.load(sys.argv[1])\n"
        "images = model.generate(2, seed=3)\n"
        "print(json.dumps([images.tolist(), model.encode(images).tolist()]))"
    )
    before = user.run("-c", figures, "local-dir:run").stdout

    hub.add_user("you", "secret-token")
    said = user.run(
        *("-m", "zoo.cli", "publish", "local-dir:run", "--to", "you/mine", "--json"),
        env=hub.env(tmp_path / "home-of-user", token="secret-token"),
    )
    commit = json.loads(said.stdout)["commit"]
    other = clean_env()
    install(other, url, "latentzoo-mine")
    home = hub.env(tmp_path / "home-of-other")
    after = preload(other).run("-c", figures, f"hf-hub:you/mine@{commit}", env=home).stdout
    assert after.splitlines()[-1] == before.splitlines()[-1]
    checked = other.run("-m", "zoo.cli", "check", f"hf-hub:you/mine@{commit}", "--json", env=home)
    assert json.loads(checked.stdout)["well"]
