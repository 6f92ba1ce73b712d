"""Find likely sequences of tokens, one for each picture, by beam search over a language model."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor


class Steps(Protocol):
    """A language model that is fed a token at a time.

    Legend: P pictures that are searched for, b rows of tokens for each, V words known.
    """

    def advance(self, tokens: Tensor) -> Tensor:
        """Feed every row its next token (P, b); give the logits (P, b, V) of what follows."""
        ...

    def keep(self, rows: Tensor) -> None:
        """Go on with these rows only, (P', b') numbers into the P * b rows so far.

        Rows come back in the order asked for, some of them perhaps several times; all of one line
        belong to one picture.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class Rules:
    """What sequences are allowed.

    Attributes:
        start: the token before the first.
        end: the token after the last.
        never: tokens that never come.
        shortest: least number of tokens before the end.
        longest: most tokens; what has not ended by then is cut.
        beams: rows followed for each picture; 1 is greedy.
    """

    start: int
    end: int
    never: tuple[int, ...] = ()
    shortest: int = 4
    longest: int = 30
    beams: int = 4


@dataclass
class _Picture:
    """The search for one picture.

    Attributes:
        rows: tokens of its live rows.
        ended: (mean log-probability, tokens) of those that came to their end.
        cut: the same of those that did not.
    """

    rows: list[list[int]] = field(default_factory=lambda: [[]])
    ended: list[tuple[float, list[int]]] = field(default_factory=list)
    cut: list[tuple[float, list[int]]] = field(default_factory=list)

    def best(self) -> list[int]:
        """The tokens with the best mean; a cut sequence only where none ended."""
        return max(self.ended or self.cut, key=lambda found: found[0])[1]


def search(steps: Steps, pictures: int, rules: Rules, device: torch.device) -> list[list[int]]:
    """Search for all pictures at once; one whose search is over costs nothing any more.

    A row's score is the sum of its tokens' log-probabilities. Each step keeps the ``beams`` best
    ways to go on of each picture; a way that ends counts if it is among the ``beams`` best, and a
    picture's search is over when as many have ended as there are beams.

    Returns:
        For each picture the tokens between start and end.
    """
    searches = [_Picture() for _ in range(pictures)]
    live = list(searches)
    tokens = torch.full((pictures, 1), rules.start, device=device)
    scores = torch.zeros(pictures, 1, device=device)
    for length in range(rules.longest):
        chances = steps.advance(tokens).float().log_softmax(dim=-1)
        _forbid(chances, [row for one in live for row in one.rows], rules, length)
        _, beams, vocabulary = chances.shape
        totals, places = (scores[:, :, None] + chances).flatten(1).topk(2 * rules.beams, dim=1)
        chosen: list[list[tuple[int, int, float]]] = []
        going: list[_Picture] = []
        for index, (one, best, where) in enumerate(
            zip(live, totals.tolist(), places.tolist(), strict=True)
        ):
            ways = _ways(one, best, [divmod(place, vocabulary) for place in where], rules)
            if length + 1 == rules.longest:
                one.cut = [(total / len(row), row) for row, (_, _, total) in ways]
            elif len(one.ended) < rules.beams:
                one.rows = [row for row, _ in ways]
                chosen.append([(index * beams + row, token, t) for _, (row, token, t) in ways])
                going.append(one)
        if not going:
            break
        live = going
        rows, tokens, scores = (
            torch.tensor([[way[part] for way in ways] for ways in chosen], device=device)
            for part in range(3)
        )
        steps.keep(rows)
    return [one.best() for one in searches]


def _ways(
    one: _Picture, totals: Sequence[float], places: Sequence[tuple[int, int]], rules: Rules
) -> list[tuple[list[int], tuple[int, int, float]]]:
    """How a picture's search goes on: tokens, and (row they go on from, new token, score).

    Args:
        one: the search; what ends is noted there.
        totals: scores of the ways to go on, the best first.
        places: the row and the token of each.
        rules: what is allowed.
    """
    ways: list[tuple[list[int], tuple[int, int, float]]] = []
    for rank, (total, (row, token)) in enumerate(zip(totals, places, strict=True)):
        tokens = one.rows[row]
        if token != rules.end:
            ways.append(([*tokens, token], (row, token, total)))
        elif rank < rules.beams:
            one.ended.append((total / (len(tokens) + 1), tokens))
    return ways[: rules.beams]


def _forbid(chances: Tensor, rows: Sequence[Sequence[int]], rules: Rules, length: int) -> None:
    """Rule out what may not follow, in place: chances (P, b, V), rows their P * b tokens so far."""
    flat = chances.flatten(0, 1)
    flat[:, list(rules.never)] = -torch.inf
    if length < rules.shortest:
        flat[:, rules.end] = -torch.inf
    pairs = [(index, token) for index, row in enumerate(rows) for token in repeats(row)]
    if pairs:
        flat[tuple(torch.tensor(pairs, device=flat.device).T)] = -torch.inf


def repeats(tokens: Sequence[int]) -> set[int]:
    """The tokens that would make a sequence go round in circles: the last one again, or three in a
    row that came before.
    """
    found = set(tokens[-1:])
    for index in range(len(tokens) - 2):
        if tokens[index : index + 2] == tokens[-2:]:
            found.add(tokens[index + 2])
    return found
