"""Plain PyTorch, as an expert writes it, one measurement a line on stdin (protocol: serve.py).

gradient       one backward pass
hvp            double backward from scratch: forward, gradient with its graph, one more backward
hvp-retained   the gradient's graph kept between products: only the second backward
ggn            J v by forward mode, the loss's Hessian, J^T by reverse mode, from scratch
ggn-retained   J v and J^T through graphs that are kept

    echo '{"model":"mlp","op":"hvp","precision":"float32","threads":1,"reps":5}' \\
        | python torch_products.py
"""

from collections.abc import Callable

from serve import serve  # first: it sets the environment that torch reads

import models
import torch
import torch.nn.functional as F
from torch import Tensor


class Network:
    """A network, its batch and one direction, in one precision."""

    def __init__(self, name: str, dtype: torch.dtype) -> None:
        inner = models.build(name)
        self.v = torch.tensor(models.direction(inner)[0]).to(dtype)
        self.model = (models.OneRow(inner) if name == "gpt" else inner).to(dtype)
        x, y = models.data(name)
        self.x, self.y = torch.tensor(x), torch.tensor(y).flatten()
        if self.x.is_floating_point():
            self.x = self.x.to(dtype)
        self.parameters = list(self.model.parameters())
        sizes = [p.numel() for p in self.parameters]
        self.parts = [t.view_as(p) for t, p in zip(self.v.split(sizes), self.parameters)]

    def loss(self, z: Tensor) -> Tensor:
        return F.cross_entropy(z, self.y)

    def gradient(self, **options) -> tuple[Tensor, ...]:
        return torch.autograd.grad(self.loss(self.model(self.x)), self.parameters, **options)


def flat(tensors: tuple[Tensor, ...]) -> Tensor:
    return torch.cat([t.reshape(-1) for t in tensors])


def gradient(net: Network) -> Callable[[], Tensor]:
    return lambda: flat(net.gradient())


def hvp(net: Network) -> Callable[[], Tensor]:
    def product() -> Tensor:
        g = net.gradient(create_graph=True)
        return flat(torch.autograd.grad(g, net.parameters, net.parts, materialize_grads=True))

    return product


def hvp_retained(net: Network) -> Callable[[], Tensor]:
    g = net.gradient(create_graph=True)
    options = {"retain_graph": True, "materialize_grads": True}
    return lambda: flat(torch.autograd.grad(g, net.parameters, net.parts, **options))


def ggn(net: Network) -> Callable[[], Tensor]:
    names = [name for name, _ in net.model.named_parameters()]
    values, parts = tuple(p.detach() for p in net.parameters), tuple(net.parts)

    def outputs(*parameters: Tensor) -> Tensor:
        return torch.func.functional_call(net.model, dict(zip(names, parameters)), (net.x,))

    def product() -> Tensor:
        z, jv = torch.func.jvp(outputs, values, parts)
        _, hjv = torch.func.jvp(torch.func.grad(net.loss), (z,), (jv,))
        _, transpose = torch.func.vjp(outputs, *values)
        return flat(transpose(hjv))

    return product


def ggn_retained(net: Network) -> Callable[[], Tensor]:
    z = net.model(net.x)
    u = torch.zeros_like(z, requires_grad=True)
    transposed = torch.autograd.grad(z, net.parameters, u, create_graph=True)
    leaf = z.detach().requires_grad_()
    (slope,) = torch.autograd.grad(net.loss(leaf), leaf, create_graph=True)

    def product() -> Tensor:
        (jv,) = torch.autograd.grad(transposed, u, net.parts, retain_graph=True)
        (hjv,) = torch.autograd.grad(slope, leaf, jv, retain_graph=True)
        return flat(torch.autograd.grad(z, net.parameters, hjv, retain_graph=True))

    return product


OPS = {
    "gradient": gradient,
    "hvp": hvp,
    "hvp-retained": hvp_retained,
    "ggn": ggn,
    "ggn-retained": ggn_retained,
}


def prepare(model: str, op: str, dtype: torch.dtype, k: int) -> Callable[[], Tensor]:
    if k != 1:
        raise ValueError(f"{op}: one vector at a time, not k = {k}")
    return OPS[op](Network(model, dtype))


if __name__ == "__main__":
    serve(f"torch {torch.__version__}", prepare)
