"""A frozen CLIP: turns text into vectors, and pictures into vectors and feature maps.

The only module that knows open_clip. Any open_clip model with a plain ViT image tower fits, from
our own small one to ViT-L.
"""

from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self

import open_clip
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clipsr_cli.errors import InputError, WeightsError, reason


class Clip(nn.Module):
    """An open_clip model whose parameters never learn and which is always in eval mode.

    Legend: B batch, E embedding, D width of the image tower, g side of its patch grid.

    Attributes:
        name: what checkpoints call this CLIP.
        embed_dim: E.
        width: D.
        grid: g.
        depth: number of blocks in the image tower.
        image_size: side of the pictures that the image tower takes.
    """

    # open_clip is not typed, and nn.Module hides what its attributes are.
    model: Any
    mean: Tensor
    std: Tensor

    def __init__(
        self, model: nn.Module, tokenizer: open_clip.SimpleTokenizer, *, name: str
    ) -> None:
        super().__init__()
        self.name = name
        self.model = model
        self.tokenizer = tokenizer
        visual = self.model.visual
        if not isinstance(visual, open_clip.transformer.VisionTransformer) or visual.attn_pool:
            raise InputError(
                f"The CLIP {name!r} has no plain ViT image tower.",
                hint="Use an open_clip ViT model such as ViT-B-32.",
            )
        self.embed_dim: int = visual.output_dim
        self.width: int = visual.conv1.out_channels
        self.grid: int = visual.grid_size[0]
        self.depth: int = len(visual.transformer.resblocks)
        self.image_size: int = visual.image_size[0]
        preprocess = open_clip.get_model_preprocess_cfg(model)
        for key in ("mean", "std"):
            value = torch.tensor(preprocess[key]).view(1, 3, 1, 1)
            self.register_buffer(key, value, persistent=False)
        self.requires_grad_(False)
        self.eval()

    @classmethod
    def create(
        cls,
        architecture: str | Path,
        weights: Path | None = None,
        *,
        name: str = "",
        patch_dropout: float = 0.0,
    ) -> Self:
        """Build a CLIP from an open_clip architecture.

        Args:
            architecture: an open_clip model name (``ViT-B-32``) or a JSON file in its format.
            weights: safetensors in open_clip's key format; None leaves random weights.
            name: what checkpoints shall call it; the architecture's name by default.
            patch_dropout: share of the patches left out while a CLIP itself is trained.

        Raises:
            InputError: open_clip has no such architecture.
            WeightsError: the file does not hold exactly this architecture's tensors.
        """
        model, tokenizer = create_model(architecture, weights, patch_dropout=patch_dropout)
        named = architecture.stem if isinstance(architecture, Path) else architecture
        return cls(model, tokenizer, name=name or named)

    def train(self, mode: bool = True) -> Self:
        """Stay in eval mode whatever the surrounding network does."""
        return super().train(False)

    def text(self, prompts: Sequence[str]) -> Tensor:
        """Embed prompts, not normalised: (B, E). Longer prompts than the context are cut."""
        tokens = self.tokenizer(list(prompts)).to(self.mean.device)
        return self.model.encode_text(tokens)

    def image(self, images: Tensor) -> Tensor:
        """Embed pictures (B, 3, H, W) in [0, 1], not normalised: (B, E). Gradients flow through."""
        return self.model.visual(self.preprocess(images))

    def features(self, images: Tensor, blocks: Sequence[int]) -> list[Tensor]:
        """Feature maps (B, D, g, g) after the given blocks, for pictures (B, 3, H, W) in [0, 1]."""
        found = self.model.visual.forward_intermediates(
            self.preprocess(images), indices=list(blocks), stop_early=True, intermediates_only=True
        )
        return found["image_intermediates"]

    def prompted(self, features: Tensor, prompts: Tensor, first: int = 1) -> Tensor:
        """Run the image tower's blocks on a feature map, with one extra prompt token in some of
        them.

        The map stands in for the patch embeddings. Block ``first + i`` sees prompt token i, which
        is dropped behind it (paper, CLIP-ViT with prompts).

        Shapes:
            features  (B, D, h, w)  any size: resized to CLIP's own grid
            prompts   (B, n, D)     n <= depth - first
            returns   (B, D, g, g)
        """
        visual = self.model.visual
        features = resize(features, self.grid)
        patches = features.flatten(2).transpose(1, 2)
        class_token = visual.class_embedding.to(patches.dtype).expand(len(patches), 1, -1)
        tokens = torch.cat([class_token, patches], dim=1)
        tokens = visual.ln_pre(tokens + visual.positional_embedding.to(tokens.dtype))
        for index, block in enumerate(visual.transformer.resblocks, start=-first):
            if 0 <= index < prompts.shape[1]:
                prompt = prompts[:, index : index + 1].to(tokens.dtype)
                tokens = block(torch.cat([tokens, prompt], dim=1))[:, :-1]
            else:
                tokens = block(tokens)
        return tokens[:, 1:].transpose(1, 2).unflatten(2, (self.grid, self.grid))

    def preprocess(self, images: Tensor) -> Tensor:
        """Resize (B, 3, H, W) in [0, 1] to CLIP's input size and normalise as CLIP was trained."""
        size = (self.image_size, self.image_size)
        if images.shape[-2:] != size:
            images = F.interpolate(images, size, mode="bicubic", antialias=True).clamp(0, 1)
        return (images - self.mean) / self.std


def create_model(
    architecture: str | Path, weights: Path | None = None, *, patch_dropout: float = 0.0
) -> tuple[nn.Module, open_clip.SimpleTokenizer]:
    """An open_clip model of any kind and its tokenizer: see ``Clip.create``.

    Raises:
        InputError: open_clip has no such architecture.
        WeightsError: the file does not hold exactly this architecture's tensors.
    """
    name = _register(architecture) if isinstance(architecture, Path) else architecture
    if open_clip.get_model_config(name) is None:
        raise InputError(
            f"open_clip has no model {str(architecture)!r}.",
            hint="Names: python -c 'import open_clip; print(open_clip.list_models())'",
        )
    try:
        model = open_clip.create_model(
            name,
            pretrained=str(weights) if weights else None,
            load_weights=weights is not None,
            pretrained_text=False,
            force_patch_dropout=patch_dropout or None,
        )
        return model, open_clip.get_tokenizer(name)
    except Exception as error:
        # There is hardly an exception that no broken config raises.
        raise WeightsError(
            f"{weights or 'Nothing'} does not hold a {architecture} CLIP: {reason(error)}."
        ) from error


def _register(config: Path) -> str:
    """Make a JSON config known to open_clip, by a name that tells it nothing.

    The file's own might: "local-dir:x" is a place to load code from, and "siglip" a tokenizer.

    Raises:
        WeightsError: the file cannot be read, or is not JSON.
    """
    try:
        content = config.read_bytes()
        name = f"clipsr-{sha256(content).hexdigest()[:16]}"
        if open_clip.get_model_config(name) is None:
            with TemporaryDirectory() as folder:
                copy = Path(folder, f"{name}.json")
                copy.write_bytes(content)
                open_clip.add_model_config(copy)
    except (OSError, ValueError, RecursionError) as error:
        raise WeightsError(f"Cannot read {config}: {reason(error)}.") from error
    return name


def resize(features: Tensor, size: int | tuple[int, int]) -> Tensor:
    """Resize a feature map (B, C, h, w) smoothly to a size, or to a square of one."""
    height, width = (size, size) if isinstance(size, int) else size
    if features.shape[-2:] == (height, width):
        return features
    return F.interpolate(features, (height, width), mode="bilinear", align_corners=False)
