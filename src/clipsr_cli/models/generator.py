"""The CLIP-SR generator: small pictures and text vectors in, large pictures out (paper, figure 2).

Legend: B batch, s scale, h x w small picture, E text embedding, D width of CLIP's image tower.
The base grid is a quarter of the output: one network shape serves every scale.
"""

from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clipsr_cli.errors import InputError
from clipsr_cli.models.blocks import TEXT_NORMS, GatedBlock, PromptPredictor, TIFBlock
from clipsr_cli.models.clip import Clip, resize

SCALES = (4, 8, 16)
SKIPS = ("bicubic", "none")
# The base grid is halved three times.
BASE_MULTIPLE = 8
# More than any network has: a stranger's file could have the memory filled before it is refused.
MOST_CHANNELS = 2**14
MOST_BLOCKS = 2**8


@dataclass(frozen=True, kw_only=True)
class GeneratorConfig:
    """What decides the generator's shape; the defaults are the embedded model's."""

    scale: int
    # Channels at the base grid and at its half, quarter and eighth.
    widths: tuple[int, int, int, int] = (64, 96, 128, 160)
    encoder_blocks: tuple[int, int, int, int] = (2, 2, 2, 1)
    # From the eighth back to the base grid.
    decoder_blocks: tuple[int, int, int, int] = (1, 2, 2, 2)
    # Channels after the first and the second pixel shuffle.
    head_widths: tuple[int, int] = (32, 16)
    text_hidden: int = 64
    text_norm: str = "layernorm"
    # Prompted blocks of CLIP's image tower, from block 1 on: two thirds of its depth in the paper.
    prompts: int = 4
    clip_weight: float = 0.1
    skip: str = "bicubic"

    def __post_init__(self) -> None:
        for name in ("widths", "encoder_blocks", "decoder_blocks", "head_widths"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        if self.scale not in SCALES:
            raise InputError(f"scale is {self.scale}; it must be one of {SCALES}.")
        if self.text_norm not in TEXT_NORMS:
            raise InputError(f"text_norm is {self.text_norm!r}; it must be one of {TEXT_NORMS}.")
        if self.skip not in SKIPS:
            raise InputError(f"skip is {self.skip!r}; it must be one of {SKIPS}.")
        # A level may do without blocks.
        limits = {
            "widths": (1, MOST_CHANNELS),
            "encoder_blocks": (0, MOST_BLOCKS),
            "decoder_blocks": (0, MOST_BLOCKS),
            "head_widths": (1, MOST_CHANNELS),
        }
        for name, (least, most) in limits.items():
            values = getattr(self, name)
            if not all(least <= value <= most for value in values):
                raise InputError(
                    f"{name} is {values}; it must hold numbers from {least} to {most}."
                )
        if not 1 <= self.text_hidden <= MOST_CHANNELS:
            raise InputError(
                f"text_hidden is {self.text_hidden}; it must be from 1 to {MOST_CHANNELS}."
            )
        if self.prompts < 1:
            raise InputError(f"prompts is {self.prompts}; at least one block must be prompted.")


class Stage(nn.Module):
    """One stage of the refinement module: bring to a width, refine, fuse with the text."""

    def __init__(
        self, inner: int, outer: int, blocks: int, text_dim: int, config: GeneratorConfig
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inner, outer, 1)
        self.blocks = nn.Sequential(*(GatedBlock(outer) for _ in range(blocks)))
        self.fuse = TIFBlock(outer, text_dim, hidden=config.text_hidden, text_norm=config.text_norm)

    def forward(self, features: Tensor, amounts: Tensor) -> Tensor:
        return self.fuse(self.blocks(self.conv(features)), amounts)


class ClipMapping(nn.Module):
    """Let the frozen CLIP-ViT look at the deepest features, told by prompt tokens what to look for.

    Shapes:
        features  (B, C, h, w)
        prompts   (B, n, D)
        returns   (B, C, h, w)   conv(features + weight * what CLIP saw)
    """

    def __init__(self, channels: int, width: int, weight: float) -> None:
        super().__init__()
        self.to_clip = nn.Conv2d(channels, width, 1)
        self.from_clip = nn.Conv2d(width, channels, 1)
        self.merge = nn.Conv2d(channels, channels, 3, padding=1)
        self.weight = weight

    def forward(self, features: Tensor, prompts: Tensor, clip: Clip) -> Tensor:
        seen = self.from_clip(clip.prompted(self.to_clip(features), prompts))
        seen = resize(seen, (features.shape[2], features.shape[3]))
        return self.merge(features + self.weight * seen)


class Generator(nn.Module):
    """Enlarge pictures by ``config.scale``, guided by text.

    Holds the frozen CLIP, whose image tower is part of the network; ``learned_state`` leaves it
    out. ``generator(low, text)`` is ``generator.render(low, generator.condition(text))``: what
    comes from the text alone need be computed only once for all tiles of a picture.

    Shapes:
        low      (B, 3, h, w)      RGB in [0, 1]; h, w >= 1, trained from 8 up
        text     (B, E)            ``clip.text(prompts)``
        returns  (B, 3, h*s, w*s)  RGB, about [0, 1], not clamped

    Raises:
        InputError: the CLIP has too few blocks for ``config.prompts``.
    """

    def __init__(self, config: GeneratorConfig, clip: Clip) -> None:
        super().__init__()
        if config.prompts >= clip.depth:
            raise InputError(
                f"prompts is {config.prompts}, but the CLIP {clip.name!r} has {clip.depth} blocks.",
                hint=f"Use at most {clip.depth - 1}.",
            )
        self.config = config
        self.clip = clip
        text_dim, widths = clip.embed_dim, config.widths

        def fusion(channels: int) -> TIFBlock:
            return TIFBlock(
                channels, text_dim, hidden=config.text_hidden, text_norm=config.text_norm
            )

        def refiners(level: int) -> nn.Sequential:
            return nn.Sequential(
                *(GatedBlock(widths[level]) for _ in range(config.encoder_blocks[level]))
            )

        self.stem = nn.Conv2d(3, widths[0], 3, padding=1)
        self.encode = nn.ModuleList(refiners(level) for level in range(4))
        self.down = nn.ModuleList(
            nn.Conv2d(widths[i], widths[i + 1], 2, stride=2) for i in range(3)
        )
        self.fuse = nn.ModuleList(fusion(width) for width in widths[1:])
        self.predict = PromptPredictor(
            text_dim,
            config.prompts,
            clip.width,
            heads=max(1, clip.width // 64),
            text_norm=config.text_norm,
        )
        self.map = ClipMapping(widths[3], clip.width, config.clip_weight)
        inner = (widths[3], widths[3], widths[2], widths[1])
        outer = (widths[3], widths[2], widths[1], widths[0])
        self.refine = nn.ModuleList(
            Stage(i, o, blocks, text_dim, config)
            for i, o, blocks in zip(inner, outer, config.decoder_blocks, strict=True)
        )
        first, second = config.head_widths
        last = nn.Conv2d(second, 3, 3, padding=1)
        if config.skip == "bicubic":
            # Start as plain bicubic enlargement.
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)  # type: ignore[arg-type]
        self.head = nn.Sequential(
            nn.Conv2d(widths[0], 4 * first, 3, padding=1),
            nn.PixelShuffle(2),
            nn.GELU(),
            nn.Conv2d(first, 4 * second, 3, padding=1),
            nn.PixelShuffle(2),
            nn.GELU(),
            last,
        )

    def forward(self, low: Tensor, text: Tensor) -> Tensor:
        return self.render(low, self.condition(text))

    def condition(self, text: Tensor) -> Tensor:
        """All that the network reads from a text, as one vector: (B, E) -> (B, K)."""
        prompts, refined = self.predict(text)
        encoder, refiner = self._fusions()
        amounts = [block.amounts(text) for block in encoder]
        amounts += [block.amounts(refined) for block in refiner]
        return torch.cat([prompts.flatten(1), *amounts], dim=1)

    def render(self, low: Tensor, condition: Tensor) -> Tensor:
        """Enlarge pictures (B, 3, h, w) by what ``condition`` made of their texts, (B, K)."""
        height, width = low.shape[2] * self.config.scale, low.shape[3] * self.config.scale
        base = enlarge(low, self.config.scale // 4)
        bottom, right = -base.shape[2] % BASE_MULTIPLE, -base.shape[3] % BASE_MULTIPLE
        if bottom or right:
            base = F.pad(base, (0, right, 0, bottom), mode="replicate")
        high = self.head(self._features(base, condition))[:, :, :height, :width]
        if self.config.skip == "bicubic":
            high = high + enlarge(low, self.config.scale)
        return high

    def _features(self, base: Tensor, condition: Tensor) -> Tensor:
        """Encode, fuse, map through CLIP and refine a picture on the base grid (both sides in
        eights).
        """
        encoder, refiner = self._fusions()
        sizes = [block.size for block in (*encoder, *refiner)]
        prompts, *amounts = torch.split(
            condition, [self.predict.tokens * self.clip.width, *sizes], dim=1
        )

        detail = self.encode[0](self.stem(base))
        levels = [detail]
        for down, encode, fuse, amount in zip(
            self.down, self.encode[1:], self.fuse, amounts[: len(encoder)], strict=True
        ):
            levels.append(fuse(encode(down(levels[-1])), amount))

        tokens = prompts.view(len(prompts), self.predict.tokens, self.clip.width)
        features = self.map(levels[3], tokens, self.clip)
        refining = zip(self.refine, amounts[len(encoder) :], strict=True)
        for index, (stage, amount) in enumerate(refining):
            if index:
                features = F.interpolate(features, scale_factor=2.0, mode="nearest")
            # The paper adds the text-fused levels after stages 1 to 3; the base level is our
            # addition.
            features = stage(features, amount) + levels[3 - index]
        return features

    def _fusions(self) -> tuple[list[TIFBlock], list[TIFBlock]]:
        """The layers that read the text: the encoder's, and the refinement module's."""
        stages = cast(list[Stage], list(self.refine))
        return cast(list[TIFBlock], list(self.fuse)), [stage.fuse for stage in stages]

    def learned_state(self) -> dict[str, Tensor]:
        """The tensors this network owns: everything but the frozen CLIP."""
        return {k: v for k, v in self.state_dict().items() if not k.startswith("clip.")}


def enlarge(images: Tensor, factor: int) -> Tensor:
    """Enlarge (B, 3, h, w) by a whole factor with plain bicubic interpolation."""
    if factor == 1:
        return images
    return F.interpolate(images, scale_factor=float(factor), mode="bicubic", align_corners=False)
