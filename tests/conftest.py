"""Small pictures, a tiny random CLIP and a tiny random generator, for every test."""

import importlib.util
import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

# Before torch reads it, and for every process that a test starts. The networks here are tiny: a
# second thread gains nothing, and where other work shares the cores, each waits for the other.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# What is started in the background has Ctrl-C ignored, and so would all have that a test starts
# and interrupts. Only the main thread may change that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    with suppress(ValueError):
        signal.signal(signal.SIGINT, signal.default_int_handler)

import numpy as np
import pytest
import torch
from PIL import Image

from clipsr_cli.evaluation.report import Report, Row
from clipsr_cli.metrics import METRICS
from clipsr_cli.models.clip import Clip
from clipsr_cli.models.generator import Generator, GeneratorConfig

TESTS = Path(__file__).parent
DATA = TESTS / "data"
# What people set for themselves, and what would let a test see the machine's own cache or token.
SETTINGS = (
    *("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"),
    *("HF_ENDPOINT", "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "CLIPSR_WEIGHTS"),
)


@pytest.fixture(scope="session", autouse=True)
def bare_machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No settings of the machine's, and an empty cache, for the tests and what they start."""
    with pytest.MonkeyPatch.context() as patch:
        for name in SETTINGS:
            patch.delenv(name, raising=False)
        patch.setenv("HF_HOME", str(tmp_path_factory.mktemp("hf")))
        yield


@pytest.fixture(scope="session")
def tiny_clip() -> Clip:
    """A random CLIP of the real format: 3 blocks, a 4 x 4 grid, 32 wide."""
    torch.manual_seed(0)
    return Clip.create(DATA / "tiny-clip.json")


@pytest.fixture(scope="session")
def make_generator(tiny_clip: Clip) -> Callable[..., Generator]:
    """Builds a tiny generator whose every layer has an effect (as built, many are the identity)."""

    def make(scale: int = 4, **settings: object) -> Generator:
        torch.manual_seed(1)
        config = GeneratorConfig(
            scale=scale,
            **(
                {
                    "widths": (8, 8, 8, 16),
                    "encoder_blocks": (1, 1, 1, 1),
                    "decoder_blocks": (1, 1, 1, 1),
                    "head_widths": (8, 8),
                    "text_hidden": 8,
                    "prompts": 2,
                }
                | settings
            ),
        )
        generator = Generator(config, tiny_clip)
        with torch.no_grad():
            for parameter in generator.parameters():
                if parameter.requires_grad:
                    parameter.add_(0.05 * torch.randn_like(parameter))
        return generator.eval()

    return make


@pytest.fixture
def hub_server(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Any]:
    """A small Hub on loopback (``hub_server.py``), an empty cache, and no wait between tries."""
    spec = importlib.util.spec_from_file_location("hub_server", TESTS / "hub_server.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["hub_server"] = module
    spec.loader.exec_module(module)
    monkeypatch.setenv("HF_HOME", str(tmp_path_factory.mktemp("hf")))
    # Read when the client is imported, which a test before may have had done.
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", "/nonexistent/token")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True, raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    with module.HubServer() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.endpoint)
        yield server


@pytest.fixture
def photo() -> Callable[..., Path]:
    """Writes a small colourful picture: ``photo(path, width=..., height=..., seed=...)``."""

    def write(
        path: Path, *, width: int = 24, height: int = 16, seed: int = 0, mode: str = "RGB"
    ) -> Path:
        rng = np.random.default_rng(seed)
        coarse = rng.integers(0, 256, (4, 4, 3), dtype=np.uint8)
        image = (
            Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC).convert(mode)
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        image.save(path)
        return path

    return write


@pytest.fixture(scope="session")
def make_report() -> Callable[..., Report]:
    """Builds a report from scores by model and metric, one for each picture."""

    def make(
        scores: Mapping[str, Mapping[str, Sequence[float | None]]],
        *,
        names: Sequence[str] | None = None,
        prompt: str = "a red bird",
        caption: str = "a red bird",
        **fields: object,
    ) -> Report:
        metrics = list(dict.fromkeys(name for own in scores.values() for name in own))
        count = max((len(column) for own in scores.values() for column in own.values()), default=0)
        names = names or [f"{index:03}" for index in range(count)]
        rows = {
            model: [
                Row(
                    name=name,
                    prompt=prompt,
                    caption=caption,
                    scores={metric: column[index] for metric, column in own.items()},
                )
                for index, name in enumerate(names)
            ]
            for model, own in scores.items()
        }
        fields = {
            "dataset": "birds",
            "split": "test",
            "scale": 4,
            "protocol": {"scale": 4, "border": 0, "box": None},
            "metrics": {name: METRICS[name] for name in metrics},
        } | fields
        return Report(rows=rows, **fields)

    return make


@pytest.fixture
def flat_pictures(tmp_path: Path) -> Callable[..., Callable[[str, str], Path]]:
    """Writes pictures of one colour each, ``flat_pictures(report, {kind: colour})``, and gives the
    function that finds them by kind and name. The small one is a quarter as large.
    """

    def write(
        report: Report, colours: Mapping[str, object], size: tuple[int, int] = (128, 128)
    ) -> Callable[[str, str], Path]:
        # Names may hold what no file can be called.
        names = [row.name for rows in report.rows.values() for row in rows]
        folder = tmp_path / "pictures"
        folder.mkdir()
        for kind, colour in colours.items():
            of_kind = tuple(side // 4 for side in size) if kind == "low" else size
            path = folder / f"{list(colours).index(kind)}.png"
            Image.new("RGB", of_kind, colour).save(path)

        def find(kind: str, name: str) -> Path:
            assert name in names
            known = list(colours)
            return folder / (f"{known.index(kind)}.png" if kind in known else "none.png")

        return find

    return write
