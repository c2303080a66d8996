"""A user's own pictures: emoji of mixed sizes and kinds, in colour, from one command."""

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image, ImageDraw, ImageFont

import zoo
from zoo.images import read_pictures

FONT = Path(os.environ.get("ZOO_EMOJI_FONT", "/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf"))
pytestmark = pytest.mark.slow


@pytest.fixture
def emoji(tmp_path):
    """A folder of 1,000 emoji, transparent PNG, GIF and JPEG on white, of 40 to 136 pixels."""
    if not FONT.exists():
        pytest.skip(f"{FONT} is not there; apt-get install fonts-noto-color-emoji")
    folder, rng = tmp_path / "emoji", random.Random(0)
    folder.mkdir()
    font = ImageFont.truetype(FONT, 109)  # the one size that the font has
    for point in (*range(0x2600, 0x27C0), *range(0x1F300, 0x1FB00)):
        picture = Image.new("RGBA", (136, 128))
        ImageDraw.Draw(picture).text((0, 0), chr(point), font=font, embedded_color=True)
        if picture.getbbox() is None or len(picture.getcolors(1 << 16)) < 8:
            continue  # the font has no such emoji
        picture = picture.crop(picture.getbbox())
        picture = picture.resize((rng.randint(40, 136), rng.randint(40, 136)))
        kind = rng.choice([".png", ".png", ".jpg", ".gif"])
        if kind == ".jpg":
            white = Image.new("RGB", picture.size, "white")
            white.paste(picture, mask=picture.split()[3])
            picture = white
        picture.save(folder / f"{point:x}{kind}")
        if len(list(folder.iterdir())) == 1000:
            break
    (folder / "notes.txt").write_text("not a picture")
    return folder


def test_colour_pictures_of_64_pixels(tmp_path, emoji):
    out = tmp_path / "run"
    done = subprocess.run(
        [sys.executable, "-m", "zoo.cli", "train", "conv_ae", "--data", emoji, "--out", out,
         "--config", "size=64", "--config", "channels=3", "--config", "latent_dim=128",
         "--config", "width=16", "--epochs", "15",
         "--set", "batch_size=32", "--device", "cpu"],
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "(1 files skipped)" in done.stdout
    model = zoo.load(f"local-dir:{out}")
    images = read_pictures([emoji], model.preprocessing).images
    assert images.shape[1:] == (3, 64, 64)
    rebuilt = model.reconstruct(images)
    error = (rebuilt - images).square().mean()
    assert float(error) < 0.3 * float((images - images.mean(0)).square().mean())
    made = model.generate(16, seed=0)
    assert float(made.std(0).mean()) > 0.1, "they differ"
    colour = (made.amax(1) - made.amin(1)).flatten(1).mean(1)
    assert float(torch.quantile(colour, 0.9)) > 0.1, "and have colour"
    with Image.open(out / "pictures" / "reconstruction-0015.png") as picture:
        assert picture.mode == "RGB"
