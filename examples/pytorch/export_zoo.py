"""Exports the networks of zoo.py with PyTorch's two exporters, in the settings that users have.

    python export_zoo.py [--out zoo] [--reference] [network ...]

    recipe             TorchScript, PRESERVE and no constant folding: every parameter is kept
    default            TorchScript as it is: folds constants, fuses batch norm, fixes the batch size
    dynamo             optimize=False, external_data=False: every parameter is kept
    dynamo-external    optimize=False, weights in a file of their own
    dynamo-optimized   optimize=True, external_data=False
    dynamo-default     as it is: optimize=True, weights in a file of their own

Each network gets a folder with its files, x.npy, y.npy and state_dict.safetensors. With
--reference also what PyTorch computes in float64 for the mean loss on x and y: grad.npy, and the
Hessian's and the Gauss-Newton matrix's products hv.npy and ggnv.npy with the rows of v.npy, in the
order of named_parameters. Where a file is another function of its parameters (fused batch norm, a
tie that the exporter broke), a folder of the setting's name has them for the parameters of the
file. zoo.json lists it all, with the exporter's error where an export fails.
"""

import argparse
import contextlib
import copy
import io
import json
import logging
import struct
import traceback
import warnings
from pathlib import Path
from unittest.mock import patch

import numpy as np
import onnx
import torch
import torch.nn.functional as F
from torch import nn
from torch.fx.experimental import optimization
from zoo import ZOO, Entry, build, data

from matching import match  # the folder of the reference cases, which zoo.py adds
from reference import Problem

SETTINGS = "recipe default dynamo dynamo-external dynamo-optimized dynamo-default".split()
SAMPLES, EXAMPLE = 6, 3  # in the data set, and in the exporter's example
NAMES = {"input_names": ["x"], "output_names": ["out"]}
SAFETENSORS = {torch.float32: "F32", torch.float64: "F64", torch.int64: "I64"}


def save_state_dict(model: nn.Module, path: Path) -> None:
    """Safetensors; of tensors that share memory one is stored, and the metadata has the names of
    the others, as safetensors.torch.save_model writes them."""
    header, chunks, at, seen, shared = {}, [], 0, {}, {}
    for name, tensor in model.state_dict().items():
        if (first := seen.setdefault((tensor.data_ptr(), tensor.shape), name)) != name:
            shared[name] = first
            continue
        raw = tensor.contiguous().numpy().tobytes()
        header[name] = {
            "dtype": SAFETENSORS[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [at, at + len(raw)],
        }
        chunks.append(raw)
        at += len(raw)
    if shared:
        header = {"__metadata__": shared, **header}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(chunks))


# ---- exports


def torchscript(model: nn.Module, example: torch.Tensor, path: Path, recipe: bool) -> None:
    options = {}
    if recipe:
        options = {
            "opset_version": 17,
            "training": torch.onnx.TrainingMode.PRESERVE,
            "do_constant_folding": False,
            "dynamic_axes": {"x": {0: "batch"}, "out": {0: "batch"}},
        }
    torch.onnx.export(model, (example,), path, dynamo=False, **options, **NAMES)


def dynamo(model: nn.Module, example: torch.Tensor, folder: Path, names: list[str]) -> None:
    """One export serves its settings: optimize=True is optimize() on the result."""
    shapes = ({0: torch.export.Dim("batch")},)
    program = torch.onnx.export(
        model, (example,), dynamo=True, optimize=False, dynamic_shapes=shapes, **NAMES
    )
    for optimized in (False, True):
        if optimized:
            program.optimize()
        for name in names:
            if (name in ("dynamo-optimized", "dynamo-default")) == optimized:
                external = name in ("dynamo-external", "dynamo-default")
                program.save(str(folder / f"{name}.onnx"), external_data=external)


def drop_stack_traces(path: Path) -> None:
    """Each node carries the source lines it came from, with paths of the exporting machine."""
    model = onnx.load(path, load_external_data=False)
    for node in model.graph.node:
        del node.metadata_props[:]
    onnx.save(model, path)


def export(model: nn.Module, x: np.ndarray, folder: Path, names: list[str]) -> dict[str, str]:
    """Errors by setting."""
    example, errors = torch.tensor(x[:EXAMPLE]), {}

    def attempt(settings: list[str], job) -> None:
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                job()
            for setting in settings:
                drop_stack_traces(folder / f"{setting}.onnx")
        except Exception as error:  # the exporters raise whatever they like
            text = "".join(traceback.format_exception_only(error)).strip()
            errors.update(dict.fromkeys(settings, text[:400]))

    for name in names:
        if not name.startswith("dynamo"):
            path = folder / f"{name}.onnx"
            attempt([name], lambda p=path, n=name: torchscript(model, example, p, n == "recipe"))
    if newer := [name for name in names if name.startswith("dynamo")]:
        attempt(newer, lambda: dynamo(model, example, folder, newer))
    return errors


# ---- references


def unlike(model: nn.Module, path: Path) -> nn.Module | None:
    """The network in the parameters of the file, where they are not those of the model."""
    graph = onnx.load(path).graph
    count = sum(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in model.modules())
    fused = sum(node.op_type == "BatchNormalization" for node in graph.node) < count
    if fused:
        model = optimization.fuse(model).requires_grad_()
    arrays = [onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer]
    owners: dict[int, list[str]] = {}
    for name, module in model.named_modules():
        if isinstance(weight := getattr(module, "weight", None), nn.Parameter):
            owners.setdefault(id(weight), []).append(name)
    untied = False
    for names in owners.values():
        value = model.get_submodule(names[0]).weight.detach().numpy()
        copies = sum(
            np.array_equal(array, value) or (value.ndim == 2 and np.array_equal(array, value.T))
            for array in arrays
        )
        if len(names) > 1 and copies > 1:
            model, untied = copy.deepcopy(model), True
            for name in names[1:]:
                module = model.get_submodule(name)
                module.weight = nn.Parameter(module.weight.detach().clone())
    return model if fused or untied else None


def twice_differentiable():
    """PyTorch has no second derivative of hardsigmoid; this is the same function."""
    return patch.object(F, "hardsigmoid", lambda x: F.relu6(x + 3) / 6)


def store(problem: Problem, folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    count = sum(parameter.numel() for parameter in problem.parameters)
    v = np.random.default_rng(3).standard_normal((3, count))
    arrays = {"v": v, "grad": problem.gradient().numpy()}
    arrays |= {"hv": problem.hessian(v), "ggnv": problem.ggn(v)}
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)


def parameters_of(model: nn.Module) -> list[dict]:
    rows, offset = [], 0
    for name, parameter in model.named_parameters():
        row = {"name": name, "shape": list(parameter.shape), "offset": offset}
        rows.append({**row, "size": parameter.numel()})
        offset += parameter.numel()
    return rows


def run(name: str, entry: Entry, out: Path, settings: list[str], reference: bool) -> dict:
    folder = out / name
    folder.mkdir(parents=True, exist_ok=True)
    model = build(entry)
    x, y = data(entry, model, SAMPLES)
    np.save(folder / "x.npy", x)
    np.save(folder / "y.npy", y)
    save_state_dict(model, folder / "state_dict.safetensors")
    errors = export(copy.deepcopy(model), x, folder, settings)
    result = {
        "name": name,
        "loss": "mse" if entry.kind == "mse" else "cross-entropy",
        "trained": entry.trained,
        "parameters": parameters_of(model),
        "settings": [],
    }
    if reference:
        with twice_differentiable():
            store(Problem(model, x, y, entry.kind, torch.float64), folder)
    for setting in settings:
        row = {"setting": setting, "file": f"{name}/{setting}.onnx", "reference": name}
        result["settings"].append(row)
        if setting in errors:
            row["error"] = errors[setting]
        elif reference:
            with twice_differentiable():
                if other := unlike(model, folder / f"{setting}.onnx"):
                    row["reference"] = f"{name}/{setting}"
                    try:
                        row["parameters"], _ = match(other, onnx.load(folder / f"{setting}.onnx"))
                    except SystemExit as error:  # equal tensors were merged
                        row["unmatched"] = str(error)
                        continue
                    store(Problem(other, x, y, entry.kind, torch.float64), folder / setting)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("zoo"))
    parser.add_argument("--reference", action="store_true", help="gradient and products too")
    parser.add_argument("--settings", nargs="+", choices=SETTINGS, default=SETTINGS)
    parser.add_argument("networks", nargs="*", metavar="network", help=", ".join(ZOO))
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.backends.mha.set_fastpath_enabled(False)
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    results = []
    options.out.mkdir(parents=True, exist_ok=True)
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        for name in options.networks or ZOO:
            results.append(run(name, ZOO[name], options.out, options.settings, options.reference))
            failed = [row["setting"] for row in results[-1]["settings"] if "error" in row]
            print(f"{name}: exported{', but not ' + ', '.join(failed) if failed else ''}", flush=True)
            (options.out / "zoo.json").write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
