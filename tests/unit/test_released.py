"""The authors' checkpoint: read without trust, told apart from others, and run as they ran it."""

import hashlib
import os
import pickle
import zipfile
from collections import OrderedDict
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors import SafetensorError

from clipsr_cli.checkpoints import (
    load_generator,
    load_learned,
    read_header,
    read_tensors,
    save_generator,
)
from clipsr_cli.errors import InputError, WeightsError
from clipsr_cli.models.released import ReleasedConfig, ReleasedGenerator
from clipsr_cli.pictures import Picture
from clipsr_cli.released_checkpoint import import_released, read_released
from clipsr_cli.released_checkpoint.adam import read_learning
from clipsr_cli.upscale_options import UpscaleOptions
from clipsr_cli.upscaling import Upscaler

FULL = ReleasedConfig()
TINY = ReleasedConfig(text_dim=32, widths=(12, 16, 20, 24), bottleneck=6, head_width=5)


# --- The format, written down from the list of netG's tensors -----------------------------------


def layout(config=FULL):
    """Name, shape and dtype of netG's tensors, in the order of its state dict.

    Those that do not reach the picture have their released shapes whatever the config.
    """
    w1, w2, w3, w4 = config.widths
    narrow, head, text = config.bottleneck, config.head_width, config.text_dim
    rows = []

    def add(name, *shape, dtype="float32"):
        rows.append((name, shape, dtype))

    def layer(name, *shape, dtype="float32"):
        add(f"{name}.weight", *shape, dtype=dtype)
        add(f"{name}.bias", shape[0], dtype=dtype)

    def fuse(name, channels, e=512):
        for part in (f"{name}.affine{i}.fc_{kind}" for i in (0, 1) for kind in ("gamma", "beta")):
            layer(f"{part}.linear1", channels, e)
            layer(f"{part}.linear2", channels, channels)

    def neck(name, channels):
        layer(f"{name}.conv1", 32, channels, 3, 3)
        fuse(f"{name}.fuse1", 32)
        layer(f"{name}.conv2", channels, 32, 3, 3)
        fuse(f"{name}.fuse2", channels)

    def block(name, inner, outer, e=512):
        layer(f"{name}.c1", outer, inner, 3, 3)
        layer(f"{name}.c2", outer, outer, 3, 3)
        fuse(f"{name}.fuse1", inner, e)
        fuse(f"{name}.fuse2", outer, e)
        if inner != outer:
            layer(f"{name}.c_sc", outer, inner, 1, 1)

    layer("fc_code", 3136, 512)
    for index in range(4):
        neck(f"mapping.FBlocks.{index}", 64)
    layer("mapping.conv_fuse", 768, 512, 2, 2)
    add("mapping.CLIP_ViT.class_embedding", 768)
    add("mapping.CLIP_ViT.positional_embedding", 50, 768)
    add("mapping.CLIP_ViT.conv1.weight", 768, 3, 32, 32, dtype="float16")
    layer("mapping.CLIP_ViT.ln_pre", 768)
    for index in range(12):
        name = f"mapping.CLIP_ViT.transformer.resblocks.{index}"
        add(f"{name}.attn.in_proj_weight", 2304, 768, dtype="float16")
        add(f"{name}.attn.in_proj_bias", 2304, dtype="float16")
        layer(f"{name}.attn.out_proj", 768, 768, dtype="float16")
        layer(f"{name}.ln_1", 768)
        layer(f"{name}.mlp.c_fc", 3072, 768, dtype="float16")
        layer(f"{name}.mlp.c_proj", 768, 3072, dtype="float16")
        layer(f"{name}.ln_2", 768)
    layer("mapping.conv", 512, 768, 5, 5)
    layer("mapping.fc_prompt", 6144, 512)
    for index, (inner, outer) in enumerate(((w4, w4), (w4, w3), (w3, w2), (w2, w1))):
        block(f"GBlocks.{index}", inner, outer, text)
    block("GBlocks.4", 256, 128)
    block("GBlocks.5", 128, 64)
    neck("TBlocks", 512)
    layer("to_rgb.1", 3, 3, 3, 3)
    layer("head.0", w1, 3, 3, 3)
    layer("tail.0", 3, head, 3, 3)
    layer("c1", w1, 3, 3, 3)
    add("R.weight", 1)
    layer("c2", w2, w1, 3, 3)
    layer("c3", w3, w2, 3, 3)
    layer("c4", w4, w3, 3, 3)
    layer("conv_before_upsample.0", head, w1, 3, 3)
    layer("upsample.0", 4 * head, head, 3, 3)
    layer("upsample.2", 4 * head, head, 3, 3)
    layer("conv_after_body.0", narrow, w1, 3, 3)
    layer("conv_after_body.2", narrow, narrow, 1, 1)
    layer("conv_after_body.4", w1, narrow, 3, 3)
    return rows


def reaches_the_picture(name):
    return not name.startswith(
        ("fc_code", "mapping", "TBlocks", "to_rgb", "GBlocks.4.", "GBlocks.5.")
    )


def flat(shape, value, dtype=torch.float32):
    """A tensor of one value, which takes no room in memory or in a file."""
    return torch.full((1,), float(value), dtype=dtype).expand(shape)


def random_netg(config=TINY, seed=0):
    """Random weights in the exact format; those that do not matter are flat."""
    rng = torch.Generator().manual_seed(seed)
    tensors = {}
    for name, shape, dtype in layout(config):
        if not reaches_the_picture(name):
            value = flat(shape, 0.5, getattr(torch, dtype))
        elif name.endswith("weight"):
            fan_in = int(np.prod(shape[1:]))
            value = torch.randn(shape, generator=rng) / fan_in**0.5
        else:
            value = 0.3 * torch.randn(shape, generator=rng)
        if name.endswith("fc_gamma.linear2.bias") and reaches_the_picture(name):
            value = value + 1
        tensors[name] = value
    return tensors


def random_checkpoint(config=TINY, seed=0):
    return {
        "model": {
            "netG": random_netg(config, seed),
            "netD": {"DBlocks.0.gamma": torch.zeros(1)},
            "netC": {"joint_conv.2.weight": torch.zeros(1, 128, 4, 4)},
        },
        "optimizers": {"optimizer_G": adam(), "optimizer_D": adam(names=["a", "b"])},
        "epoch": 220,
    }


def adam(names=None, *, shapes=None, moved=reaches_the_picture, present=None, step=1000):
    """Adam's state over parameters, in flat moments; the last gradient was zero."""
    shapes = shapes or {name: shape for name, shape, _ in layout(TINY)}
    names = list(shapes) if names is None else names
    present = present or moved
    state = {}
    for number, name in enumerate(names):
        if present(name):
            shape = shapes.get(name, (1,))
            moments = {"exp_avg": flat(shape, 0), "exp_avg_sq": flat(shape, moved(name))}
            state[number] = {"step": step} | moments
    group = {"lr": 1e-4, "betas": (0.0, 0.9), "params": list(range(len(names)))}
    return {"state": state, "param_groups": [group]}


def test_the_layout_is_that_of_the_released_network():
    rows = layout()

    text = "\n".join(f"{name} {shape} {dtype}" for name, shape, dtype in rows)
    # Of the list of the 586 tensors of the authors' netG, a line for each.
    expected = "38e6941ec4ae96865821c412454b288c824f2a94ecdd3d6e7dd491e154b91c55"
    assert hashlib.sha256(text.encode()).hexdigest() == expected
    assert len(rows) == 586
    assert sum(int(np.prod(shape)) for _, shape, _ in rows) == 147_509_496


# --- What their network computes, written down a second time ------------------------------------


def reference(weights, low, text):
    """Plain functions over the raw tensors, for pictures of 64 x 64 px in [0, 1]."""

    def conv(x, name, stride=1):
        kernel = weights[f"{name}.weight"]
        padding = kernel.shape[-1] // 2
        return F.conv2d(x, kernel, weights[f"{name}.bias"], stride=stride, padding=padding)

    def leaky(x, slope):
        return torch.where(x > 0, x, slope * x)

    def mlp(name):
        hidden = text @ weights[f"{name}.linear1.weight"].T + weights[f"{name}.linear1.bias"]
        hidden = hidden.clamp(min=0)
        out = hidden @ weights[f"{name}.linear2.weight"].T + weights[f"{name}.linear2.bias"]
        return out.reshape(*out.shape, 1, 1)

    def fuse(x, name):
        for affine in ("affine0", "affine1"):
            x = mlp(f"{name}.{affine}.fc_gamma") * x + mlp(f"{name}.{affine}.fc_beta")
            x = leaky(x, 0.2)
        return x

    def block(x, name, side):
        times = side // x.shape[-1]
        x = x.repeat_interleave(times, 2).repeat_interleave(times, 3)
        shortcut = conv(x, f"{name}.c_sc") if f"{name}.c_sc.weight" in weights else x
        changed = conv(fuse(x, f"{name}.fuse1"), f"{name}.c1")
        return shortcut + conv(fuse(changed, f"{name}.fuse2"), f"{name}.c2")

    def shuffle(x):
        batch, channels, height, width = x.shape
        x = x.reshape(batch, channels // 4, 2, 2, height, width).permute(0, 1, 4, 2, 5, 3)
        return x.reshape(batch, channels // 4, 2 * height, 2 * width)

    assert low.shape[2:] == (64, 64)
    picture = low * 2 - 1
    slope = weights["R.weight"]
    r1 = leaky(conv(picture, "c1"), slope)
    r2 = leaky(conv(r1, "c2", stride=2), slope)
    r3 = leaky(conv(r2, "c3", stride=2), slope)
    r4 = leaky(conv(r3, "c4", stride=2), slope)
    x = block(r4, "GBlocks.0", 8) + r4
    x = block(x, "GBlocks.1", 16) + r3
    x = block(x, "GBlocks.2", 32) + r2
    x = block(x, "GBlocks.3", 64) + r1
    x = leaky(conv(x, "conv_after_body.0"), 0.2)
    x = leaky(conv(x, "conv_after_body.2"), 0.2)
    x = conv(x, "conv_after_body.4") + conv(picture, "head.0")
    x = leaky(conv(x, "conv_before_upsample.0"), 0.01)
    x = shuffle(conv(x, "upsample.0"))
    x = shuffle(conv(x, "upsample.2"))
    return conv(x, "tail.0") / 2 + 0.5


class OneClip(torch.nn.Module):
    """Stands for a CLIP where only the size of its text vectors matters."""

    name = "stand-in"

    def __init__(self, embed_dim):
        super().__init__()
        self.embed_dim = embed_dim


def build(found, config):
    generator = ReleasedGenerator(config, OneClip(config.text_dim))
    load_learned(generator, found.tensors, Path("released"))
    return generator.eval()


def save(path, content, **settings):
    torch.save(content, path, **settings)
    return path


@pytest.fixture(scope="module")
def netg():
    return random_netg()


@pytest.fixture
def file(tmp_path):
    """A checkpoint as the authors' code writes it, tiny where that makes no difference."""
    return save(tmp_path / "state_epoch_220.pth", random_checkpoint())


read = partial(read_released, config=TINY)
convert = partial(import_released, config=TINY)


def test_the_network_computes_what_the_authors_does(file, netg):
    torch.manual_seed(0)
    low, text = torch.rand(2, 3, 64, 64), torch.randn(2, 32)

    with torch.no_grad():
        high = build(read(file), TINY)(low, text)

    expected = reference(netg, low, text)
    assert high.shape == (2, 3, 256, 256)
    assert expected.std() > 0.1
    torch.testing.assert_close(high, expected, atol=1e-4, rtol=0)


@pytest.mark.slow
def test_the_network_computes_what_the_authors_does_at_full_size(tmp_path):
    netg = random_netg(FULL)
    found = read_released(save(tmp_path / "netG.pth", netg))
    low, text = torch.rand(1, 3, 64, 64), torch.randn(1, 512)

    with torch.no_grad():
        high = build(found, FULL)(low, text)

    assert found.kept == 38_215_556
    assert sum(found.dropped.values()) + found.kept == 147_509_496
    expected = reference(netg, low, text)
    assert expected.std() > 0.1
    torch.testing.assert_close(high, expected, atol=1e-4, rtol=0)


def test_every_tensor_that_is_kept_reaches_the_picture(file):
    generator = build(read(file), TINY)

    generator(torch.rand(2, 3, 64, 64), torch.randn(2, 32)).square().mean().backward()

    without = [n for n, p in generator.named_parameters() if not p.grad.abs().sum() > 0]
    assert without == []


@pytest.mark.parametrize("size", [(1, 1), (13, 70), (64, 65), (72, 64), (100, 30)])
def test_any_size_is_the_trained_size_or_more_cut_back(file, size):
    generator = build(read(file), TINY)
    low, text = torch.rand(1, 3, *size), torch.randn(1, 32)
    height, width = (max(64, side + -side % 8) for side in size)
    rows = torch.arange(height).clamp(max=size[0] - 1)
    columns = torch.arange(width).clamp(max=size[1] - 1)

    with torch.no_grad():
        high = generator(low, text)
        whole = generator(low[:, :, rows][:, :, :, columns], text)

    assert high.shape == (1, 3, 4 * size[0], 4 * size[1])
    assert whole.shape == (1, 3, 4 * height, 4 * width)
    torch.testing.assert_close(high, whole[:, :, : 4 * size[0], : 4 * size[1]])


def test_a_clip_of_another_size_is_refused_by_name():
    with pytest.raises(InputError, match=r"'stand-in' gives text vectors of 640 values.*512"):
        ReleasedGenerator(FULL, OneClip(640))


def test_the_released_network_knows_one_scale():
    with pytest.raises(InputError, match="scale is 8"):
        ReleasedConfig(scale=8)


# --- Reading ------------------------------------------------------------------------------------


def without_optimisers(content):
    del content["optimizers"]
    return content


def without_discriminator(content):
    del content["model"]["netD"], content["model"]["netC"]
    return content


def behind_module(content):
    model = content["model"]
    model["netG"] = {f"module.{name}": value for name, value in model["netG"].items()}
    return content


VARIANTS = {
    "as written": lambda content: content,
    "of several GPUs": behind_module,
    "no optimisers": without_optimisers,
    "no discriminator": without_discriminator,
    "more beside": lambda content: content | {"step": 7, "args": {"lr": 0.1}, 3: None},
    "networks only": lambda content: content["model"],
    "netG only": lambda content: content["model"]["netG"],
    "netG only, of several GPUs": lambda content: behind_module(content)["model"]["netG"],
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_what_surrounds_the_generator_does_not_matter(tmp_path, netg, variant):
    path = save(tmp_path / "a.pth", VARIANTS[variant](random_checkpoint()))

    found = read(path)

    kept = [value for name, value in netg.items() if reaches_the_picture(name)]
    assert len(found.tensors) == len(kept) == 175
    assert found.kept == sum(value.numel() for value in kept)
    theirs = netg["GBlocks.1.fuse2.affine1.fc_beta.linear1.weight"]
    assert torch.equal(found.tensors["decode.1.fuse2.affine2.beta.0.weight"], theirs)
    assert found.dropped == {
        "clip_tower": 87_454_464,
        "mapping": 15_575_680,
        "unused": 6_263_796,
    }


def test_a_bare_generator_says_nothing_of_its_training(tmp_path, netg):
    found = read(save(tmp_path / "a.pth", netg))

    assert (found.epoch, found.mapping, found.steps) == (None, "unknown", None)


def test_half_precision_is_brought_to_full(tmp_path, netg):
    halves = {
        name: value.half() if reaches_the_picture(name) else flat(value.shape, 0.5, torch.float16)
        for name, value in netg.items()
    }
    low, text = torch.rand(1, 3, 64, 64), torch.randn(1, 32)

    found = read(save(tmp_path / "a.pth", halves))

    assert {tensor.dtype for tensor in found.tensors.values()} == {torch.float32}
    with torch.no_grad():
        high = build(found, TINY)(low, text)
    rounded = {n: value.float() for n, value in halves.items() if reaches_the_picture(n)}
    expected = reference(rounded, low, text)
    torch.testing.assert_close(high, expected, atol=1e-4, rtol=0)


def test_the_file_format_of_old_torch_is_read_too(tmp_path):
    path = save(tmp_path / "a.pth", random_checkpoint(), _use_new_zipfile_serialization=False)
    assert not zipfile.is_zipfile(path)

    found = read(path)

    assert (found.epoch, found.mapping, found.steps) == (220, "never trained", 1000)


def test_other_tensors_are_refused_with_their_names_and_number(tmp_path):
    netg = random_netg()
    for index in range(7):
        netg[f"extra.{index}"] = torch.zeros(1)
    del netg["c3.weight"], netg["mapping.conv.bias"]
    netg["tail.0.bias"] = torch.zeros(4)
    netg["c2.bias"] = torch.zeros(16, dtype=torch.int64)
    path = save(tmp_path / "a.pth", {"model": {"netG": netg}})

    with pytest.raises(WeightsError) as caught:
        read(path)

    message = str(caught.value)
    assert caught.value.exit_code == 4
    assert "7 unknown: extra.0, extra.1, extra.2, extra.3, extra.4, ...;" in message
    assert "3 missing: c2.bias, c3.weight, mapping.conv.bias;" in message
    assert "1 of another shape: tail.0.bias (4,) instead of (3,)" in message
    assert "a.pth" in message


def test_a_network_of_another_width_is_refused(file):
    with pytest.raises(
        WeightsError, match=r"169 of another shape: head\.0\.weight \(12, 3, 3, 3\)"
    ):
        read_released(file)


class Evil:
    """Runs a command when it is unpickled by a reader that trusts it."""

    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


@pytest.mark.parametrize("zipped", [True, False])
def test_code_in_the_file_is_refused_and_not_run(tmp_path, zipped):
    content = random_checkpoint() | {"epoch": Evil(f"touch {tmp_path / 'ran'}")}
    path = save(tmp_path / "a.pth", content, _use_new_zipfile_serialization=zipped)

    with pytest.raises(WeightsError, match=r"refused: reading it would run \w+\.system"):
        read(path)

    assert not (tmp_path / "ran").exists()
    torch.load(path, weights_only=False)
    assert (tmp_path / "ran").exists(), "the file was harmless, so the test shows nothing"


def test_what_is_compressed_is_refused_before_it_fills_the_memory(tmp_path):
    save(tmp_path / "a.pth", random_checkpoint())
    with (
        zipfile.ZipFile(tmp_path / "a.pth") as source,
        zipfile.ZipFile(tmp_path / "b.pth", "w", zipfile.ZIP_DEFLATED) as target,
    ):
        for entry in source.infolist():
            target.writestr(entry.filename, source.read(entry))

    with pytest.raises(WeightsError, match="no PyTorch checkpoint"):
        read_released(tmp_path / "b.pth", TINY)


def test_attributes_that_hide_methods_are_not_seen(tmp_path, netg):
    hidden = OrderedDict(random_checkpoint())
    hidden.get = "x"
    network = OrderedDict(hidden["model"]["netG"])
    # Attributes of a parameter are kept in the file, and so are an OrderedDict's.
    name = next(name for name, tensor in network.items() if tensor.is_floating_point())
    network[name] = torch.nn.Parameter(network[name])
    network[name].is_floating_point = network[name].isfinite = "x"
    network.get = "x"
    hidden["model"] = {"netG": network}

    found = read_released(save(tmp_path / "a.pth", hidden), TINY)

    assert all(type(tensor) is torch.Tensor for tensor in found.tensors.values())


def test_a_class_of_their_code_is_refused_by_its_name(tmp_path):
    with pytest.raises(WeightsError, match=r"would run pathlib\S*PosixPath"):
        read(save(tmp_path / "a.pth", random_checkpoint() | {"args": Path("x")}))


@pytest.mark.parametrize("part", [0, 1, 2, 100, 0.5, 0.99])
@pytest.mark.parametrize("zipped", [True, False])
def test_a_file_that_is_cut_off_is_refused(tmp_path, file, part, zipped):
    save(file, random_checkpoint(), _use_new_zipfile_serialization=zipped)
    whole = file.read_bytes()
    file.write_bytes(whole[: part if isinstance(part, int) else int(part * len(whole))])

    with pytest.raises(WeightsError, match="no PyTorch checkpoint, or is cut off or damaged"):
        read(file)


def test_what_is_no_checkpoint_is_refused(tmp_path):
    folder, text, archive = tmp_path / "folder", tmp_path / "a.txt", tmp_path / "a.zip"
    folder.mkdir()
    text.write_text("<html>404: Not Found</html>")
    with zipfile.ZipFile(archive, "w") as zipped:
        zipped.writestr("a.txt", "hello")
    bare = tmp_path / "a.pkl"
    bare.write_bytes(pickle.dumps({"epoch": 1}))

    for path in (text, archive, bare):
        with pytest.raises(WeightsError, match=f"{path.name} is no PyTorch checkpoint"):
            read(path)
    for path in (folder, tmp_path / "gone.pth"):
        with pytest.raises(WeightsError, match=f"Cannot read the checkpoint .*{path.name}: "):
            read(path)


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ([1, 2], "holds a list"),
        (torch.zeros(2), "holds a Tensor"),
        ({}, "only nothing"),
        ({"epoch": 3, "model": {"netD": {}}}, "only epoch, model"),
        ({"model": 7}, "only model"),
        ({"model": {"netG": {"step": 3}}}, "no generator"),
    ],
)
def test_a_checkpoint_without_generator_is_refused(tmp_path, content, named):
    with pytest.raises(WeightsError, match=named):
        read(save(tmp_path / "a.pth", content))


def test_values_that_are_not_finite_are_refused(tmp_path, netg):
    broken = netg | {"c4.bias": torch.full((24,), float("nan"))}

    with pytest.raises(WeightsError, match=r"not finite: c4\.bias"):
        read(save(tmp_path / "a.pth", broken))


# --- Did the mapping branch learn? --------------------------------------------------------------

SHAPES = {name: shape for name, shape, _ in layout(TINY)}
TRAINABLE = [name for name in SHAPES if ".CLIP_ViT." not in name]


def everything(name):
    return ".CLIP_ViT." not in name


def nothing(name):
    return False


def wrong_shapes():
    return adam(shapes=dict.fromkeys(SHAPES, (2,)))


@pytest.mark.parametrize(
    ("optimisers", "verdict", "steps"),
    [
        ({"G": adam()}, "never trained", 1000),
        ({"D": adam(names=["a", "b"], moved=everything), "G": adam()}, "never trained", 1000),
        ({"G": adam(present=everything)}, "never trained", 1000),
        ({"G": adam(moved=everything)}, "trained", 1000),
        ({"G": adam(names=TRAINABLE)}, "never trained", 1000),
        ({"G": adam(names=TRAINABLE, moved=everything)}, "trained", 1000),
        ({"G": adam(moved=lambda n: n == "mapping.conv.bias" or reaches_the_picture(n))},
         "trained", 1000),
        ({"G": adam(step=torch.tensor(77.0))}, "never trained", 77),
        ({"G": adam(step=torch.tensor(float("nan")))}, "never trained", None),
        ({"G": adam(step="many")}, "never trained", None),
        ({"G": adam(moved=nothing)}, "unknown", None),
        ({"G": adam(moved=nothing, present=everything)}, "unknown", None),
        ({"D": adam(names=["a", "b"], moved=everything)}, "unknown", None),
        ({"G": wrong_shapes()}, "unknown", None),
        ({"G": adam() | {"state": {0: 5}}}, "unknown", None),
        ({"G": {"state": {}, "param_groups": [3, {"params": 4}]}}, "unknown", None),
        ({"G": None, "D": []}, "unknown", None),
        ([adam()], "unknown", None),
        ({}, "unknown", None),
        (None, "unknown", None),
    ],
)  # fmt: skip
def test_the_optimiser_tells_whether_the_mapping_branch_learned(netg, optimisers, verdict, steps):
    kept = [name for name in netg if reaches_the_picture(name)]

    assert read_learning(optimisers, netg, kept) == (verdict, steps)


@pytest.mark.parametrize("frozen_given", [True, False])
def test_the_numbering_is_that_of_a_real_adam(tmp_path, frozen_given):
    netg = random_netg()
    parameters = {
        name: torch.nn.Parameter(value, requires_grad=name in TRAINABLE)
        for name, value in netg.items()
    }
    given = [p for name, p in parameters.items() if frozen_given or name in TRAINABLE]
    optimiser = torch.optim.Adam(given, lr=1e-4, betas=(0.0, 0.9))
    for name, parameter in parameters.items():
        if reaches_the_picture(name):
            parameter.grad = torch.ones_like(parameter)
    for _ in range(3):
        optimiser.step()
    content = {"model": {"netG": netg}, "optimizers": {"optimizer_G": optimiser.state_dict()}}

    found = read(save(tmp_path / "a.pth", content))

    assert (found.mapping, found.steps) == ("never trained", 3)


# --- From their file to ours, and to pictures ---------------------------------------------------


def test_a_converted_checkpoint_gives_the_authors_picture(file, netg, tiny_clip, tmp_path):
    target = tmp_path / "deep" / "cub.safetensors"
    low, text = torch.rand(1, 3, 64, 64), tiny_clip.text(["a red bird"])

    summary = convert(file, target, clip="tiny", half=False)

    with torch.no_grad():
        high = load_generator(target, tiny_clip)(low, text)
    torch.testing.assert_close(high, reference(netg, low, text), atol=1e-4, rtol=0)
    header = read_header(target)
    assert (header.architecture, header.config, header.clip) == ("clip-sr-released", TINY, "tiny")
    licence = header.notes["licence"]
    assert header.notes == {"dataset": "cub", "steps": "1000", "epoch": "220", "licence": licence}
    assert "none stated" in licence
    assert (summary.output, summary.precision, summary.epoch) == (target, "fp32", 220)
    assert summary.kept == sum(t.numel() for t in read_tensors(target).values())
    assert [p.name for p in target.parent.iterdir()] == [target.name]


def test_half_the_size_costs_next_to_nothing(file, netg, tiny_clip, tmp_path):
    target = tmp_path / "cub.safetensors"
    low, text = torch.rand(1, 3, 64, 64), tiny_clip.text(["a red bird"])

    assert convert(file, target).precision == "fp16"

    with torch.no_grad():
        high = load_generator(target, tiny_clip)(low, text)
    assert (high - reference(netg, low, text)).abs().max() < 1 / 255
    full = tmp_path / "full.safetensors"
    convert(file, full, half=False)
    assert target.stat().st_size < 0.7 * full.stat().st_size


def test_values_too_large_for_half_are_kept_in_full_or_refused(tmp_path, netg):
    path = save(tmp_path / "a.pth", netg | {"c4.bias": torch.full((24,), 1e5)})
    target = tmp_path / "cub.safetensors"

    with pytest.raises(WeightsError, match="too large for half") as caught:
        convert(path, target)
    assert "--full-precision" in caught.value.hint
    assert not target.exists()

    convert(path, target, half=False)
    assert read_tensors(target)["encode.3.bias"].max() == 1e5


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), SafetensorError("full")])
def test_a_target_that_cannot_be_written_leaves_what_was_there(file, tmp_path, monkeypatch, error):
    target = tmp_path / "cub.safetensors"
    target.write_bytes(b"old")

    def full(_, path, **__):
        path.write_bytes(b"half")
        raise error

    monkeypatch.setattr("clipsr_cli.checkpoints.save_file", full)

    with pytest.raises(WeightsError, match=r"Cannot write .*cub\.safetensors: (No space|full)"):
        convert(file, target)

    assert target.read_bytes() == b"old"
    assert sorted(p.name for p in tmp_path.iterdir()) == [target.name, file.name]


def test_a_picture_of_another_size_goes_through_in_tiles_and_follows_the_prompt(
    file, tiny_clip, tmp_path
):
    target = tmp_path / "cub.safetensors"
    convert(file, target)
    upscaler = Upscaler(load_generator(target, tiny_clip), device="cpu", options=UpscaleOptions())
    shapes, network = [], upscaler.network.render
    upscaler.network.render = lambda low, text: (shapes.append(low.shape), network(low, text))[1]
    rng = np.random.default_rng(0)
    picture = Picture(pixels=rng.integers(0, 256, (70, 100, 3), dtype=np.uint8))

    red, blue, again = (
        upscaler.enlarge(picture, prompt)
        for prompt in ("a red bird", "a blue castle", "a red bird")
    )

    assert red.size == (400, 280)
    assert {shape[2:] for shape in shapes} == {(64, 64)}
    assert sum(shape[0] for shape in shapes) == 3 * 4
    np.testing.assert_array_equal(red.pixels, again.pixels)
    assert np.abs(red.pixels.astype(int) - blue.pixels).mean() > 0.1


def test_a_wrong_file_of_this_architecture_is_refused(file, tiny_clip, tmp_path):
    target = tmp_path / "cub.safetensors"
    tensors = read(file).tensors
    del tensors["activation.weight"]
    save_generator(tensors, TINY, "tiny", target, architecture="clip-sr-released")
    with pytest.raises(WeightsError, match=r"activation\.weight"):
        load_generator(target, tiny_clip)
