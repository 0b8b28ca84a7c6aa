"""The four networks that products are timed on, with a batch of synthetic data each.

python models.py FOLDER      writes FOLDER/<name>/{model.onnx, x.npy, y.npy, v.npy}

v is one direction, in the order of named_parameters, which is also the order of the file's
initializers without batch norm's statistics.
"""

import math
import sys
import warnings
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn


class MLP(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(
            nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 10)
        )


class LeNet(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(
            nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
            nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10),
        )  # fmt: skip


class ResNet20(nn.Module):
    """He et al.'s CIFAR ResNet-20 with projections where the shape changes."""

    class Block(nn.Module):
        def __init__(self, inputs: int, outputs: int) -> None:
            super().__init__()
            stride = 1 if inputs == outputs else 2
            self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
            self.bn1 = nn.BatchNorm2d(outputs)
            self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
            self.bn2 = nn.BatchNorm2d(outputs)
            self.down = nn.Identity()
            if stride > 1:
                projection = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
                self.down = nn.Sequential(projection, nn.BatchNorm2d(outputs))

        def forward(self, x: Tensor) -> Tensor:
            h = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
            return F.relu(h + self.down(x))

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.bn = nn.BatchNorm2d(16)
        widths = (16, 16, 16, 16, 32, 32, 32, 64, 64, 64)
        self.blocks = nn.Sequential(*(self.Block(a, b) for a, b in zip(widths, widths[1:])))
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        h = self.blocks(F.relu(self.bn(self.conv(x))))
        return self.fc(self.pool(h).flatten(1))


class GPT(nn.Module):
    """Causal language model: 65 characters, 4 layers, width 128, 4 heads, 64 positions. Attention
    is written out, since PyTorch's fused one cannot be differentiated twice."""

    class Block(nn.Module):
        def __init__(self, width: int, heads: int) -> None:
            super().__init__()
            self.heads = heads
            self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
            self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
            self.fc1, self.fc2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
            self.register_buffer("future", torch.ones(64, 64, dtype=torch.bool).triu(1))

        def attention(self, x: Tensor) -> Tensor:
            batch, length, width = x.shape
            size = width // self.heads
            q, k, v = (
                part.reshape(batch, length, self.heads, size).transpose(1, 2)
                for part in self.qkv(x).split(width, 2)
            )
            scores = q @ k.transpose(2, 3) / math.sqrt(size)
            mixed = scores.masked_fill(self.future, float("-inf")).softmax(3) @ v
            return self.out(mixed.transpose(1, 2).reshape(batch, length, width))

        def forward(self, x: Tensor) -> Tensor:
            x = x + self.attention(self.norm1(x))
            return x + self.fc2(F.gelu(self.fc1(self.norm2(x))))

    def __init__(self) -> None:
        super().__init__()
        self.tokens, self.positions = nn.Embedding(65, 128), nn.Embedding(64, 128)
        self.blocks = nn.Sequential(*(self.Block(128, 4) for _ in range(4)))
        self.norm, self.head = nn.LayerNorm(128), nn.Linear(128, 65, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.norm(self.blocks(self.tokens(x) + self.positions.weight)))


class ClassesSecond(nn.Module):
    """(batch, positions, classes) to (batch, classes, positions), for the exported file."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x).transpose(1, 2)


class OneRow(nn.Module):
    """(batch, positions, classes) to (batch * positions, classes), PyTorch's fast form."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x).flatten(0, 1)


SHAPES = {  # name: network, input shape, targets' shape, classes
    "mlp": (MLP, (512, 784), (512,), 10),
    "lenet": (LeNet, (256, 1, 28, 28), (256,), 10),
    "resnet20": (ResNet20, (64, 3, 32, 32), (64,), 10),
    "gpt": (GPT, (16, 64), (16, 64), 65),
}


def build(name: str) -> nn.Module:
    """The network in evaluation mode, with norms' parameters and statistics moved off their
    starting values, which are all equal."""
    torch.manual_seed(0)
    model = SHAPES[name][0]()
    for module in model.modules():
        if isinstance(module, (nn.BatchNorm2d, nn.LayerNorm)):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0, 0.1)
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    return model.eval()


def data(name: str) -> tuple[np.ndarray, np.ndarray]:
    _, shape, targets, classes = SHAPES[name]
    rng = np.random.default_rng(0)
    x = rng.integers(0, 65, shape) if name == "gpt" else rng.standard_normal(shape, np.float32)
    return x, rng.integers(0, classes, targets)


def direction(model: nn.Module, count: int = 1) -> np.ndarray:
    size = sum(p.numel() for p in model.parameters())
    return np.random.default_rng(1).standard_normal((count, size), np.float32)


def main(folder: Path) -> None:
    warnings.simplefilter("ignore")
    for name in SHAPES:
        model, (x, y) = build(name), data(name)
        target = folder / name
        target.mkdir(parents=True, exist_ok=True)
        torch.onnx.export(
            ClassesSecond(model) if name == "gpt" else model,
            (torch.tensor(x[:2]),),
            target / "model.onnx",
            dynamo=False,
            opset_version=17,
            training=torch.onnx.TrainingMode.PRESERVE,
            do_constant_folding=False,
            input_names=["x"],
            output_names=["logits"],
            dynamic_axes={"x": {0: "batch"}, "logits": {0: "batch"}},
        )
        for key, array in (("x", x), ("y", y), ("v", direction(model))):
            np.save(target / f"{key}.npy", array)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    main(Path(sys.argv[1]))
