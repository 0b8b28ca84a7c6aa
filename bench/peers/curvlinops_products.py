"""curvlinops, one measurement a line on stdin (protocol: serve.py). Ops: hvp and ggn, which it
computes from scratch each time; k > 1 multiplies a block of k vectors at once, its own way.

    echo '{"model":"mlp","op":"ggn","precision":"float32","threads":1,"reps":5}' \\
        | python curvlinops_products.py
"""

from collections.abc import Callable
from importlib.metadata import version

from serve import serve  # first: it sets the environment that torch reads

import curvlinops
import models
import torch
from torch import Tensor, nn

OPERATORS = {"hvp": curvlinops.HessianLinearOperator, "ggn": curvlinops.GGNLinearOperator}


def prepare(model: str, op: str, dtype: torch.dtype, k: int) -> Callable[[], Tensor]:
    inner = models.build(model)
    v = torch.tensor(models.direction(inner, k)).to(dtype).T.contiguous()
    network = (models.OneRow(inner) if model == "gpt" else inner).to(dtype)
    x, y = (torch.tensor(a) for a in models.data(model))
    operator = OPERATORS[op](
        network,
        nn.CrossEntropyLoss(),
        list(network.parameters()),
        [(x.to(dtype) if x.is_floating_point() else x, y.flatten())],
        check_deterministic=False,
    )
    vectors = v[:, 0] if k == 1 else v
    return lambda: operator @ vectors


if __name__ == "__main__":
    peer = f"curvlinops {version('curvlinops-for-pytorch')} on torch {torch.__version__}"
    serve(peer, prepare)
