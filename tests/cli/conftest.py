"""Runs commands in this process, and puts back what they set for the whole of it."""

import logging
import os
from collections.abc import Callable, Iterator

import pytest
from typer.testing import CliRunner, Result

from clipsr_cli.cli import app

PLAIN = {"COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"}


@pytest.fixture(scope="session")
def run() -> Callable[..., Result]:
    """Runs ``clipsr`` with arguments of any type: ``run("upscale", path, "-s", 8)``."""

    def invoke(*arguments: object) -> Result:
        result = CliRunner(env=PLAIN).invoke(app, [str(argument) for argument in arguments])
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return invoke


@pytest.fixture(autouse=True)
def _put_back() -> Iterator[None]:
    root, ours = logging.getLogger(), logging.getLogger("clipsr_cli")
    handlers, levels = root.handlers[:], (root.level, ours.level)
    offline = os.environ.get("HF_HUB_OFFLINE")
    yield
    root.handlers[:] = handlers
    root.setLevel(levels[0])
    ours.setLevel(levels[1])
    if offline is None:
        os.environ.pop("HF_HUB_OFFLINE", None)
    else:
        os.environ["HF_HUB_OFFLINE"] = offline
