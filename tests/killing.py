"""Runs of ``clipsr upscale`` that are ended at random moments, and what is found afterwards.

Starting Python with torch takes seconds. So a server imports everything once, computes nothing, and
forks a child for each run, which goes through the command line as the installed command does. The
server watches the output folder and ends the child when it is told to.
"""

import contextlib
import ctypes
import faulthandler
import json
import os
import random
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
from PIL import Image

DATA = Path(__file__).parent / "data"
MODEL = "tiny"
# Seconds after which a run is taken to hang.
PATIENCE = 60
# Between two looks of the server at a run.
GLANCE = 0.001


# Material


def write_model(folder: Path) -> Path:
    """A tiny random generator for x4 with a tiny random CLIP; gives the registry that names them,
    for the environment's CLIPSR_WEIGHTS.
    """
    # In these functions only: the server imports this file too, and shall import nothing twice.
    import torch
    from safetensors.torch import save_file

    from clipsr_cli.checkpoints import save_generator
    from clipsr_cli.models.clip import Clip
    from clipsr_cli.models.generator import Generator, GeneratorConfig

    folder.mkdir(parents=True)
    torch.manual_seed(0)
    clip = Clip.create(DATA / "tiny-clip.json")
    config = GeneratorConfig(
        scale=4,
        widths=(8, 8, 8, 16),
        encoder_blocks=(1, 1, 1, 1),
        decoder_blocks=(1, 1, 1, 1),
        head_widths=(8, 8),
        text_hidden=8,
        prompts=2,
    )
    generator = Generator(config, clip)
    with torch.no_grad():
        for parameter in generator.parameters():
            if parameter.requires_grad:
                # As built, many layers are the identity.
                parameter.add_(0.05 * torch.randn_like(parameter))
    save_file(clip.model.state_dict(), folder / "clip.safetensors")
    save_generator(generator.learned_state(), config, "tiny-words", folder / "tiny.safetensors")
    (folder / "clip.json").write_bytes((DATA / "tiny-clip.json").read_bytes())
    registry = folder / "weights.toml"
    registry.write_text(
        f'[{MODEL}]\nkind = "generator"\ndescription = "tiny"\nlicence = "none"\nscales = [4]\n'
        'files = ["tiny.safetensors"]\nclip = "tiny-words"\n'
        '[tiny-words]\nkind = "clip"\ndescription = "tiny"\nlicence = "none"\n'
        'architecture = "clip.json"\nfiles = ["clip.safetensors"]\n'
    )
    return registry


def write_pictures(folder: Path, *, count: int, seed: int = 0) -> dict[str, tuple[int, int]]:
    """Small pictures of every kind, some in subfolders; gives their sizes by relative path without
    extension.
    """
    from clipsr_cli import encoders
    from clipsr_cli.pictures import Picture

    rng = np.random.default_rng(seed)
    kinds = ("png", "jpg", "rgba.png", "webp", "deep.png", "bmp", "gray.png", "deep.tif", "avif")
    sizes = {}
    for index in range(count):
        kind = kinds[index % len(kinds)]
        width, height = (int(side) for side in rng.integers(12, 25, 2))
        pixels = rng.integers(0, 256, (height, width, 4), dtype=np.uint8)
        stem = f"{'one' if index % 4 == 3 else '.'}/{index:03}"
        path = folder / f"{stem}.{kind.rpartition('.')[2]}"
        path.parent.mkdir(parents=True, exist_ok=True)
        if kind.startswith("deep"):
            deep = pixels.astype(np.uint16) * 257
            picture = Picture(pixels=deep[:, :, :3], alpha=deep[:, :, 3])
            encoders.write(picture, path, "png" if kind == "deep.png" else "tiff")
        else:
            planes = {"rgba.png": pixels, "gray.png": pixels[:, :, 0]}.get(kind, pixels[:, :, :3])
            Image.fromarray(planes).save(path)
        sizes[os.path.normpath(stem)] = (width, height)
    return sizes


# The server's side


def serve() -> list[str]:
    """Fork a child for every request on stdin and answer with its end. In a child: returns what
    to give to the command line.
    """
    import torch

    # More would start threads, which a fork does not take along.
    torch.set_num_threads(1)
    from clipsr_cli import cli, encoders, upscaling

    # Imported for what comes after the fork.
    assert cli
    assert upscaling
    Image.init()
    for line in sys.stdin:
        request = json.loads(line)
        ready, started = os.pipe()
        child = os.fork()
        if child:
            os.close(started)
            os.read(ready, 1)
            os.close(ready)
            answer = json.dumps(_watch(child, request))
            sys.stdout.write(answer + "\n")
            sys.stdout.flush()
            continue
        os.close(ready)
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)
        for number, name in ((1, "stdout"), (2, "stderr")):
            os.dup2(os.open(request[name], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), number)
        faulthandler.dump_traceback_later(PATIENCE - 5)
        torch.set_num_threads(2)
        if request["streamed_jpeg"]:
            encoders.WHOLE_PIXELS = 0
        if request["file_size"] is not None:
            hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
            resource.setrlimit(resource.RLIMIT_FSIZE, (request["file_size"], hard))
        if request["powerless"]:
            _drop_capabilities()
        os.write(started, b"!")
        os.close(started)
        return request["arguments"]
    os._exit(0)


def _watch(child: int, request: Mapping[str, Any]) -> dict[str, Any]:
    """Wait for a child's end, or bring it about."""
    begin = time.monotonic()
    kill = request["kill"]
    pending = list(kill["signals"]) if kill else []
    known = _outputs(Path(request["folder"])) if kill else set()
    due = None
    while True:
        ended, status = os.waitpid(child, os.WNOHANG)
        now = time.monotonic()
        if ended:
            code = os.waitstatus_to_exitcode(status)
            return {"code": code, "seconds": now - begin, "hung": False}
        if now - begin > PATIENCE:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return {"code": -signal.SIGKILL, "seconds": now - begin, "hung": True}
        if pending and due is None and _has_come(kill, Path(request["folder"]), known):
            due = now + kill["delay"]
        if pending and due is not None and now >= due:
            os.kill(child, pending.pop(0))
            due = now + kill["gap"]
        time.sleep(GLANCE)


def _has_come(kill: Mapping[str, Any], folder: Path, known: set[Path]) -> bool:
    """Whether a run is where it is to be ended: so many new outputs, and a file half written."""
    if kill["outputs"] and len(_outputs(folder) - known) < kill["outputs"]:
        return False
    return not kill["part"] or any(parts(folder))


def _outputs(folder: Path) -> set[tuple[Path, int]]:
    """The files under their own names, told apart from what they may replace."""
    found = set()
    for path in folder.rglob("[!.]*"):
        with contextlib.suppress(FileNotFoundError):
            found.add((path, path.stat().st_ino))
    return found


def _drop_capabilities() -> None:
    """Have permissions count for this process, even if root runs it."""
    version_3, this_process = 0x20080522, 0
    header = (ctypes.c_uint32 * 2)(version_3, this_process)
    nothing = (ctypes.c_uint32 * 6)()
    if ctypes.CDLL(None, use_errno=True).capset(header, nothing):
        raise OSError(ctypes.get_errno(), "capset")


# The client's side


@dataclass(frozen=True, kw_only=True)
class Kill:
    """When and how to end a run.

    Attributes:
        signals: sent one after the other.
        outputs: wait for so many new outputs,
        part: and for a file that is half written,
        delay: and then for so many seconds.
        gap: seconds between the signals.
    """

    signals: tuple[int, ...]
    outputs: int = 0
    part: bool = False
    delay: float = 0.0
    gap: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How a run ended: its exit code, or the signal's number below zero."""

    code: int
    seconds: float
    hung: bool
    stdout: str
    stderr: str


class Server:
    """Runs ``clipsr`` in forks of one process that has it imported."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.logs = {name: folder / name for name in ("stdout", "stderr")}

    def __enter__(self) -> Self:
        registry = write_model(self.folder / "model")
        environment = os.environ | {
            "CLIPSR_WEIGHTS": str(registry),
            "NO_COLOR": "1",
            "COLUMNS": "200",
        }
        self.process = subprocess.Popen(
            [sys.executable, __file__],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        return self

    def __exit__(self, *_: object) -> None:
        # At the end of its input it ends.
        self.process.communicate(timeout=PATIENCE)

    def start(
        self,
        *arguments: object,
        kill: Kill | None = None,
        folder: Path | None = None,
        streamed_jpeg: bool = False,
        file_size: int | None = None,
        powerless: bool = False,
    ) -> None:
        """Begin a run with a command line; ``wait`` gives its end.

        Args:
            arguments: the command line.
            kill: how to end it.
            folder: where its outputs are, for ``kill``.
            streamed_jpeg: encode small JPEG as large ones are.
            file_size: the bytes at which a file is full.
            powerless: even root is held to permissions.
        """
        request = {
            "arguments": [os.fspath(a) if isinstance(a, Path) else str(a) for a in arguments],
            "kill": vars(kill) if kill else None,
            "folder": str(folder),
            "streamed_jpeg": streamed_jpeg,
            "file_size": file_size,
            "powerless": powerless,
        } | {name: str(path) for name, path in self.logs.items()}
        for path in self.logs.values():
            path.unlink(missing_ok=True)
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()

    def wait(self) -> Ended:
        """The end of the run that was begun last."""
        assert self.process.stdout is not None
        answer = json.loads(self.process.stdout.readline())
        said = {name: path.read_text(errors="replace") for name, path in self.logs.items()}
        return Ended(**answer, **said)

    def run(self, *arguments: object, **options: Any) -> Ended:
        """``start`` and ``wait``."""
        self.start(*arguments, **options)
        return self.wait()

    def said(self) -> str:
        """What the present run has said on stderr so far."""
        path = self.logs["stderr"]
        return path.read_text(errors="replace") if path.exists() else ""


def parts(folder: Path) -> Iterator[Path]:
    """The temporary files in an output folder."""
    return folder.rglob(".*.part")


# Killing, again and again


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One kind of run: other encoders, several tiles a picture, outputs that are replaced."""

    name: str
    options: tuple[str, ...]
    streamed_jpeg: bool = False
    overwrite: bool = False


SETTINGS = (
    Setting(name="png", options=("--ext", "png")),
    Setting(
        name="tiles",
        options=("--ext", "png", "--tile", "12", "--tile-overlap", "2"),
        overwrite=True,
    ),
    Setting(name="tiff", options=("--ext", "tiff", "--tile", "16", "--color-fix", "wavelet")),
    Setting(name="jpg", options=("--ext", "jpg")),
    Setting(name="streamed jpg", options=("--ext", "jpg", "--tile", "16"), streamed_jpeg=True),
    Setting(name="webp", options=("--ext", "webp", "--outscale", "3")),
    Setting(name="replaced avif", options=("--ext", "avif"), overwrite=True),
)
# Mostly what nothing can be done about; one and two presses of Ctrl-C; what a batch system sends.
ENDINGS = (
    *[(signal.SIGKILL,)] * 3,
    (signal.SIGTERM,),
    *[(signal.SIGKILL,)] * 2,
    (signal.SIGINT,),
    *[(signal.SIGKILL,)] * 2,
    (signal.SIGINT, signal.SIGINT),
)
INTERRUPTED = 130


@dataclass(kw_only=True)
class Tally:
    """What was done to the runs, and all that was found wrong."""

    kills: int = 0
    by_signal: dict[str, int] = field(default_factory=dict)
    while_work_was_left: int = 0
    with_progress: int = 0
    left_a_temporary_file: int = 0
    rounds: int = 0
    outputs: int = 0
    identical: int = 0
    temporary_files_left: int = 0
    faults: list[str] = field(default_factory=list)


class UndisturbedError(Exception):
    """A run that nobody disturbed did not come to its end: there is nothing to compare with."""


class Round:
    """One folder of pictures and one output folder, whose runs are ended until all is done."""

    def __init__(
        self, server: Server, setting: Setting, pictures: Path, folder: Path, tally: Tally
    ) -> None:
        self.server = server
        self.setting = setting
        self.pictures = pictures
        self.out = folder / "out"
        self.report = folder / "report.jsonl"
        self.tally = tally
        # What an undisturbed run gives, and what is replaced by it.
        self.wanted = self._undisturbed(folder / "wanted", "a red bird")
        self.old: dict[Path, bytes] = {}
        if setting.overwrite:
            self.old = self._undisturbed(self.out, "a grey castle")

    def arguments(self, out: Path, prompt: str) -> list[object]:
        every = ["upscale", self.pictures, "-o", out, "-m", MODEL, "--device", "cpu"]
        every += ["--prompt", prompt, "--report", self.report, *self.setting.options]
        return [*every, "--overwrite"] if self.setting.overwrite else every

    def _run(self, out: Path, prompt: str, kill: Kill | None = None) -> Ended:
        return self.server.run(
            *self.arguments(out, prompt),
            kill=kill,
            folder=out,
            streamed_jpeg=self.setting.streamed_jpeg,
        )

    def _undisturbed(self, out: Path, prompt: str) -> dict[Path, bytes]:
        ended = self._run(out, prompt)
        if ended.code != 0:
            raise UndisturbedError(
                f"an undisturbed run ended with {ended.code}\n{ended.stderr[-1000:]}"
            )
        self.seconds = ended.seconds
        return contents(out)

    @property
    def left(self) -> int:
        """How many pictures are still to be made."""
        found = contents(self.out)
        return sum(found.get(path) != content for path, content in self.wanted.items())

    def kill(self, rng: random.Random) -> None:
        """Begin a run, end it somewhere, and look at what is there."""
        left = self.left
        signals = ENDINGS[self.tally.kills % len(ENDINGS)]
        outputs = rng.choice((0, rng.randint(1, max(1, left // 3))))
        kill = Kill(
            signals=signals,
            outputs=outputs,
            part=rng.random() < 0.5,
            # Without anything to wait for, all over the run: loading and planning as well.
            delay=rng.uniform(0, 0.02) if outputs else rng.uniform(0, self.seconds),
            gap=rng.uniform(0, 0.03),
        )
        before = contents(self.out)
        parts_before = {(path, path.stat().st_mtime_ns) for path in parts(self.out)}

        ended = self._run(self.out, "a red bird", kill)

        tally, still_left = self.tally, self.left
        name = "+".join(signal.Signals(number).name for number in signals)
        tally.kills += 1
        tally.by_signal[name] = tally.by_signal.get(name, 0) + 1
        tally.while_work_was_left += still_left > 0 and ended.code != 0
        tally.with_progress += still_left < left
        faults = [*self._faults()]
        if ended.hung:
            faults.append("it hung")
        parts_after = {(path, path.stat().st_mtime_ns) for path in parts(self.out)}
        if signals[0] == signal.SIGKILL:
            tally.left_a_temporary_file += parts_after != parts_before
        else:
            if not parts_after <= parts_before:
                faults.append(f"a temporary file was left: {parts_after - parts_before}")
            # What comes before any picture is under way, or behind the last one, may end as a
            # program that knows nothing of the signal.
            untouched = contents(self.out) == before or not still_left
            allowed = {INTERRUPTED, -signals[0]} if untouched else {INTERRUPTED}
            if ended.code not in (allowed if still_left else {0, *allowed}):
                faults.append(f"it ended with {ended.code}")
        if faults:
            text = f"{self.setting.name}, {kill}: {'; '.join(faults)}"
            tally.faults.append(f"{text}\n{ended.stderr[-3000:]}")

    def finish(self) -> None:
        """A last, undisturbed run, after which all must be as if there had been only that one."""
        ended = self._run(self.out, "a red bird")
        found, tally = contents(self.out), self.tally
        tally.rounds += 1
        tally.outputs += len(self.wanted)
        tally.identical += sum(found.get(p) == content for p, content in self.wanted.items())
        tally.temporary_files_left += len([*parts(self.out)])
        faults = [*self._faults()]
        if ended.code != 0:
            faults.append(f"the last run ended with {ended.code}")
        if found != self.wanted:
            faults.append("the outputs are not those of an undisturbed run")
        rows = self.report.read_text().splitlines()
        if len({json.loads(row)["output"] for row in rows}) != len(self.wanted):
            faults.append("the report does not have a line for every picture")
        if faults:
            tally.faults.append(f"{self.setting.name}: {'; '.join(faults)}\n{ended.stderr[-3000:]}")

    def _faults(self) -> Iterator[str]:
        """What is wrong with the output folder, or does not fit what the report says of it."""
        found = contents(self.out)
        for path, content in found.items():
            if path not in self.wanted:
                yield f"{path} was written"
            elif content not in (self.wanted[path], self.old.get(path)):
                yield f"{path} is not what an undisturbed run writes"
        for path in self.old.keys() - found.keys():
            yield f"{path} is gone"
        # The report of a run that was ended while planning is that of the run before.
        for line in self.report.read_text().splitlines(keepends=True):
            if not line.endswith("\n"):
                yield f"a line of the report is not whole: {line!r}"
                continue
            row = json.loads(line)
            output = Path(row["output"])
            if not output.is_relative_to(self.out) or row["status"] != "done":
                continue
            path = output.relative_to(self.out)
            # In a run that only replaces, the report may be older than what is there.
            if found.get(path) not in (self.wanted[path], self.old.get(path)):
                yield f"{path} is reported as done and is not there"


def contents(folder: Path) -> dict[Path, bytes]:
    """The files under their own names, by path within the folder."""
    return {
        path.relative_to(folder): path.read_bytes()
        for path in folder.rglob("[!.]*")
        if path.is_file()
    }


def check_sizes(folder: Path, sizes: Mapping[str, tuple[int, int]], scale: float) -> None:
    """Every output is there, decodes, and is as large as it shall be."""
    from clipsr_cli import images

    found = {}
    for path in contents(folder):
        stem = str(path.with_suffix("")).removesuffix("_x4")
        found[stem] = images.read(folder / path).size
    wanted = {
        stem: (round(width * scale), round(height * scale))
        for stem, (width, height) in sizes.items()
    }
    assert found == wanted


def kill_again_and_again(
    folder: Path,
    *,
    kills: int,
    pictures: int = 40,
    seed: int = 0,
    settings: Sequence[Setting] = SETTINGS,
) -> Tally:
    """End runs at random moments, so many times in all, over all settings."""
    tally, rng = Tally(), random.Random(seed)
    sizes = write_pictures(folder / "in", count=pictures, seed=seed)
    with Server(folder) as server:
        index = 0
        while tally.kills < kills:
            setting = settings[index % len(settings)]
            place = folder / f"round-{index}"
            index += 1
            try:
                work = Round(server, setting, folder / "in", place, tally)
            except UndisturbedError as error:
                tally.faults.append(f"{setting.name}: {error}")
                settings = [other for other in settings if other is not setting]
                index -= 1
                continue
            check_sizes(place / "wanted", sizes, 3 if "--outscale" in setting.options else 4)
            most = -(-(kills - tally.kills) // max(1, len(settings) - index + 1))
            for _ in range(max(4, most) if index <= len(settings) else 8):
                if not work.left or tally.kills == kills:
                    break
                work.kill(rng)
            work.finish()
    return tally


if __name__ == "__main__":
    sys.argv = ["clipsr", *serve()]
    from clipsr_cli.cli import main

    try:
        main()
    except SystemExit as end:
        # An interpreter that holds torch takes a second to be taken apart. What comes before that,
        # waiting for the threads, is all that matters here.
        threading._shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(int(end.code or 0))
