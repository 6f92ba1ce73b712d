"""What is published holds everything the main job needs, and is small enough to be pleasant."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    (path,) = folder.glob("*.whl")
    return path


def test_the_wheel_is_under_60_megabytes_and_complete(wheel):
    from clipsr_cli.weights import registry

    names = zipfile.ZipFile(wheel).namelist()

    assert wheel.stat().st_size < 60e6
    assets = [
        file.removeprefix("builtin:")
        for entry in registry().values()
        for file in (*entry.files, entry.architecture)
        if file.startswith("builtin:")
    ]
    assert len(assets) >= 5
    for asset in [*assets, "lpips-alex.safetensors"]:
        assert f"clipsr_cli/assets/{asset}" in names
    others = ("weights.toml", "py.typed", "reports/page.html")
    assert {f"clipsr_cli/{name}" for name in others} <= set(names)


def test_an_installed_wheel_finds_its_registry_and_weights(wheel, tmp_path):
    """Unpacked far from the checkout, as an installation is."""
    zipfile.ZipFile(wheel).extractall(tmp_path)
    code = (
        "import clipsr_cli, clipsr_cli.weights as w; print(clipsr_cli.__file__);"
        "print(w.find_generator('clipsr-mini', 16), *w.find_clip('clipsr-clip-mini'))"
    )

    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": str(tmp_path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )

    assert done.stdout.count(str(tmp_path)) == 4
