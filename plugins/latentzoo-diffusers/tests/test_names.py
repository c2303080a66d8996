"""What a name after ``diffusers:`` may be, without a Hub and without the library."""

import json
import subprocess
import sys

import pytest
from zoo_diffusers import source

import zoo
from zoo.errors import InvalidName


@pytest.mark.parametrize(
    "rest",
    ["taesd", "a/b/c", "hf-hub:a/b", "a/../b", "a/b@", "a/b@x/../y", "a/b#", "a/b#../c", "a/b#/etc",
     "a/b#c//d", "a/b#c.d", "a/b#c#d"],
)  # fmt: skip
def test_refused_names(rest):
    with pytest.raises(InvalidName, match="is not") as caught:
        zoo.info(f"diffusers:{rest}")
    assert "org/name" in str(caught.value)


@pytest.mark.parametrize(
    ("key", "value", "good"),
    [
        ("layers_per_block", 2, True),
        ("layers_per_block", 10**6, False),
        ("num_train_timesteps", 1000, True),
        ("num_train_timesteps", 10**6, False),
        ("trained_betas", [0.1] * 1000, True),
        ("block_out_channels", [8] * 1000, False),
        ("encoder_qkv_multiscales", [[], [5]], True),
        ("encoder_qkv_multiscales", [[[[[5]]]]], False),
        ("scaling_factor", float("nan"), False),
        ("act_fn", "silu", True),
        ("act_fn", "s" * 1000, False),
        ("sample_size", None, True),
        ("freq_shift", True, True),
    ],
)
def test_values_of_a_config(key, value, good):
    assert source._plain(key, value) is good


@pytest.mark.slow
def test_the_list_imports_nothing_heavy_and_a_missing_library_names_the_command():
    code = """
import json, sys
sys.modules["diffusers"] = None  # as if it were not installed
import zoo
from zoo.registry import registry
prefixes = sorted(registry().prefix_names())
heavy = sorted({"torch", "numpy", "huggingface_hub"} & set(sys.modules))
from zoo.errors import MissingDependency
from zoo_diffusers.networks import diffusers
try:
    diffusers()
except MissingDependency as error:
    print(json.dumps([prefixes, heavy, str(error)]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    prefixes, heavy, text = json.loads(done.stdout)
    assert "diffusers" in prefixes
    assert heavy == []
    assert "needs diffusers, which is not installed" in text
    assert "pip install" in text
    assert "latentzoo-diffusers" in text
