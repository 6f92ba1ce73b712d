"""What interrupted runs and broken files do, in numbers: none of it may harm an output.

python benchmarks/faults.py [--kills 200] [--cases 5000] [--seed 0]

Runs of the command line are ended at random moments, mostly by SIGKILL, until so many have been;
and so many mutated picture files are read and enlarged. The same is done in small by
tests/e2e/test_faults.py and test_fuzz.py. The last line is a JSON object of figures; the exit code
is 1 where anything was wrong.
"""

import argparse
import importlib.util
import json
import sys
import tempfile
from pathlib import Path
from types import ModuleType

TESTS = Path(__file__).parents[1] / "tests"


def load(name: str) -> ModuleType:
    """A module that lies with the tests."""
    spec = importlib.util.spec_from_file_location(name, TESTS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Where its dataclasses look for it.
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--cases", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    killing, fuzzing = load("killing"), load("fuzzing")
    folder = Path(tempfile.mkdtemp(prefix="clipsr-faults-"))
    (folder / "kills").mkdir()
    killed = killing.kill_again_and_again(folder / "kills", kills=asked.kills, seed=asked.seed)
    read = fuzzing.fuzz(
        folder / "cases",
        folder / "kills" / "model" / "weights.toml",
        seed=asked.seed,
        cases=asked.cases,
    )
    faults = [*killed.faults, *read.faults]
    for fault in faults:
        print(fault, file=sys.stderr)
    print(f"Everything is kept in {folder}", file=sys.stderr)
    row = (
        vars(killed)
        | {"faults": len(killed.faults)}
        | {
            "cases": dict(read.cases),
            "decoded": read.decoded,
            "refused": read.refused,
            "crashes": len(read.crashes),
            "hangs": len(read.hangs),
            "oddities": len(read.oddities),
        }
    )
    print(json.dumps(row))
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
