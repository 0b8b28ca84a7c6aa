"""Spectral quantities by the peers, one a line on stdin; driven by bench/spectral.mjs.

Request   {"peer": "scipy", "task": "eigenvalues", "model": "lenet", "precision": "float32",
          "threads": 2, "out": FOLDER, ...} and what the task takes (see its function)
Answer    {"seconds": s, "products": n, ...} and what the task found, or {"error": "..."}

Arrays lie in FOLDER as raw float64. Seconds are those of the whole task, the peer's operator and
its retained graphs included; network and data are made, and used once, before.
"""

import json
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

from serve import DTYPES  # first: it sets the environment that torch reads

import curvlinops
import hessian_eigenthings as eigenthings
import models
import numpy as np
import pyhessian
import scipy.sparse.linalg
import torch
from curvlinops.trace.epperly2024xtrace import xtrace
from curvlinops.trace.hutchinson import hutchinson_trace
from curvlinops.trace.meyer2020hutch import hutchpp_trace
from torch import Tensor, nn


class Network:
    """A network with its batch, and a count of the products with it."""

    def __init__(self, model: str, dtype: torch.dtype, samples: int | None = None) -> None:
        x, y = models.data(model)
        self.model = models.build(model).to(dtype)
        self.x, self.y = torch.tensor(x[:samples]).to(dtype), torch.tensor(y[:samples])
        self.parameters = list(self.model.parameters())
        self.dtype, self.criterion = dtype, nn.CrossEntropyLoss()
        self.products = 0
        outputs = self.model(self.x)
        torch.autograd.grad(self.criterion(outputs, self.y), self.parameters)

    def arguments(self) -> tuple:
        return self.model, self.criterion, self.parameters, [(self.x, self.y)]


# One operator a peer and matrix, each counting its products.


class Counted:
    """Of curvlinops. Blocks of vectors go in pieces of a few, which is faster on a processor and
    takes less memory than all at once."""

    def __init__(self, net: Network, damping: float = 0.0, width: int = 4) -> None:
        super().__init__(*net.arguments(), check_deterministic=False)
        self.net, self.damping, self.width = net, damping, width

    def _matmat(self, columns: list[Tensor]) -> list[Tensor]:
        self.net.products += columns[0].shape[-1]
        pieces = zip(*(c.split(self.width, dim=-1) for c in columns))
        done = [super(Counted, self)._matmat(list(piece)) for piece in pieces]
        joined = [torch.cat(parts, dim=-1) for parts in zip(*done)]
        return [a + self.damping * c for a, c in zip(joined, columns)] if self.damping else joined


class CurvlinopsHessian(Counted, curvlinops.HessianLinearOperator):
    pass


class CurvlinopsGGN(Counted, curvlinops.GGNLinearOperator):
    pass


CURVLINOPS = {"hessian": CurvlinopsHessian, "ggn": CurvlinopsGGN}


def eigenthings_operator(net: Network, matrix: str) -> eigenthings.CurvatureOperator:
    data = [(net.x, net.y)]
    if matrix == "hessian":
        loss = eigenthings.supervised_loss(net.criterion)
        operator = eigenthings.HessianOperator(net.model, data, loss)
    else:
        loss = eigenthings.supervised_loss_of_output(net.criterion)
        forward = eigenthings.supervised_forward
        operator = eigenthings.GGNOperator(net.model, data, forward, loss)

    def product(v: Tensor) -> Tensor:
        net.products += 1
        return operator.matvec(v).detach()

    return eigenthings.LambdaOperator(product, operator.size, dtype=net.dtype)


def pyhessian_operator(net: Network) -> pyhessian.hessian:
    def counted(*arguments) -> tuple[Tensor, ...]:
        net.products += 1
        return pyhessian.utils.hessian_vector_product(*arguments)

    sys.modules["pyhessian.hessian"].hessian_vector_product = counted
    net.model.zero_grad(set_to_none=True)
    return pyhessian.hessian(net.model, net.criterion, data=(net.x, net.y), cuda=False)


def symmetric_eig(matrix: Tensor, eigenvectors: bool) -> tuple[Tensor, Tensor]:
    """What PyHessian 0.1 asks of torch.eig, which torch has no more."""
    values, vectors = torch.linalg.eigh(matrix)
    return values[:, None], vectors


torch.eig = symmetric_eig


# The tasks. Each takes a network and the request and gives numbers and arrays; products are
# counted, or those that it says.


def scipy_eigenvalues(net: Network, request: dict) -> dict:
    """ARPACK over curvlinops' operator: k, tol, basis."""
    operator = CURVLINOPS[request["matrix"]](net).to_scipy(np.dtype(request["precision"]))
    values, vectors = scipy.sparse.linalg.eigsh(
        operator, k=request["k"], which="LM", tol=request["tol"], ncv=request.get("basis")
    )
    order = np.argsort(-np.abs(values))
    return {"values": values[order], "vectors": vectors.T[order]}


def pyhessian_eigenvalues(net: Network, request: dict) -> dict:
    """Power iteration with deflation, at its defaults: k."""
    values, vectors = pyhessian_operator(net).eigenvalues(top_n=request["k"])
    rows = [torch.cat([part.flatten() for part in vector]).numpy() for vector in vectors]
    return {"values": np.array(values), "vectors": np.stack(rows)}


def eigenthings_eigenvalues(net: Network, request: dict) -> dict:
    """k, steps, reorthogonalize (null: its default, on up to 50 steps)."""
    operator = eigenthings_operator(net, request["matrix"])
    found = eigenthings.lanczos(
        operator,
        k=request["k"],
        max_iter=request["steps"],
        reorthogonalize=request["reorthogonalize"],
        seed=0,
    )
    return {"values": found.eigenvalues.numpy(), "vectors": found.eigenvectors.numpy()}


TRACES = {"hutchinson": hutchinson_trace, "hutch++": hutchpp_trace, "xtrace": xtrace}


def curvlinops_trace(net: Network, request: dict) -> dict:
    """method, budget in products."""
    operator = CURVLINOPS[request["matrix"]](net)
    return {"value": TRACES[request["method"]](operator, request["budget"]).item()}


def pyhessian_trace(net: Network, request: dict) -> dict:
    """Its stop rule, which is no error, is turned off."""
    found = pyhessian_operator(net).trace(maxIter=request["budget"], tol=float("-inf"))
    return {"value": float(np.mean(found))}


def eigenthings_trace(net: Network, request: dict) -> dict:
    operator = eigenthings_operator(net, request["matrix"])
    budget = request["budget"]
    found = eigenthings.trace(operator, num_matvecs=budget, method=request["method"], seed=0)
    return {"value": found.estimate, "standardError": found.stderr}


def measured(nodes: list, weights: list, threshold: float) -> dict:
    """Second moment, with the standard error over probes, and share above the threshold of a mean
    of discrete measures."""
    pairs = [(np.asarray(n, float), np.asarray(w, float)) for n, w in zip(nodes, weights)]
    moments = [np.sum(w * n**2) for n, w in pairs]
    return {
        "moment": float(np.mean(moments)),
        "momentError": float(np.std(moments, ddof=1) / np.sqrt(len(moments))),
        "above": float(np.mean([np.sum(w[n > threshold]) for n, w in pairs])),
    }


def smoothed(grid: Tensor, density: Tensor, threshold: float) -> dict:
    """The same of a density on a grid."""
    x, p = grid.double().numpy(), density.double().numpy()
    return {
        "smoothedMoment": float(np.trapezoid(p * x**2, x)),
        "smoothedAbove": float(np.trapezoid(np.where(x > threshold, p, 0), x)),
    }


def curvlinops_density(net: Network, request: dict) -> dict:
    """probes, steps, threshold, boundaries: its own estimate of them, ARPACK to a tolerance relative
    to each eigenvalue, does not end on a singular matrix such as this."""
    operator = CURVLINOPS[request["matrix"]](net)
    cached = curvlinops.LanczosApproximateSpectrumCached(
        operator, request["steps"], boundaries=request["boundaries"]
    )
    grid, density = cached.approximate_spectrum(num_repeats=request["probes"])
    rules = cached._lanczos_iters
    nodes, weights = [v for v, _ in rules], [u[0] ** 2 for _, u in rules]
    threshold = request["threshold"]
    return {**measured(nodes, weights, threshold), **smoothed(grid, density, threshold)}


def pyhessian_density(net: Network, request: dict) -> dict:
    """Smoothing is no part of the package."""
    nodes, weights = pyhessian_operator(net).density(iter=request["steps"], n_v=request["probes"])
    return measured(nodes, weights, request["threshold"])


def eigenthings_density(net: Network, request: dict) -> dict:
    operator = eigenthings_operator(net, request["matrix"])
    found = eigenthings.spectral_density(
        operator, num_runs=request["probes"], lanczos_steps=request["steps"], seed=0
    )
    threshold = request["threshold"]
    nodes = measured(found.raw_eigenvalues, found.raw_weights, threshold)
    return {**nodes, **smoothed(found.grid, found.density, threshold)}


def backpack_diagonal(net: Network, request: dict) -> dict:
    """BackPACK; curvlinops 3.0.1 has no exact diagonal."""
    from backpack import backpack, extend
    from backpack.extensions import DiagGGNExact

    model, criterion = extend(net.model), extend(net.criterion)
    with backpack(DiagGGNExact()):
        criterion(model(net.x), net.y).backward()
    diagonal = torch.cat([p.diag_ggn_exact.flatten() for p in net.parameters])
    return {"diagonal": diagonal.numpy(), "products": len(net.x) * 10}


def curvlinops_kfac(net: Network, request: dict) -> dict:
    """Factors of type-2 KFAC-expand, weights and biases apart; a block's trace for each tensor."""
    operator = curvlinops.KFACLinearOperator(
        *net.arguments(),
        check_deterministic=False,
        fisher_type=curvlinops.FisherType.TYPE2,
        kfac_approx=curvlinops.KFACType.EXPAND,
        separate_weight_and_bias=True,
    )
    operator.compute_kronecker_factors()
    norms = np.zeros((len(net.parameters), 2))
    for name, positions in operator._mapping.items():
        b = operator._gradient_covariances[name]
        for kind, at in positions.items():
            a = operator._input_covariances[name] if kind == "weight" else torch.ones(1, 1)
            norms[at] = [(a.trace() * b.trace()).item(), (a.norm() * b.norm()).item()]
    return {"norms": norms, "products": len(net.x) * 10}


def curvlinops_solve(net: Network, request: dict) -> dict:
    """damping, tol. Its guards against small denominators are absolute, and off here: with the
    default of 1e-10 the residual stops falling near 1e-5."""
    inverse = curvlinops.CGInverseLinearOperator(
        CurvlinopsGGN(net, request["damping"]),
        tolerance=request["tol"],
        max_iter=1000,
        max_tridiag_iter=0,
        eps=0.0,
        stop_updating_after=0.0,
    )
    return {"solution": (inverse @ torch.tensor(right_side(request)).to(net.dtype)).numpy()}


def scipy_solve(net: Network, request: dict) -> dict:
    """SciPy's CG over curvlinops' operator."""
    operator = CurvlinopsGGN(net, request["damping"]).to_scipy(np.dtype(request["precision"]))
    b = right_side(request).astype(request["precision"])
    return {"solution": scipy.sparse.linalg.cg(operator, b, rtol=request["tol"])[0]}


def right_side(request: dict) -> np.ndarray:
    return np.fromfile(Path(request["out"]) / "gradient.bin")


def curvlinops_empirical(net: Network, request: dict) -> dict:
    """The empirical Fisher of mse with mean reduction, on random targets, times one direction."""
    y = torch.tensor(np.fromfile(Path(request["out"]) / "targets.bin")).to(net.dtype)
    data = [(net.x, y.reshape(len(net.x), -1))]
    operator = curvlinops.EFLinearOperator(
        net.model, nn.MSELoss(), net.parameters, data, check_deterministic=False
    )
    v = torch.tensor(models.direction(net.model)[0]).to(net.dtype)
    return {"product": (operator @ v).detach().numpy(), "products": 1}


def torch_ntk(net: Network, request: dict) -> dict:
    """torch.func as an expert writes it: rows by jacrev under vmap, one product of matrices."""
    names = [name for name, _ in net.model.named_parameters()]
    values = {name: p.detach() for name, p in zip(names, net.parameters)}

    def output(parameters: dict[str, Tensor], x: Tensor) -> Tensor:
        return torch.func.functional_call(net.model, parameters, (x[None],))[0]

    jacobian = torch.func.vmap(torch.func.jacrev(output), (None, 0))(values, net.x)
    rows = torch.cat([jacobian[name].flatten(2) for name in names], 2).flatten(0, 1)
    gram = rows @ rows.T
    torch.linalg.eigvalsh(gram.double())
    return {"matrix": gram.numpy(), "products": len(rows)}


TASKS: dict[tuple[str, str], Callable[[Network, dict], dict]] = {
    ("eigenvalues", "scipy"): scipy_eigenvalues,
    ("eigenvalues", "pyhessian"): pyhessian_eigenvalues,
    ("eigenvalues", "eigenthings"): eigenthings_eigenvalues,
    ("trace", "curvlinops"): curvlinops_trace,
    ("trace", "pyhessian"): pyhessian_trace,
    ("trace", "eigenthings"): eigenthings_trace,
    ("density", "curvlinops"): curvlinops_density,
    ("density", "pyhessian"): pyhessian_density,
    ("density", "eigenthings"): eigenthings_density,
    ("diagonal", "backpack"): backpack_diagonal,
    ("kfac", "curvlinops"): curvlinops_kfac,
    ("solve", "curvlinops"): curvlinops_solve,
    ("solve", "scipy"): scipy_solve,
    ("empirical", "curvlinops"): curvlinops_empirical,
    ("ntk", "torch"): torch_ntk,
}


def main() -> None:
    kept: dict[tuple, Network] = {}
    for line in sys.stdin:
        request = json.loads(line)
        try:
            dtype = DTYPES[request["precision"]]
            torch.set_num_threads(request["threads"])
            key = request["model"], dtype, request.get("samples"), request["task"]
            if key not in kept:
                kept.clear()
                torch.set_default_dtype(torch.float32)  # the weights are drawn in it
                kept[key] = Network(*key[:3])
            net = kept[key]
            torch.set_default_dtype(dtype)  # PyHessian draws its vectors in it
            net.products = 0
            torch.manual_seed(0)
            start = time.perf_counter()
            found = TASKS[request["task"], request["peer"]](net, request)
            seconds = time.perf_counter() - start
            answer = {"seconds": seconds, "products": net.products}
            for name, value in found.items():
                if isinstance(value, np.ndarray):
                    value.astype(np.float64).tofile(Path(request["out"]) / f"{name}.bin")
                else:
                    answer[name] = value
        except Exception as error:  # the driver decides whether to go on
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main()
