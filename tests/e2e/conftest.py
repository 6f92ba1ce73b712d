"""What the tests of several workers compare: the same pictures, and what a run leaves behind."""

import json
from pathlib import Path

import pytest
from PIL import Image


@pytest.fixture(scope="session")
def write_pictures():
    """Writes so many small pictures of three shapes, one with a prompt beside it, into a folder."""

    def write(folder, count):
        folder.mkdir()
        for index in range(count):
            small = Image.new("RGB", (2, 2))
            small.putdata([(index * 19, 90, 200), (240, 9, 10), (5, 130, index * 9), (99, 99, 0)])
            size = (48 + 4 * (index % 3), 40)
            small.resize(size, Image.Resampling.BICUBIC).save(folder / f"{index:02}.png")
        (folder / "03.txt").write_text("a red bird")

    return write


@pytest.fixture(scope="session")
def outputs():
    """The files of a folder under their own names, and what is in them."""

    def read(folder):
        if not folder.is_dir():
            return {}
        return {p.name: p.read_bytes() for p in folder.iterdir() if not p.name.startswith(".")}

    return read


@pytest.fixture(scope="session")
def rows():
    """The rows of a report without what differs from run to run: the time, and the folder."""

    def read(report, folder):
        found = set()
        for line in report.read_text().splitlines():
            row = json.loads(line)
            del row["seconds"]
            row["output"] = str(Path(row["output"]).relative_to(folder))
            found.add(json.dumps(row, sort_keys=True))
        return found

    return read
