"""``clipsr env``: what clipsr finds on this machine."""

from typing import Any

from clipsr_cli.cli import console
from clipsr_cli.cli.options import Json

LIBRARIES = (
    "torch",
    "torchvision",
    "open_clip_torch",
    "pillow",
    "pyvips",
    "safetensors",
    "huggingface-hub",
)


def env(json: Json = False) -> None:
    """Show versions, devices and what "auto" picks, cache folders, and which models are present."""
    found = _look()
    if json:
        console.print_json(found)
        return
    rows = []
    for name, value in found.items():
        if isinstance(value, dict):
            rows += [(f"{name}: {key}", item) for key, item in value.items()]
        else:
            rows.append((name, ", ".join(value) if isinstance(value, list) else value))
    console.out().print(console.table(("", ""), rows))


def _look() -> dict[str, Any]:
    import platform
    from importlib.metadata import PackageNotFoundError, version

    import torch

    from clipsr_cli import __version__
    from clipsr_cli.hub import cache_folder
    from clipsr_cli.runtime import describe_device, pick_device, pick_precision
    from clipsr_cli.weights import registry

    def version_of(name: str) -> str:
        try:
            return version(name)
        except PackageNotFoundError:
            return "not installed"

    device = pick_device("auto")
    cuda = range(torch.cuda.device_count() if torch.cuda.is_available() else 0)
    return {
        "clipsr": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "libraries": {name: version_of(name) for name in LIBRARIES},
        "devices": ["cpu"]
        + [describe_device(torch.device("cuda", index)) for index in cuda]
        + (["mps"] if torch.backends.mps.is_available() else []),
        "auto_device": describe_device(device),
        "auto_precision": pick_precision("auto", device),
        "cache": str(cache_folder()),
        "models": {
            name: "present" if entry.present else "missing" for name, entry in registry().items()
        },
    }
