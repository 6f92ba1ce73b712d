"""What tests of training share."""

import json

import numpy as np
import pytest
from PIL import Image

from clipsr_cli.training.config import Source


@pytest.fixture(scope="session")
def source(tmp_path_factory):
    """Twelve small pictures, eleven with two captions each, some of them held back."""
    root = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    rows = []
    for index in range(12):
        name = f"{index}.png"
        pixels = rng.integers(0, 256, (12, 14, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((84, 72), Image.Resampling.BICUBIC).save(root / name)
        rows.append({"file_name": name, "text": [f"picture {index}", f"number {index}"]})
    rows[3]["text"] = []
    (root / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return Source(root=root, held_back=0.3)
