"""Reading of feature arrays from separate files."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pres_dist.errors import DataError
from pres_dist.files import open_regular


def read_array(file: Path) -> np.ndarray:
    """Memory-map the two-dimensional numbers of a .npy file; never unpickles."""
    try:
        open_regular(file).close()
        array = np.load(file, mmap_mode="r", allow_pickle=False)
    except OSError as error:
        raise DataError(f"{file}: cannot be read: {error.strerror or error}") from None
    except Exception as error:  # numpy's header parser raises many kinds of errors
        raise DataError(f"{file}: cannot be read as .npy: {error}") from None
    if not isinstance(array, np.ndarray):
        raise DataError(f"{file}: must be a .npy file, got an .npz archive")
    return _numbers(array, file)


def read_tensor(file: Path) -> np.ndarray:
    """Load the two-dimensional tensor of a .pt file without running its pickle."""
    import torch

    from pres_dist.tensor_files import load_tensors

    try:
        tensor = load_tensors(file)
        if isinstance(tensor, torch.Tensor) and not tensor.is_complex():
            return _numbers(tensor.detach().to(torch.float32).numpy(), file)
    except DataError:
        raise
    except Exception as error:  # damaged archives and sparse tensors raise many kinds of errors
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise DataError(f"{file}: cannot be read as a tensor: {reason}") from None
    found = f"{tensor.dtype}" if isinstance(tensor, torch.Tensor) else type(tensor).__name__
    raise DataError(f"{file}: must hold one tensor of real numbers, got {found}")


def _numbers(array: np.ndarray, file: Path) -> np.ndarray:
    if array.ndim != 2 or array.dtype.kind not in "iufb" or 0 in array.shape:
        raise DataError(
            f"{file}: must hold numbers of shape [rows, features], "
            f"got {array.dtype} of shape {array.shape}"
        )
    return array
