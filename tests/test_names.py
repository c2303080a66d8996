"""What names mean, and what somebody is told whose name means nothing."""

import pytest

from zoo.errors import InvalidName, ModelNameError
from zoo.names import (
    FolderName,
    HubName,
    PluginName,
    PrefixName,
    parse_name,
    parse_repo,
    unpinned,
)

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ae", (PluginName, "ae")),
        ("deep_ae", (PluginName, "deep_ae")),
        ("ae2", (PluginName, "ae2")),
        ("deep_ae.mnist", (PluginName, "deep_ae", "mnist")),
        (
            "latentzoo-ae:deep_ae.mnist",
            (PluginName, "deep_ae", "mnist", "latentzoo-ae"),
        ),
        ("My.Plugin_2:ae", (PluginName, "ae", None, "My.Plugin_2")),
        ("local-dir:runs/mine", (FolderName, "runs/mine")),
        ("local-dir:~/my runs/1", (FolderName, "~/my runs/1")),
        (r"local-dir:C:\runs\mine", (FolderName, r"C:\runs\mine")),
        ("local-dir:.", (FolderName, ".")),
        ("local-dir:hf-hub:x/y", (FolderName, "hf-hub:x/y")),
        ("hf-hub:org/deep_ae.mine", (HubName, "org/deep_ae.mine")),
        ("hf-hub:org/Name-1.2@main", (HubName, "org/Name-1.2", "main")),
        (f"hf-hub:org/x@{COMMIT}", (HubName, "org/x", COMMIT)),
        ("hf-hub:org/x@refs/pr/3", (HubName, "org/x", "refs/pr/3")),
        ("timm:resnet18@main", (PrefixName, "timm", "resnet18@main")),
        ("pool:A b", (PrefixName, "pool", "A b")),
        ("a" * 63, (PluginName, "a" * 63)),
    ],
)
def test_valid_forms(text, expected):
    kind, *parts = expected
    assert parse_name(text) == kind(text, *parts)


FORMS = "Names look like: deep_ae, deep_ae.mnist"


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        # pages of the Hub
        ("https://huggingface.co/org/deep_ae.x", "write hf-hub:org/deep_ae.x"),
        ("https://huggingface.co/org/x/tree/main", "write hf-hub:org/x"),
        ("http://hf.co/org/x", "write hf-hub:org/x"),
        # slips of the prefix
        ("hf_hub:org/x", "Write hf-hub:org/x"),
        ("hfhub:org/x", "Write hf-hub:org/x"),
        ("HF-Hub:org/x", "Write hf-hub:org/x"),
        ("hub://org/x", "Write hf-hub:org/x"),
        ("local_dir:x", "Write local-dir:x"),
        ("localdir:runs/x", "Write local-dir:runs/x"),
        ("dir:x/y", "Write local-dir:x/y"),
        ("file:///home/me/x", "Write local-dir:/home/me/x"),
        # the right prefix, and nothing right behind it
        ("hf-hub:/org/x", "write hf-hub:org/name or hf-hub:org/name@REVISION"),
        ("hf-hub:org", "write hf-hub:org/name"),
        ("hf-hub:org/x@", "write hf-hub:org/name"),
        ("hf-hub:org/../x", "write hf-hub:org/name"),
        ("hf-hub:a/b/c", "write hf-hub:org/name"),
        ("hf-hub:", "write hf-hub:org/name"),
        ("local-dir:", "write local-dir:FOLDER"),
        ("local-dir:a\0b", "write local-dir:FOLDER"),
        # folders without a prefix
        (r"C:\Users\me\runs", r"write local-dir:C:\Users\me\runs"),
        ("C:/Users/me/runs", "write local-dir:C:/Users/me/runs"),
        (r"runs\mine", r"write local-dir:runs\mine"),
        (r"\\server\share", r"write local-dir:\\server\share"),
        ("./x", "write local-dir:./x"),
        ("../x", "write local-dir:../x"),
        ("~/x", "write local-dir:~/x"),
        ("/srv/x", "write local-dir:/srv/x"),
        ("a/b/c", "For a folder write local-dir:a/b/c"),
        # a folder or a repository: both are shown
        ("runs/mine", "For a folder write local-dir:runs/mine"),
        ("runs/mine", "on the Hub hf-hub:runs/mine"),
        # spelling
        ("Deep-AE", "Write deep_ae"),
        ("deep ae", "Write deep_ae"),
        (" deep_ae", "Write deep_ae"),
        ("deep_ae\n", "Write deep_ae"),
        ("DEEP_AE.MNIST", "Write deep_ae.mnist"),
        ("latentzoo-ae:Deep-AE.mnist", "Write latentzoo-ae:deep_ae.mnist"),
        ("http:x@y", FORMS),
        ("http://x.org/y", "For a folder"),
        # nothing that comes to mind
        ("", FORMS),
        ("   ", FORMS),
        (".", "local-dir:."),
        ("deep_ae.mnist.v2", FORMS),
        ("deep_ae@main", FORMS),
        ("2ae", FORMS),
        ("modèle", FORMS),
        ("a" * 64, FORMS),
    ],
)
def test_invalid_names_get_the_hint_that_helps(text: str, hint: str):
    with pytest.raises(InvalidName) as refused:
        parse_name(text)
    assert hint in str(refused.value)
    assert isinstance(refused.value, ModelNameError)


@pytest.mark.parametrize(
    "text",
    [
        "https://huggingface.co/org/deep_ae.x",
        "hf_hub:org/x",
        "local_dir:x",
        r"C:\Users\me\runs",
        "~/x",
        "Deep-AE",
        "latentzoo-ae:Deep-AE.mnist",
    ],
)
def test_what_the_hint_says_to_write_is_a_name(text: str):
    with pytest.raises(InvalidName) as refused:
        parse_name(text)
    _, _, advice = str(refused.value).replace("Write", "write").rpartition("write ")
    parse_name(advice)


@pytest.mark.parametrize(
    "text",
    ["\x1b[31mred", "hf_hub:\x1b[2Jx/y", "./\x07x", "a/\x1b]0;x\x07", "deep\x08ae", "x\u202ey"],
)
def test_control_characters_do_not_reach_the_terminal(text: str):
    with pytest.raises(InvalidName) as refused:
        parse_name(text)
    assert str(refused.value).isprintable()


@pytest.mark.parametrize("prefix", ["", "hf_hub:", "./", "hf-hub:", "https://huggingface.co/org/"])
def test_message_on_a_very_long_name_is_short(prefix: str):
    with pytest.raises(InvalidName) as refused:
        parse_name(prefix + "x" * 100_000)
    assert len(str(refused.value)) < 500


@pytest.mark.parametrize("thing", [None, 3, b"ae", ["ae"], object()])
def test_what_is_no_text_is_refused(thing: object):
    with pytest.raises(InvalidName, match=r"expected a name such as 'deep_ae\.mnist', got "):
        parse_name(thing)


def test_repository_with_and_without_a_revision():
    assert parse_repo("org/name") == HubName("hf-hub:org/name", "org/name")
    assert parse_repo("org/name@v1") == HubName("hf-hub:org/name@v1", "org/name", "v1")
    with pytest.raises(InvalidName, match="write hf-hub:org/name"):
        parse_repo("name")


def test_name_without_its_revision():
    for name in ("timm:a.b", "timm:hf-hub:org/a", "timm:a.b#size=96"):
        address, hash_, options = name.partition("#")
        assert unpinned(f"{address}@refs/pr/1{hash_}{options}") == name == unpinned(name)
