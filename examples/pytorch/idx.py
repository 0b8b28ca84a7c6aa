"""Reading and writing IDX, the format in which MNIST is distributed."""

from pathlib import Path

import numpy as np

HEADERS = {1: b"\0\0\x08\x01", 3: b"\0\0\x08\x03"}  # unsigned bytes, 1 or 3 axes


def read_idx(path: Path) -> np.ndarray:
    """The uint8 array in an IDX file of labels (N,) or images (N, rows, columns)."""
    raw = path.read_bytes()
    if raw[:4] not in HEADERS.values():
        raise ValueError(f"{path}: expected an IDX file of unsigned bytes with 1 or 3 axes")
    rank = raw[3]
    shape = np.frombuffer(raw, ">i4", rank, 4)
    return np.frombuffer(raw, np.uint8, int(np.prod(shape)), 4 + 4 * rank).reshape(shape)


def write_idx(path: Path, array: np.ndarray) -> None:
    """Writes a uint8 array with 1 or 3 axes."""
    header = HEADERS[array.ndim] + np.asarray(array.shape, ">i4").tobytes()
    path.write_bytes(header + np.ascontiguousarray(array, np.uint8).tobytes())
