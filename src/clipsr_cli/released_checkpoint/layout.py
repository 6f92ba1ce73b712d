"""The tensors of the authors' netG: names, shapes, and what those that matter are called here.

Of the 586 tensors, the 171 that reach the picture are kept. Not one of the others does: the whole
branch through CLIP's image tower, whose result their code throws away, and some unused layers.
"""

from clipsr_cli.models.released import ReleasedConfig

Shapes = dict[str, tuple[int, ...]]

# The branch through CLIP's image tower, and in it the tower, which was never to learn.
MAPPING = "mapping."
TOWER = "mapping.CLIP_ViT."

_PLACES = {
    "head.0.": "stem.",
    "c1.": "encode.0.",
    "c2.": "encode.1.",
    "c3.": "encode.2.",
    "c4.": "encode.3.",
    "R.": "activation.",
    "GBlocks.": "decode.",
    "conv_after_body.": "refine.",
    "conv_before_upsample.0.": "head.0.",
    "upsample.0.": "head.2.",
    "upsample.2.": "head.4.",
    "tail.0.": "head.6.",
}
_PARTS = {
    "affine0": "affine1",
    "affine1": "affine2",
    "fc_gamma": "gamma",
    "fc_beta": "beta",
    "linear1": "0",
    "linear2": "2",
    "c1": "conv1",
    "c2": "conv2",
    "c_sc": "shortcut",
}


def kept_shapes(config: ReleasedConfig) -> Shapes:
    """The tensors of the authors' netG that reach the picture, by their names."""
    (w1, w2, w3, w4), text = config.widths, config.text_dim
    narrow, head = config.bottleneck, config.head_width
    shapes: Shapes = {"R.weight": (1,)}
    shapes |= _conv("head.0", w1, 3, 3)
    for name, outer, inner in (("c1", w1, 3), ("c2", w2, w1), ("c3", w3, w2), ("c4", w4, w3)):
        shapes |= _conv(name, outer, inner, 3)
    for index, (outer, inner) in enumerate(((w4, w4), (w3, w4), (w2, w3), (w1, w2))):
        shapes |= _block(f"GBlocks.{index}", outer, inner, text)
    shapes |= _conv("conv_after_body.0", narrow, w1, 3)
    shapes |= _conv("conv_after_body.2", narrow, narrow, 1)
    shapes |= _conv("conv_after_body.4", w1, narrow, 3)
    shapes |= _conv("conv_before_upsample.0", head, w1, 3)
    shapes |= _conv("upsample.0", 4 * head, head, 3) | _conv("upsample.2", 4 * head, head, 3)
    return shapes | _conv("tail.0", 3, head, 3)


def dropped_shapes() -> Shapes:
    """The tensors of the authors' netG that do not reach the picture, by their names."""
    shapes = _linear("fc_code", 3136, 512)
    for index in range(4):
        shapes |= _neck(f"{MAPPING}FBlocks.{index}", 64)
    shapes |= _conv(f"{MAPPING}conv_fuse", 768, 512, 2) | _conv(f"{MAPPING}conv", 512, 768, 5)
    shapes |= _tower() | _linear(f"{MAPPING}fc_prompt", 6144, 512)
    shapes |= _block("GBlocks.4", 128, 256, 512) | _block("GBlocks.5", 64, 128, 512)
    return shapes | _neck("TBlocks", 512) | _conv("to_rgb.1", 3, 3, 3)


def our_name(name: str) -> str:
    """A kept tensor's name in the authors' netG -> in ``ReleasedGenerator``."""
    place = next(place for place in _PLACES if name.startswith(place))
    parts = name.removeprefix(place).split(".")
    return _PLACES[place] + ".".join(_PARTS.get(part, part) for part in parts)


def _linear(name: str, outer: int, inner: int) -> Shapes:
    return {f"{name}.weight": (outer, inner), f"{name}.bias": (outer,)}


def _conv(name: str, outer: int, inner: int, side: int) -> Shapes:
    return {f"{name}.weight": (outer, inner, side, side), f"{name}.bias": (outer,)}


def _fusion(name: str, channels: int, text: int) -> Shapes:
    shapes: Shapes = {}
    for affine in ("affine0", "affine1"):
        for amount in ("fc_gamma", "fc_beta"):
            place = f"{name}.{affine}.{amount}"
            shapes |= _linear(f"{place}.linear1", channels, text)
            shapes |= _linear(f"{place}.linear2", channels, channels)
    return shapes


def _block(name: str, outer: int, inner: int, text: int) -> Shapes:
    shapes = _conv(f"{name}.c1", outer, inner, 3) | _conv(f"{name}.c2", outer, outer, 3)
    shapes |= _fusion(f"{name}.fuse1", inner, text) | _fusion(f"{name}.fuse2", outer, text)
    return shapes if inner == outer else shapes | _conv(f"{name}.c_sc", outer, inner, 1)


def _neck(name: str, channels: int) -> Shapes:
    """A block that narrows to 32 channels and widens again."""
    shapes = _conv(f"{name}.conv1", 32, channels, 3) | _fusion(f"{name}.fuse1", 32, 512)
    shapes |= _conv(f"{name}.conv2", channels, 32, 3)
    return shapes | _fusion(f"{name}.fuse2", channels, 512)


def _tower() -> Shapes:
    """OpenAI's CLIP ViT-B/32 image tower, without what leads from it to text."""
    width = 768
    shapes: Shapes = {
        f"{TOWER}class_embedding": (width,),
        f"{TOWER}positional_embedding": (50, width),
        f"{TOWER}conv1.weight": (width, 3, 32, 32),
    }
    norms = ["ln_pre"]
    for index in range(12):
        block = f"transformer.resblocks.{index}"
        norms += [f"{block}.ln_1", f"{block}.ln_2"]
        shapes[f"{TOWER}{block}.attn.in_proj_weight"] = (3 * width, width)
        shapes[f"{TOWER}{block}.attn.in_proj_bias"] = (3 * width,)
        shapes |= _linear(f"{TOWER}{block}.attn.out_proj", width, width)
        shapes |= _linear(f"{TOWER}{block}.mlp.c_fc", 4 * width, width)
        shapes |= _linear(f"{TOWER}{block}.mlp.c_proj", width, 4 * width)
    for norm in norms:
        shapes |= {f"{TOWER}{norm}.weight": (width,), f"{TOWER}{norm}.bias": (width,)}
    return shapes
