"""The conversation with the driver: one measurement a line, so that peers can be interleaved.

Request   {"model": "mlp", "op": "hvp", "precision": "float32", "threads": 1, "reps": 5}
          optional: "save": FILE.npy, where the product is written; "k": vectors at once (default 1)
Answer    {..., "times": [seconds, ...], "median": seconds, "peer": "torch 2.13.0"}
          or {"error": "..."}

On one line each. What a product needs beforehand (the network, the retained graph) is built, and
run once, outside the timing, and is kept until another one is asked for.
"""

import json
import os
import statistics
import sys
import time
from collections.abc import Callable

# Spinning OpenMP threads make two threads slower than one; read when torch is loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("KMP_BLOCKTIME", "0")

import numpy as np  # noqa: E402
import torch  # noqa: E402

DTYPES = {"float32": torch.float32, "float64": torch.float64}


def serve(peer: str, prepare: Callable[[str, str, torch.dtype, int], Callable]) -> None:
    """Answers requests on stdin until it ends. `prepare(model, op, dtype, k)` gives a function
    without arguments that computes the product, as a tensor (P,) or (P, k)."""
    prepared = {}
    print(json.dumps({"peer": peer, "ready": True}), flush=True)
    for line in sys.stdin:
        try:
            request = json.loads(line)
            key = request["model"], request["op"], request["precision"], request.get("k", 1)
            torch.set_num_threads(request["threads"])
            if key not in prepared:
                prepared.clear()  # one at a time: retained graphs are large
                prepared[key] = prepare(key[0], key[1], DTYPES[key[2]], key[3])
                prepared[key]()
            times = []
            for _ in range(request["reps"]):
                start = time.perf_counter()
                result = prepared[key]()
                times.append(time.perf_counter() - start)
            if "save" in request:
                np.save(request["save"], result.detach().numpy())
            answer = {**request, "times": times, "median": statistics.median(times), "peer": peer}
        except Exception as error:  # the driver decides whether to go on
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), flush=True)
