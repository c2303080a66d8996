"""What an encoder for any picture owes to each source that it learns from.

    python benchmarks/encoder.py FOLDER --out RUNS

FOLDER has a folder of pictures for each category; the encoders never see them in training. The same
network, narrower than the one that ships, learns from the photographs of the data set ``general``
alone, its made pictures alone, and from both, from about as many views each; beside them stands
the network that has learnt nothing. All are measured as benchmarks/collection.py does it, which
says what the columns are. A run that is in RUNS is only measured.
"""

import argparse
import sys
from dataclasses import replace
from pathlib import Path

from weights import show

# isort: split
# What comes above sets the environment of threads, which has to be before torch.

import torch
from collection import COLUMNS, Data, shown

import zoo
from zoo.collection.derived import neighbours_of
from zoo.data import Dataset, load_data, to_float
from zoo.data.general import GENERAL
from zoo.folder import read_config
from zoo.sources import weights_folder
from zoo.spec import Preprocessing

SHIPPED = "simclr.general"
WIDTH = 16
EPOCHS = {"photographs": 4, "made pictures": 4, "both": 2}


def parts(data: Dataset) -> dict[str, Dataset]:
    """The photographs, which have labels, the made pictures, and both."""
    assert data.labels is not None
    assert isinstance(data.images, torch.Tensor)
    known = data.labels >= 0
    return {
        "photographs": replace(data, images=data.images[known], labels=None),
        "made pictures": replace(data, images=data.images[~known], labels=None),
        "both": replace(data, labels=None),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="a folder of pictures for each category")
    parser.add_argument("--out", type=Path, required=True, help="runs and collections")
    parser.add_argument("--width", type=int, default=WIDTH, help="of the network")
    parser.add_argument("--few", type=int, help="learn from so many pictures of each source")
    given = parser.parse_args()

    facts = read_config(weights_folder(SHIPPED)).facts
    config = {**facts["config"], "width": given.width}
    preprocessing = Preprocessing.from_dict(facts["preprocessing"])
    sources = parts(load_data(GENERAL, "train", preprocessing))
    recipe = facts["training"]["recipe"]
    if given.few:
        recipe["batch_size"] = min(recipe["batch_size"], given.few // 4)
        sources = {k: replace(d, images=d.images[: given.few]) for k, d in sources.items()}

    def measure(name: str, model: "zoo.model.ZooModel") -> None:
        made = zoo.Collection.index(model, [given.folder], given.out / f"{name}.collection")
        data = Data(made)
        _, vectors, graph = neighbours_of(made.store, data.pictures)
        print(shown(name, data.row(made.features(), vectors, graph)), flush=True)

    print("| learnt from | " + " | ".join(COLUMNS) + " |")
    print("|---|" + "--:|" * len(COLUMNS), flush=True)
    torch.manual_seed(0)
    untrained = zoo.create("simclr", **config)
    order = torch.randperm(len(sources["both"]), generator=torch.Generator().manual_seed(0))
    images = sources["both"].images
    batches = order[:20_000].split(500)
    untrained.fit(lambda: (to_float(images[rows]) for rows in batches), seed=0)
    untrained.prepare(fit=preprocessing.fit, background=preprocessing.background)
    measure("nothing", untrained)
    for name, data in sources.items():
        run = given.out / name.replace(" ", "-")
        if not (run / "weights").exists():
            print(f"learning from {name}", file=sys.stderr)
            zoo.train(
                "simclr", data=data, out=run, config=config, report=show,
                settings={**recipe, "epochs": EPOCHS[name]},
                resume=any(run.glob("checkpoint*.safetensors")),
                fit=preprocessing.fit, background=preprocessing.background,
            )  # fmt: skip
        measure(name, zoo.load(f"local-dir:{run / 'weights'}"))


if __name__ == "__main__":
    main()
