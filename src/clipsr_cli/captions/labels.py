"""Caption a picture by the noun whose text is nearest to it in CLIP's space, and by its colours."""

from collections.abc import Sequence
from typing import Self

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from clipsr_cli.captions.colours import colour_words
from clipsr_cli.captions.nouns import Noun
from clipsr_cli.captions.reading import squares
from clipsr_cli.models.clip import Clip
from clipsr_cli.runtime import pick_device
from clipsr_cli.weights import find_clip

# Each noun is the mean of its embeddings in these (Radford et al. 2021, section 3.1.4).
TEMPLATES = ("{}", "a photo of {}", "a close-up photo of {}", "a picture of {}")
TEXTS_AT_ONCE = 64
# The probability from which a noun is said; below it, the likeliest kind is.
CERTAIN = 0.5


class Labels:
    """Chooses among nouns by zero-shot classification with a CLIP.

    Where no noun is more likely than all others together, the kind with the most probability is
    said: "a photo of a bird" rather than of the wrong bird.
    """

    def __init__(self, clip: Clip, nouns: Sequence[Noun], *, device: str = "auto") -> None:
        self.device = pick_device(device)
        self.clip = clip.to(self.device)
        self.nouns = list(nouns)
        self.kinds = list(dict.fromkeys(noun.kind for noun in nouns))
        self.kind_of = torch.tensor([self.kinds.index(noun.kind) for noun in nouns])
        self.texts = self._embed([noun.phrase for noun in nouns])

    @classmethod
    def load(cls, clip: str, nouns: Sequence[Noun], *, device: str = "auto") -> Self:
        """Load a CLIP by its name or path.

        Raises:
            InputError: no such CLIP.
            WeightsError: its files are missing or broken.
            DeviceError: the device is not there.
        """
        pick_device(device)
        architecture, weights = find_clip(clip)
        return cls(Clip.create(architecture, weights, name=clip), nouns, device=device)

    @torch.inference_mode()
    def caption(self, pictures: Sequence[np.ndarray]) -> list[str]:
        """ "a photo of an owl, brown and grey colours", or without colours where none is clear.

        Args:
            pictures: (H, W, 3) RGB, uint8, of any sizes.
        """
        images = torch.from_numpy(squares(pictures, self.clip.image_size)).to(self.device)
        likeness = F.normalize(self.clip.image(images), dim=1) @ self.texts.T
        chances = (likeness * self.clip.model.logit_scale.exp()).softmax(dim=1).cpu()
        shown = [self._choose(row) for row in chances]
        return [
            _sentence(phrase, colour_words(pixels))
            for phrase, pixels in zip(shown, pictures, strict=True)
        ]

    def _choose(self, chances: Tensor) -> str:
        """The noun or the kind to name, by the probabilities (N,) of the nouns."""
        best = int(chances.argmax())
        if chances[best] >= CERTAIN:
            return self.nouns[best].phrase
        of_kinds = torch.zeros(len(self.kinds)).index_add_(0, self.kind_of, chances)
        return self.kinds[int(of_kinds.argmax())]

    @torch.inference_mode()
    def _embed(self, phrases: Sequence[str]) -> Tensor:
        """Unit vectors (N, E) of the nouns, each the mean over the templates."""
        texts = [template.format(phrase) for phrase in phrases for template in TEMPLATES]
        vectors = [
            F.normalize(self.clip.text(texts[start : start + TEXTS_AT_ONCE]), dim=1)
            for start in range(0, len(texts), TEXTS_AT_ONCE)
        ]
        by_noun = torch.cat(vectors).view(len(phrases), len(TEMPLATES), -1)
        return F.normalize(by_noun.mean(dim=1), dim=1)


def _sentence(phrase: str, colours: Sequence[str]) -> str:
    said = f", {' and '.join(colours)} colours" if colours else ""
    return f"a photo of {phrase}{said}"
