"""Score enlargers on a dataset, or results on disk, and gather a report."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TypeVar

from torch import Tensor

from clipsr_cli.datasets import Sample
from clipsr_cli.errors import ClipsrError
from clipsr_cli.evaluation.contenders import Contender, distinct
from clipsr_cli.evaluation.folder import Folder, digest_picture
from clipsr_cli.evaluation.pairs import Pair, make_pair, results_on_disk, to_8_bit
from clipsr_cli.evaluation.protocol import Protocol, choose_prompts, some_names
from clipsr_cli.evaluation.report import Estimate, Report, Row, difference
from clipsr_cli.evaluation.scoring import PLAIN, Enlarge, compare, score
from clipsr_cli.metrics import Compared, Gathering, Metric, Setting

__all__ = ["Assessment", "Contender", "Report", "ResultsAssessment"]

Read = TypeVar("Read")


class Assessment:
    """Scores of some enlargers on the pictures of a dataset.

    Args:
        samples: the pictures.
        contenders: what enlarges them.
        protocol: how pictures are cut, reduced and described.
        metrics: what is asked for.
        setting: what the metrics need.
        dataset, split: what the report calls the pictures.
        folder: where rows and pictures are kept, and used again; None keeps nothing.
        workers: threads that read pictures. They change nothing but the speed.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        contenders: Sequence[Contender],
        *,
        protocol: Protocol,
        metrics: Mapping[str, Metric],
        setting: Setting,
        dataset: str,
        split: str,
        folder: Folder | None = None,
        workers: int = 2,
    ) -> None:
        self.samples = sorted(samples, key=lambda sample: sample.name)
        self.prompts = choose_prompts(self.samples, protocol.prompts)
        self.contenders = list(contenders)
        self.protocol = protocol
        self.metrics = dict(metrics)
        self.setting = setting
        self.dataset, self.split = dataset, split
        self.folder = folder
        self.workers = workers
        names = [contender.name for contender in contenders]
        self._rows: dict[str, list[Row]] = {name: [] for name in names}
        # With the pictures' own captions, beside the prompts of the protocol.
        self._reading = [contender for contender in contenders if contender.name not in PLAIN]
        self._told: dict[str, list[Row]] = {contender.name: [] for contender in self._reading}
        self._failed: dict[str, str] = {}
        self._gatherings = _gatherings(metrics, names, setting)
        # Of the picture at hand: counted when all of its rows are made.
        self._made: list[tuple[Gathering, Compared]] = []

    @property
    def total(self) -> int:
        """How many pictures there are."""
        return len(self.samples)

    def run(self) -> Iterator[str]:
        """Score every picture, yielding the name of each that is done. One failure stops
        nothing.
        """
        makers = (
            partial(make_pair, sample, self.protocol, prompt)
            for sample, prompt in zip(self.samples, self.prompts, strict=True)
        )
        names = (sample.name for sample in self.samples)
        for name, read in _ahead(names, makers, self.workers):
            self._made.clear()
            try:
                pair = read()
                rows = {c.name: self._row(c, pair, c.name) for c in self.contenders}
                told = self._told_the_truth(pair)
            except ClipsrError as error:
                self._failed[name] = str(error)
                continue
            for gathering, compared in self._made:
                gathering.add(compared)
            for kind, row in rows.items():
                self._rows[kind].append(row)
            for kind, row in told.items():
                self._told[kind].append(row)
            yield name

    def report(self) -> Report:
        """What has been scored."""
        return Report(
            dataset=self.dataset,
            split=self.split,
            scale=self.protocol.scale,
            protocol=self.protocol.in_words(),
            rows=self._rows,
            metrics=self.metrics,
            whole=_values(self._gatherings),
            text_effect=self._text_effect(),
            failed=self._failed,
        )

    def _told_the_truth(self, pair: Pair) -> dict[str, Row]:
        """Scores with the picture's own caption for a prompt, unless the protocol gives that."""
        if self.protocol.prompts == "matched" or not pair.caption:
            return {}
        own = replace(pair, prompt=pair.caption)
        return {c.name: self._row(c, own, f"{c.name} (matched)") for c in self._reading}

    def _row(self, contender: Contender, pair: Pair, label: str) -> Row:
        """One contender's scores of one pair: kept ones, where they are of the same result."""
        # Only of results with the protocol's prompts.
        gatherings = self._gatherings.get(label, {})
        folder, kept = self.folder, None
        if folder is not None:
            folder.keep_pair(pair)
            kept = folder.row(label, contender.fingerprint, pair)
            if kept is not None and not gatherings:
                return kept
        result = to_8_bit(contender.enlarge(pair)).cpu()
        self._made += [(gathering, compare(pair, result)) for gathering in gatherings.values()]
        if kept is not None:
            return kept
        row = score(pair, result, self.metrics, self.setting)
        if folder is not None:
            folder.keep(label, contender.fingerprint, pair, result, row)
        return row

    def _text_effect(self) -> dict[str, dict[str, Estimate]]:
        effect: dict[str, dict[str, Estimate]] = {}
        for kind, told in self._told.items():
            names = {row.name for row in told}
            asked = [row for row in self._rows[kind] if row.name in names]
            found = {name: difference(told, asked, name) for name in self.metrics}
            known = {name: value for name, value in found.items() if value is not None}
            if known:
                effect[kind] = known
        return effect


class ResultsAssessment:
    """Scores of a folder of results against a folder of references.

    Args:
        results: the results; the folder's name is the model's.
        references: what they should be, matched by their path without its extension.
        captions: what the references show, by path within their folder.
        protocol: its scale and kernel tell what the results were made from, where that is known.
        metrics: what is asked for.
        setting: what the metrics need.
        limit, seed: score at most so many pictures, chosen by seed and name.
        enlargers: to stand beside the results, where the scale is known.
        folder: where rows and pictures are kept; None keeps nothing.
        workers: threads that read pictures.

    Raises:
        InputError: no result has a reference.
    """

    def __init__(
        self,
        results: Path,
        references: Path,
        *,
        captions: Mapping[str, str],
        protocol: Protocol,
        metrics: Mapping[str, Metric],
        setting: Setting,
        limit: int | None = None,
        seed: int = 0,
        enlargers: Mapping[str, Enlarge] | None = None,
        folder: Folder | None = None,
        workers: int = 2,
    ) -> None:
        readers, self._failed = results_on_disk(results, references, captions, protocol)
        self.readers = {name: readers[name] for name in some_names([*readers], limit, seed)}
        self.model = distinct(results.resolve().name, enlargers or ())
        self.references = references
        self.enlargers = dict(enlargers or {})
        self.protocol = protocol
        self.metrics = dict(metrics)
        self.setting = setting
        self.folder = folder
        self.workers = workers
        self._rows: dict[str, list[Row]] = {name: [] for name in (self.model, *self.enlargers)}
        self._gatherings = _gatherings(metrics, self._rows, setting)

    @property
    def total(self) -> int:
        """How many pictures there are."""
        return len(self.readers)

    def run(self) -> Iterator[str]:
        """Score every picture, yielding the name of each that is done. One failure stops
        nothing.
        """
        for name, read in _ahead(self.readers, self.readers.values(), self.workers):
            try:
                pair, result = read()
            except ClipsrError as error:
                self._failed[name] = str(error)
                continue
            made = {self.model: result}
            if pair.low is not None:
                made |= {kind: to_8_bit(make(pair)) for kind, make in self.enlargers.items()}
            for kind, rows in self._rows.items():
                if kind not in made:
                    rows.append(Row(name=name, prompt="", caption=pair.caption, scores={}))
                    continue
                rows.append(self._row(kind, pair, made[kind]))
                for gathering in self._gatherings.get(kind, {}).values():
                    gathering.add(compare(pair, made[kind]))
            yield name

    def report(self) -> Report:
        """What has been scored."""
        whole = _values(self._gatherings)
        return Report(
            dataset=str(self.references),
            split="all",
            scale=self.protocol.scale,
            protocol=self.protocol.of_results_in_words(),
            rows={
                kind: rows
                for kind, rows in self._rows.items()
                if kind == self.model or kind in whole or any(row.scores for row in rows)
            },
            metrics=self.metrics,
            whole=whole,
            failed=self._failed,
        )

    def _row(self, kind: str, pair: Pair, result: Tensor) -> Row:
        """The scores of one result: kept ones, where they are of the same pictures."""
        if self.folder is None:
            return score(pair, result, self.metrics, self.setting)
        self.folder.keep_pair(pair)
        fingerprint = digest_picture(result)
        row = self.folder.row(kind, fingerprint, pair)
        if row is None:
            row = score(pair, result, self.metrics, self.setting)
            self.folder.keep(kind, fingerprint, pair, result, row)
        return row


def _gatherings(
    metrics: Mapping[str, Metric], models: Iterable[str], setting: Setting
) -> dict[str, dict[str, Gathering]]:
    wanted = {name: metric.gather for name, metric in metrics.items() if metric.gather is not None}
    if not wanted:
        return {}
    return {model: {name: gather(setting) for name, gather in wanted.items()} for model in models}


def _values(gatherings: Mapping[str, Mapping[str, Gathering]]) -> dict[str, dict[str, float]]:
    found = {
        model: {name: gathering.value() for name, gathering in own.items()}
        for model, own in gatherings.items()
    }
    return {m: {k: v for k, v in own.items() if v is not None} for m, own in found.items()}


def _ahead(
    names: Iterable[str], readers: Iterable[Callable[[], Read]], workers: int
) -> Iterator[tuple[str, Callable[[], Read]]]:
    """Call readers in threads, a few ahead of their use, in order.

    Yields each name with a function that gives what was read, or raises what went wrong.
    """
    both = zip(names, readers, strict=False)
    with ThreadPoolExecutor(workers) as threads:
        waiting: deque[tuple[str, Future[Read]]] = deque()
        while True:
            for name, reader in islice(both, 2 * workers - len(waiting)):
                waiting.append((name, threads.submit(reader)))
            if not waiting:
                return
            name, future = waiting.popleft()
            yield name, future.result
