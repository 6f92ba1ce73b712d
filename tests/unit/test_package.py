"""Importing the package costs nothing, and its public names are all there."""

import subprocess
import sys

import pytest

import clipsr_cli


def test_importing_the_package_loads_no_library():
    code = (
        "import sys, clipsr_cli; "
        "print(sorted({'torch','numpy','PIL','open_clip','typer'} & set(sys.modules)))"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"


def test_every_public_name_is_there_and_unknown_ones_are_not():
    for name in clipsr_cli.__all__:
        assert getattr(clipsr_cli, name) is not None
    assert set(clipsr_cli.__all__) <= set(dir(clipsr_cli))
    with pytest.raises(AttributeError, match="upscaler"):
        _ = clipsr_cli.upscaler
