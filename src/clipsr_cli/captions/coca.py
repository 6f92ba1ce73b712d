"""Caption a picture in free words with an open_clip CoCa (Yu et al. 2022, arXiv 2205.01917).

A decoder of our own, as open_clip's needs transformers. CoCa's text tower and text decoder are both
causal, so what they made of earlier tokens stays true: a step computes one token for each row.
"""

import re
from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import open_clip
import torch
import torch.nn.functional as F
from open_clip.transformer import ResidualAttentionBlock
from torch import Tensor, nn

from clipsr_cli.captions.reading import squares
from clipsr_cli.captions.search import Rules, search
from clipsr_cli.errors import InputError
from clipsr_cli.models.clip import create_model
from clipsr_cli.prompts import one_line
from clipsr_cli.runtime import pick_device
from clipsr_cli.weights import find_captioner

# Keys and values of one attention layer, each (rows, heads, tokens, width of a head).
Memory = tuple[Tensor, Tensor]


class Coca:
    """Describes pictures with a CoCa, by beam search.

    Attributes:
        rules: what captions are allowed.
        image_size: side of what the network looks at, the middle of the picture.
    """

    # open_clip is not typed.
    model: Any

    def __init__(
        self,
        model: Any,
        tokenizer: open_clip.SimpleTokenizer,
        *,
        beams: int = 4,
        shortest: int = 4,
        longest: int = 30,
        device: str = "auto",
    ) -> None:
        self.device = pick_device(device)
        _refuse_unknown(model)
        self.model = model.to(self.device).eval().requires_grad_(False)
        self.tokenizer = tokenizer
        self.image_size: int = self.model.visual.image_size[0]
        # The start token takes a place in the context, the end token is never fed.
        longest = min(longest, self.model.context_length, self.model.text.context_length)
        self.rules = Rules(
            start=tokenizer.sot_token_id,
            end=tokenizer.eot_token_id,
            never=(tokenizer.sot_token_id, self.model.pad_id),
            shortest=shortest,
            longest=longest,
            beams=beams,
        )
        preprocess = open_clip.get_model_preprocess_cfg(model)
        self.mean, self.std = (
            torch.tensor(preprocess[key], device=self.device).view(1, 3, 1, 1)
            for key in ("mean", "std")
        )

    @classmethod
    def load(cls, name: str, *, beams: int = 4, device: str = "auto") -> Self:
        """Load a CoCa by its name or path.

        Raises:
            InputError: no such captioner, or it is no CoCa.
            WeightsError: its file is missing or broken.
            DeviceError: the device is not there.
        """
        pick_device(device)
        architecture, weights = find_captioner(name)
        model, tokenizer = create_model(architecture, weights)
        return cls(model, tokenizer, beams=beams, device=device)

    @torch.inference_mode()
    def caption(self, pictures: Sequence[np.ndarray]) -> list[str]:
        """A sentence for each picture, without a full stop.

        Args:
            pictures: (H, W, 3) RGB, uint8, of any sizes.
        """
        images = torch.from_numpy(squares(pictures, self.image_size)).to(self.device)
        _, seen = self.model._encode_image((images - self.mean) / self.std)
        found = search(Decoder(self.model, seen), len(pictures), self.rules, self.device)
        return [clean(self.tokenizer.decode(tokens)) for tokens in found]


class Decoder:
    """CoCa's text tower and text decoder as ``search.Steps``: gives the logits of
    ``text_decoder(image, _encode_text(tokens))`` for the last token, without going over the
    earlier ones again.

    Legend: P pictures, b rows for each, t tokens so far, N image tokens, H heads, D width, V words.
    """

    def __init__(self, model: Any, seen: Tensor) -> None:
        """Start with one row for each picture, given the image tokens (P, N, D)."""
        self.text, self.decoder = model.text, model.text_decoder
        # (P * b, H, t, D / H) by block; none before the first token.
        self.past: dict[nn.Module, Memory] = {}
        # (P, H, N, D / H) by block: the same for every row and every step.
        self.seen: dict[nn.Module, Memory] = {}
        for block in self.decoder.cross_attn:
            keys, values = _project(block, block.ln_1_kv(seen), "kv")
            self.seen[block] = (keys, values)
        self.length = 0
        self.rows = 1

    def advance(self, tokens: Tensor) -> Tensor:
        """Feed every row its next token (P, b); give the logits (P, b, V) of what follows."""
        self.rows = tokens.shape[1]
        place = self.text.positional_embedding[self.length]
        features = self.text.token_embedding(tokens) + place
        for block in self.text.transformer.resblocks:
            features = self._attend_past(block, features)
        for block, cross in zip(self.decoder.resblocks, self.decoder.cross_attn, strict=True):
            features = self._attend_past(block, features)
            # The rows of a picture are queries of one attention: its image tokens stand once.
            [query] = _project(cross, cross.ln_1(features), "q")
            features = _finish(cross, features, query, self.seen[cross])
        self.length += 1
        return self.decoder.ln_final(features) @ self.decoder.text_projection

    def keep(self, rows: Tensor) -> None:
        """Go on with these rows (P', b') only."""
        pictures = rows[:, 0] // self.rows
        flat = rows.flatten()
        self.past = {b: (keys[flat], values[flat]) for b, (keys, values) in self.past.items()}
        self.seen = {
            b: (keys[pictures], values[pictures]) for b, (keys, values) in self.seen.items()
        }

    def _attend_past(self, block: Any, features: Tensor) -> Tensor:
        """A block of causal self-attention, for the next token of every row: (P, b, D)."""
        rows = features.flatten(0, 1)[:, None]
        query, keys, values = _project(block, block.ln_1(rows), "qkv")
        if block in self.past:
            past_keys, past_values = self.past[block]
            keys = torch.cat([past_keys, keys], dim=2)
            values = torch.cat([past_values, values], dim=2)
        self.past[block] = (keys, values)
        return _finish(block, rows, query, (keys, values)).view(features.shape)


def clean(text: str) -> str:
    """Decoded tokens as a person would write them: ``a man 's hat , red .`` -> ``a man's hat,
    red``.
    """
    text = one_line(text.replace("\ufffd", " "))
    return re.sub(r"\s+(?=[.,;:!?'])", "", text).strip(" .,;:-")


def _refuse_unknown(model: Any) -> None:
    """Refuse what the decoder above would compute wrongly."""
    usual = isinstance(model, open_clip.CoCa) and hasattr(model.text, "transformer")
    blocks = (
        [
            *model.text.transformer.resblocks,
            *model.text_decoder.resblocks,
            *model.text_decoder.cross_attn,
        ]
        if usual
        else []
    )
    # With a class token, features leave the text tower without its last normalisation.
    fit = usual and model.text.attn_mask is not None and model.text.cls_emb is not None
    if not fit or not all(isinstance(block, ResidualAttentionBlock) for block in blocks):
        raise InputError(
            "The captioner is no CoCa with a plain causal text tower.",
            hint="Use an open_clip CoCa such as coca_ViT-B-32.",
        )


def _project(block: Any, features: Tensor, parts: str) -> list[Tensor]:
    """Of features (R, t, D), some of the queries, keys and values (R, H, t, D / H): ``qkv``."""
    attention = block.attn
    weights = dict(zip("qkv", attention.in_proj_weight.chunk(3), strict=True))
    biases = dict(zip("qkv", attention.in_proj_bias.chunk(3), strict=True))
    made = (F.linear(features, weights[part], biases[part]) for part in parts)
    return [one.view(*one.shape[:2], attention.num_heads, -1).transpose(1, 2) for one in made]


def _finish(block: Any, features: Tensor, query: Tensor, memory: Memory) -> Tensor:
    """What a block makes of features (R, t, D), by their queries and what they look at."""
    found = F.scaled_dot_product_attention(query, *memory).transpose(1, 2).flatten(2)
    features = features + block.ls_1(block.attn.out_proj(found))
    return features + block.ls_2(block.mlp(block.ln_2(features)))
