"""Exports the trained networks to ONNX with PyTorch's two exporters, in the forms that keep
every parameter under its own name and with its own values.

python export.py [--checkpoints checkpoints] [--out ../models]
"""

import argparse
from pathlib import Path

import onnx
import torch
from models import MODELS
from torch import nn


def export_torchscript(model: nn.Module, example: torch.Tensor, path: Path) -> None:
    """PRESERVE leaves batch norm unfused; without folding, weights keep name and layout."""
    torch.onnx.export(
        model,
        (example,),
        path,
        dynamo=False,
        opset_version=17,
        training=torch.onnx.TrainingMode.PRESERVE,
        do_constant_folding=False,
        input_names=["input"],
        output_names=["logits"],
        dynamic_axes={"input": {0: "batch"}, "logits": {0: "batch"}},
    )


def export_dynamo(model: nn.Module, example: torch.Tensor, path: Path) -> None:
    """optimize=True would fuse, transpose and merge parameters under unchanged names."""
    torch.onnx.export(
        model,
        (example,),
        path,
        dynamo=True,
        optimize=False,
        external_data=False,
        input_names=["input"],
        output_names=["logits"],
        dynamic_shapes=({0: torch.export.Dim("batch")},),
    )
    drop_stack_traces(path)


def drop_stack_traces(path: Path) -> None:
    """Each node carries the source lines it came from, with paths of the exporting machine."""
    model = onnx.load(path)
    for node in model.graph.node:
        kept = [p for p in node.metadata_props if not p.key.endswith("stack_trace")]
        del node.metadata_props[:]
        node.metadata_props.extend(kept)
    onnx.save(model, path)


def main() -> None:
    parser = argparse.ArgumentParser(description="Exports the trained networks to ONNX")
    parser.add_argument("--checkpoints", type=Path, default=Path("checkpoints"))
    parser.add_argument("--out", type=Path, default=Path(__file__).parent.parent / "models")
    options = parser.parse_args()

    options.out.mkdir(parents=True, exist_ok=True)
    for name, build in MODELS.items():
        model = build()
        model.load_state_dict(torch.load(options.checkpoints / f"{name}.pt", weights_only=True))
        model.eval()
        example = torch.zeros(2, 1, 28, 28)
        export_torchscript(model, example, options.out / f"{name}.onnx")
        export_dynamo(model, example, options.out / f"{name}-dynamo.onnx")


if __name__ == "__main__":
    main()
