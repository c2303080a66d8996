"""Pictures and captions made by procedure, and a pair of small towers that learns them.

``a red circle``: one of three shapes in one of four colours, anywhere, of any size and angle, on a
ground of any grey.
"""

import json
import math
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from PIL import Image, ImageDraw
from torch import nn

COLOURS = {"red": (215, 40, 40), "green": (45, 165, 60), "blue": (50, 75, 215),
           "yellow": (230, 210, 50)}  # fmt: skip
SHAPES = ("circle", "square", "triangle")
CAPTIONS = [f"a {colour} {shape}" for colour in COLOURS for shape in SHAPES]
CONFIG = {
    "embed_dim": 32,
    "vision_cfg": {"image_size": 32, "layers": [1, 1, 1, 1], "width": 8},
    "text_cfg": {"context_length": 8, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
}


def picture(caption: str, rng: np.random.Generator, side: int = 32) -> Image.Image:
    """A new picture of what the caption says; it is drawn large and made small."""
    _, colour, shape = caption.split()
    ground, scale = int(rng.integers(90, 256)), 4
    image = Image.new("RGB", (side * scale, side * scale), (ground,) * 3)
    radius = rng.uniform(0.26, 0.42) * side * scale
    x, y = rng.uniform(radius, side * scale - radius, 2)
    paint = tuple(int(np.clip(c + rng.integers(-25, 26), 0, 255)) for c in COLOURS[colour])
    draw = ImageDraw.Draw(image)
    if shape == "circle":
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=paint)
    else:
        sides, turn = 4 if shape == "square" else 3, rng.uniform(0, 2 * math.pi)
        angles = turn + 2 * math.pi * np.arange(sides) / sides
        corners = [(x + radius * math.cos(a), y + radius * math.sin(a)) for a in angles]
        draw.polygon(corners, fill=paint)
    return image.resize((side, side), Image.Resampling.BOX)


def folder(root: Path, each: int, seed: int) -> list[str]:
    """Write so many pictures of each caption, under names that say nothing; their captions."""
    rng = np.random.default_rng(seed)
    captions = [caption for caption in CAPTIONS for _ in range(each)]
    rng.shuffle(captions)
    root.mkdir(parents=True)
    for i, caption in enumerate(captions):
        picture(caption, rng, 48).save(root / f"{i:03d}.png")
    return captions


def learnt(out: Path, seed: int = 0, pictures: int = 3000, epochs: int = 10) -> None:
    """Train the towers, and write them as open_clip's repositories are."""
    import open_clip

    rng = np.random.default_rng(seed)
    labels = rng.integers(0, len(CAPTIONS), pictures)
    images = torch.from_numpy(
        np.stack([np.asarray(picture(CAPTIONS[i], rng)) for i in labels])
    ).permute(0, 3, 1, 2)
    targets = torch.from_numpy(labels)
    torch.manual_seed(seed)
    net = open_clip.CLIP(**CONFIG)
    tokens = open_clip.SimpleTokenizer(context_length=8)(CAPTIONS)
    steps = epochs * (pictures // 100)
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps)
    for _ in range(epochs):
        for chosen in torch.randperm(pictures).split(100)[: pictures // 100]:
            batch = (images[chosen].float() / 255 - 0.5) / 0.5
            words = net.encode_text(tokens, normalize=True)
            alike = net.encode_image(batch, normalize=True) @ words.T
            loss = nn.functional.cross_entropy(10 * alike, targets[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    out.mkdir(parents=True)
    config = {"model_cfg": CONFIG, "preprocess_cfg": {"mean": [0.5] * 3, "std": [0.5] * 3}}
    (out / "open_clip_config.json").write_text(json.dumps(config))
    tensors = {name: t.contiguous() for name, t in net.state_dict().items()}
    safetensors.torch.save_file(tensors, out / "open_clip_model.safetensors")
