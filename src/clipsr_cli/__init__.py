"""clipsr: enlarge images 4, 8 or 16 times, guided by words.

Public names are loaded when they are first used, so that importing the package costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from clipsr_cli.checkpoints import load_generator as load_generator
    from clipsr_cli.errors import ClipsrError as ClipsrError
    from clipsr_cli.jobs import Done as Done
    from clipsr_cli.jobs import Failed as Failed
    from clipsr_cli.jobs import Job as Job
    from clipsr_cli.jobs import Skipped as Skipped
    from clipsr_cli.jobs import plan as plan
    from clipsr_cli.models.clip import Clip as Clip
    from clipsr_cli.pictures import Picture as Picture
    from clipsr_cli.upscale_options import UpscaleOptions as UpscaleOptions
    from clipsr_cli.upscaling import Upscaler as Upscaler

__version__ = "0.1.0"

_HOMES = {
    "Clip": "models.clip",
    "ClipsrError": "errors",
    "Done": "jobs",
    "Failed": "jobs",
    "Job": "jobs",
    "Picture": "pictures",
    "Skipped": "jobs",
    "UpscaleOptions": "upscale_options",
    "Upscaler": "upscaling",
    "load_generator": "checkpoints",
    "plan": "jobs",
}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'clipsr_cli' has no attribute {name!r}")
    return getattr(import_module(f"clipsr_cli.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
