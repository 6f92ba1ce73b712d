"""Whatever a picture file holds, it is read or refused: no crash, no hang, nothing elsewhere."""

import importlib.util
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
CASES = 320


def load(name):
    spec = importlib.util.spec_from_file_location(name, TESTS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    # Where its dataclasses look for it.
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


fuzzing, killing = load("fuzzing"), load("killing")


def test_a_broken_file_of_any_kind_is_read_or_refused_and_nothing_else(tmp_path):
    model = killing.write_model(tmp_path / "model")

    tally = fuzzing.fuzz(tmp_path / "cases", model, seed=0, cases=CASES)

    assert not tally.faults, "\n".join(tally.faults)
    assert tally.cases.total() == CASES
    assert set(tally.cases) == set(fuzzing.originals())
    # Neither so harmless that all decode, nor so coarse that none gets beyond its header.
    assert min(tally.decoded, tally.refused) > CASES / 8


def test_a_case_is_the_same_file_every_time():
    assert fuzzing.mutated(3, 5) == fuzzing.mutated(3, 5)
    assert fuzzing.mutated(3, 5) != fuzzing.mutated(4, 5)


@pytest.mark.parametrize(
    ("wrong", "kind"),
    [
        # No Exception, or it would be made an ImageError.
        ("raise GeneratorExit('strange')", "oddities"),
        ("__import__('os').abort()", "crashes"),
        ("__import__('time').sleep(600)", "hangs"),
    ],
)
def test_what_goes_wrong_is_seen_and_the_rest_goes_on(tmp_path, monkeypatch, wrong, kind):
    model = killing.write_model(tmp_path / "model")
    # Python runs this file at its start: one picture then goes wrong when it is first opened.
    (tmp_path / "sitecustomize.py").write_text(
        "import PIL.Image as image\n"
        "plain, seen = image.open, set()\n"
        "def opened(path, *arguments, **options):\n"
        "    if str(path).endswith('000001.png') and path not in seen:\n"
        "        seen.add(path)\n"
        f"        {wrong}\n"
        "    return plain(path, *arguments, **options)\n"
        "image.open = opened\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(fuzzing, "PATIENCE", 15)

    tally = fuzzing.fuzz(tmp_path / "cases", model, seed=0, cases=4)

    assert len(getattr(tally, kind)) == len(tally.faults) == 1
    assert f"python tests/fuzzing.py 0 1  ({tmp_path}" in tally.faults[0]
    assert (tmp_path / "cases" / "faults" / "000001.png").is_file()
    assert tally.cases.total() == (4 if kind == "oddities" else 3)
