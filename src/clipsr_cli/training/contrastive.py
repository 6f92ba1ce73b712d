"""Train a small CLIP from nothing on captioned pictures (Radford et al. 2021)."""

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from clipsr_cli.evaluation.pairs import to_tensor
from clipsr_cli.models.clip import Clip
from clipsr_cli.training.config import ClipTrainConfig
from clipsr_cli.training.data import Pictures, random_crop
from clipsr_cli.training.steps import learning_rate_factor, parameter_groups


def contrastive_loss(images: Tensor, texts: Tensor, scale: Tensor, captions: list[str]) -> Tensor:
    """Symmetric cross-entropy between normalised embeddings (B, E) of pictures and their captions.

    Equal captions in one batch are all right answers to each other's pictures.
    """
    logits = scale * F.normalize(images, dim=1) @ F.normalize(texts, dim=1).T
    numbers = torch.tensor([captions.index(caption) for caption in captions], device=logits.device)
    same = (numbers[:, None] == numbers[None, :]).float()
    target = same / same.sum(dim=1, keepdim=True)
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2


def train_clip(config: ClipTrainConfig, output: Path) -> Iterator[dict[str, float]]:
    """Train, yielding {name: value} per step, and save the state as often as told.

    A state at ``output`` is resumed. The last yield carries the held-back retrieval scores.
    """
    torch.manual_seed(config.seed)
    clip = Clip.create(config.architecture, patch_dropout=config.patch_dropout)
    model = clip.model.requires_grad_(True)
    held_back = Pictures(config.sources, "test", captioned=True)
    pictures = Pictures(
        config.sources, "train", short_side=clip.image_size * 9 // 8, captioned=True
    )
    optimiser = torch.optim.AdamW(
        parameter_groups(list(model.parameters()), config.weight_decay),
        lr=config.learning_rate,
        betas=(0.9, 0.98),
    )
    first = 0
    if output.is_file():
        state = torch.load(output, weights_only=True)
        model.load_state_dict(state["model"])
        optimiser.load_state_dict(state["optimiser"])
        first = state["step"]

    for step in range(first, config.steps):
        torch.manual_seed(config.seed + step)
        model.train()
        rng = np.random.default_rng((config.seed, step))
        images, captions = [], []
        for _ in range(config.batch_size):
            index = pictures.draw(rng)
            pixels = pictures.pixels(index)
            side = max(16, round(min(pixels.shape[:2]) * rng.uniform(0.6, 1.0)))
            crop = random_crop(pixels, side, rng, min_zoom=1.0)[None]
            size = (clip.image_size, clip.image_size)
            images.append(F.interpolate(crop, size, mode="bilinear", antialias=True)[0])
            choices = pictures.samples[index].captions
            captions.append(choices[rng.integers(len(choices))])
        factor = learning_rate_factor(step, warmup=config.warmup, steps=config.steps)
        for group in optimiser.param_groups:
            group["lr"] = config.learning_rate * factor
        tokens = clip.tokenizer(captions)
        loss = contrastive_loss(
            clip.image(torch.stack(images)),
            model.encode_text(tokens),
            model.logit_scale.exp(),
            captions,
        )
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        with torch.no_grad():
            model.logit_scale.clamp_(0, math.log(100))
        yield {"step": step + 1, "loss": loss.item()}
        if (step + 1) % config.save_every == 0 or step + 1 == config.steps:
            output.parent.mkdir(parents=True, exist_ok=True)
            aside = output.with_suffix(".tmp")
            torch.save(
                {
                    "model": model.state_dict(),
                    "optimiser": optimiser.state_dict(),
                    "step": step + 1,
                },
                aside,
            )
            aside.replace(output)
            model.eval()
            yield {"step": step + 1, **retrieval(clip, held_back)}


@torch.no_grad()
def retrieval(clip: Clip, pictures: Pictures) -> dict[str, float]:
    """Share of pictures whose own caption is nearest, or among the five nearest, of all captions
    there.

    ``chance`` is what a blind guess gets.
    """
    captions = sorted({sample.captions[0] for sample in pictures.samples})
    texts = F.normalize(clip.text(captions), dim=1)
    ranks = np.array(
        [
            rank(clip, pictures.pixels(index), texts, captions.index(sample.captions[0]))
            for index, sample in enumerate(pictures.samples)
        ]
    )
    return {
        "recall@1": float((ranks < 1).mean()),
        "recall@5": float((ranks < 5).mean()),
        "chance@1": 1 / len(captions),
    }


@torch.no_grad()
def rank(clip: Clip, pixels: np.ndarray, texts: Tensor, right: int) -> int:
    """How many of some texts lie nearer to a picture in CLIP than the right one does.

    Args:
        clip: the CLIP.
        pixels: (H, W, 3) uint8.
        texts: their embeddings (N, E), each of length 1.
        right: the number of the right one.
    """
    image = F.normalize(clip.image(to_tensor(pixels)[None]), dim=1)
    order = (image @ texts.T)[0].argsort(descending=True)
    return int((order == right).nonzero())
