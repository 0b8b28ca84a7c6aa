"""The networks that export_zoo.py exports: one of each architecture in common use, as small as it
still does what the architecture does. Those that the reference cases of the tests have are theirs.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import models
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

sys.path.append(str(Path(__file__).parents[2] / "test" / "fixtures" / "cases"))
import networks  # noqa: E402


class ResNet18(nn.Module):
    """The 20 convolutions of ResNet-18 with 4 to 8 channels, on 8 x 8 images."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(1, 4, 3, 1, 1, bias=False), nn.BatchNorm2d(4)
        block = networks.ResNetBN.Block
        widths, layers = [4, 4, 5, 6, 8], []
        for i, stride in enumerate([1, 2, 2, 2]):
            inputs, outputs = widths[i : i + 2]
            layers.append(nn.Sequential(block(inputs, outputs, stride), block(outputs, outputs, 1)))
        self.layer1, self.layer2, self.layer3, self.layer4 = layers
        self.pool, self.fc = nn.AdaptiveAvgPool2d(1), nn.Linear(8, 10)

    def forward(self, x: Tensor) -> Tensor:
        h = F.relu(self.bn1(self.conv1(x)))
        h = self.layer4(self.layer3(self.layer2(self.layer1(h))))
        return self.fc(self.pool(h).flatten(1))


class MobileNetV3(nn.Module):
    """Inverted residual with squeeze and excitation, hard swish and hard sigmoid."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(1, 4, 3, 2, 1, bias=False), nn.BatchNorm2d(4)
        self.expand, self.norm1 = nn.Conv2d(4, 8, 1, bias=False), nn.BatchNorm2d(8)
        self.depth, self.norm2 = nn.Conv2d(8, 8, 3, 1, 1, groups=8, bias=False), nn.BatchNorm2d(8)
        self.squeeze, self.excite = nn.Conv2d(8, 3, 1), nn.Conv2d(3, 8, 1)
        self.project, self.norm3 = nn.Conv2d(8, 4, 1, bias=False), nn.BatchNorm2d(4)
        self.fc1, self.fc2 = nn.Linear(4, 8), nn.Linear(8, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = F.hardswish(self.norm(self.stem(x)))
        h = F.hardswish(self.norm1(self.expand(x)))
        h = F.relu(self.norm2(self.depth(h)))
        scale = F.relu(self.squeeze(F.adaptive_avg_pool2d(h, 1)))
        h = h * F.hardsigmoid(self.excite(scale))
        x = x + self.norm3(self.project(h))
        return self.fc2(F.hardswish(self.fc1(x.mean((2, 3)))))


class UNet(nn.Module):
    """Down, up by bilinear interpolation and by transposed convolution, skips, two norms."""

    def __init__(self) -> None:
        super().__init__()
        self.down1, self.norm1 = nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.down2, self.norm2 = nn.Conv2d(4, 6, 3, padding=1), nn.GroupNorm(2, 6)
        self.down3 = nn.Conv2d(6, 6, 3, padding=1)
        self.turn, self.up = nn.Conv2d(12, 4, 3, padding=1), nn.ConvTranspose2d(4, 4, 2, 2)
        self.out = nn.Conv2d(8, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        a = F.relu(self.norm1(self.down1(x)))
        b = F.silu(self.norm2(self.down2(F.max_pool2d(a, 2))))
        c = F.silu(self.down3(F.max_pool2d(b, 2)))
        c = F.interpolate(c, scale_factor=2.0, mode="bilinear", align_corners=True)
        b = F.silu(self.turn(torch.cat([b, c], 1)))
        return self.out(torch.cat([a, self.up(b)], 1))


class ConvNeXt(nn.Module):
    """A block of ConvNeXt: depthwise 7 x 7, layer norm and linear maps with channels last, scale."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 6, 2, 2)
        self.depth, self.norm = nn.Conv2d(6, 6, 7, padding=3, groups=6), nn.LayerNorm(6)
        self.fc1, self.fc2 = nn.Linear(6, 12), nn.Linear(12, 6)
        self.layer_scale = nn.Parameter(torch.full((6,), 0.5))
        self.head = nn.Linear(6, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        h = self.norm(self.depth(x).permute(0, 2, 3, 1))
        h = self.layer_scale * self.fc2(F.gelu(self.fc1(h)))
        return self.head((x + h.permute(0, 3, 1, 2)).mean((2, 3)))


class ViT(nn.Module):
    """Patches by a convolution, a class token, learned positions, two encoder blocks."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(1, 8, 4, 4)
        self.class_token = nn.Parameter(torch.randn(1, 1, 8) * 0.2)
        self.positions = nn.Parameter(torch.randn(1, 5, 8) * 0.2)
        self.blocks = nn.Sequential(*(networks.TransformerBlock(8, 2, 12) for _ in range(2)))
        self.norm, self.head = nn.LayerNorm(8), nn.Linear(8, 10)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.patches(x).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.class_token.expand(x.shape[0], -1, -1), tokens], 1)
        return self.head(self.norm(self.blocks(tokens + self.positions))[:, 0])


class Recurrent(nn.Module):
    """A recurrent network over the rows of an image; the last output is classified."""

    def __init__(self, cell: type[nn.RNNBase], layers: int, bidirectional: bool = False) -> None:
        super().__init__()
        self.rnn = cell(8, 5, layers, batch_first=True, bidirectional=bidirectional)
        self.head = nn.Linear(10 if bidirectional else 5, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.rnn(x)[0][:, -1])


class GroupNormNet(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(
            nn.Conv2d(1, 6, 3, padding=1), nn.GroupNorm(3, 6), nn.SiLU(), nn.AvgPool2d(2),
            nn.Conv2d(6, 6, 3), nn.GroupNorm(1, 6), nn.Tanh(), nn.Flatten(), nn.Linear(24, 10),
        )  # fmt: skip


class RMSNorm(nn.Module):
    """As language models write it; the TorchScript exporter has no rule for nn.RMSNorm."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        return self.weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-5))


class RMSNormNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.norm1, self.fc2 = nn.Linear(8, 10), RMSNorm(10), nn.Linear(10, 8)
        self.norm2, self.head = RMSNorm(8), nn.Linear(8, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.fc2(F.silu(self.norm1(self.fc1(x))))
        return self.head(self.norm2(x).mean(1))


class Mixture(nn.Module):
    """Four experts, of which the gate chooses two a sample."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.Linear(64, 4)
        self.inner = nn.Parameter(torch.randn(4, 64, 6) / 8)
        self.outer = nn.Parameter(torch.randn(4, 6, 10) / 3)

    def forward(self, x: Tensor) -> Tensor:
        scores, chosen = self.gate(x).topk(2, 1)
        weights = torch.zeros_like(self.gate(x)).scatter(1, chosen, scores.softmax(1))
        hidden = torch.tanh(torch.einsum("ni,eih->neh", x, self.inner))
        return (weights[:, :, None] * torch.einsum("neh,eho->neo", hidden, self.outer)).sum(1)


@dataclass
class Entry:
    build: Callable[[], nn.Module]
    sample: tuple[int, ...]  # shape of a sample
    kind: str = "ce"  # or mse
    tokens: int = 0  # inputs are whole numbers below this
    trained: bool = True  # parameters moved away from where they start


IMAGE, ROWS, FLAT = (1, 8, 8), (8, 8), (64,)
ZOO: dict[str, Entry] = {
    "mlp": Entry(networks.MlpOneHot, FLAT),
    "mlp_3d": Entry(networks.Mlp3d, ROWS),
    "lenet": Entry(models.LeNet, (1, 28, 28)),
    "vgg_bn": Entry(networks.VggBN, IMAGE),
    "resnet18": Entry(ResNet18, IMAGE),
    "mobilenet_v2": Entry(networks.MobileNet, IMAGE),
    "mobilenet_v3": Entry(MobileNetV3, IMAGE),
    "densenet": Entry(networks.DenseBN, IMAGE),
    "unet": Entry(UNet, IMAGE, "mse"),
    "convnext": Entry(ConvNeXt, IMAGE),
    "vit": Entry(ViT, IMAGE),
    "gpt": Entry(networks.TiedGPT, (10,), tokens=16),
    "transformer_encoder": Entry(networks.TorchEncoder, ROWS),
    "bilstm": Entry(lambda: Recurrent(nn.LSTM, 2, True), ROWS),
    "gru": Entry(lambda: Recurrent(nn.GRU, 2), ROWS),
    "rnn": Entry(lambda: Recurrent(nn.RNN, 1), ROWS),
    "autoencoder": Entry(networks.AutoEncoder, IMAGE, "mse"),
    "group_norm": Entry(GroupNormNet, IMAGE),
    "rms_norm": Entry(RMSNormNet, ROWS),
    "mixture": Entry(Mixture, FLAT),
    "resnet18_untrained": Entry(ResNet18, IMAGE, trained=False),
    "transformer_encoder_untrained": Entry(networks.TorchEncoder, ROWS, trained=False),
}


def build(entry: Entry) -> nn.Module:
    """In evaluation mode; trained-like: no two tensors are equal, statistics are not 0 and 1."""
    torch.manual_seed(0)
    model = entry.build()
    with torch.no_grad():
        for parameter in model.parameters() if entry.trained else ():
            parameter += 0.1 * torch.randn_like(parameter)
        for name, buffer in model.named_buffers():
            if name.endswith("running_mean") and entry.trained:
                buffer += 0.3 * torch.randn_like(buffer)
            if name.endswith("running_var") and entry.trained:
                buffer *= 0.5 + torch.rand_like(buffer)
    return model.eval()


def data(entry: Entry, model: nn.Module, samples: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    if entry.tokens:
        x = rng.integers(0, entry.tokens, (samples, *entry.sample))
    else:
        x = rng.standard_normal((samples, *entry.sample)).astype(np.float32)
    with torch.no_grad():
        outputs = model(torch.tensor(x)).numpy()
    if entry.kind == "mse":
        return x, outputs + rng.standard_normal(outputs.shape).astype(np.float32)
    shape = (samples, *outputs.shape[2:])
    return x, rng.integers(0, outputs.shape[1], shape)
