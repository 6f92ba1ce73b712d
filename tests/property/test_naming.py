"""No two pictures ever share an output, no output is an input, and no picture is left out."""

import os
import tempfile
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clipsr_cli import jobs
from clipsr_cli.errors import InputError
from clipsr_cli.pictures import FORMATS

folders = st.sampled_from(["", "a", "b", "a/b", "é ü"])
stems = st.from_regex(r"[ab_é]([ab_. é]{0,4}[ab_é])?", fullmatch=True)
extensions = st.sampled_from([".png", ".BMP", ".jpg", ".webp", ".tiff"])
trees = st.sets(st.tuples(folders, stems, extensions), min_size=1, max_size=8)
templates = st.lists(
    st.sampled_from(["{stem}", "{ext}", "{scale}", "{model}", "_", "a", "b"]),
    min_size=1,
    max_size=4,
).map("".join)


def plant(root, tree):
    """Empty files, which planning leaves to be found broken when their turn comes."""
    for folder, stem, extension in tree:
        Path(root, folder).mkdir(parents=True, exist_ok=True)
        Path(root, folder, stem + extension).touch()


@settings(max_examples=60, deadline=None)
@given(tree=trees, template=templates, form=st.sampled_from(sorted(FORMATS)))
def test_outputs_are_as_many_as_inputs_or_the_plan_is_refused(tree, template, form):
    names = Counter(
        (folder, template.format(stem=stem, ext=extension[1:], scale=8, model="m"))
        for folder, stem, extension in tree
    )
    with tempfile.TemporaryDirectory() as root:
        plant(Path(root, "in"), tree)
        out = Path(root, "out")
        inputs = [str(Path(root, "in"))]
        options = {"scale": 8, "template": template, "form": form, "model": "m"}
        if max(names.values()) > 1:
            with pytest.raises(InputError, match="would both be written to"):
                jobs.plan(inputs, out, **options)
            return

        plan = jobs.plan(inputs, out, **options)
        outputs = [job.output for job in plan.jobs]
        assert {job.input.relative_to(Path(root, "in")) for job in plan.jobs} == {
            Path(folder, stem + extension) for folder, stem, extension in tree
        }
        assert len({os.path.realpath(path) for path in outputs}) == len(tree)
        for job in plan.jobs:
            inside = job.input.parent.relative_to(Path(root, "in"))
            assert job.output.parent == out / inside
            assert job.output.suffix == FORMATS[form].extension


@settings(max_examples=60, deadline=None)
@given(tree=trees, template=templates)
def test_no_output_is_an_input_even_in_their_own_folder(tree, template):
    with tempfile.TemporaryDirectory() as root:
        plant(root, {("", stem, extension) for _, stem, extension in tree})
        inputs = sorted(path for path in Path(root).iterdir())
        try:
            plan = jobs.plan(
                [str(path) for path in inputs],
                Path(root),
                scale=8,
                template=template,
                existing="overwrite",
            )
        except InputError:
            return

        assert len(plan.jobs) == len(inputs)
        assert not {job.output for job in plan.jobs} & set(inputs)


@settings(max_examples=30, deadline=None)
@given(tree=trees, count=st.integers(1, 5))
def test_shards_share_out_every_picture_once(tree, count):
    with tempfile.TemporaryDirectory() as root:
        plant(Path(root, "in"), tree)

        def inputs(shard):
            plan = jobs.plan(
                [str(Path(root, "in"))],
                Path(root, "out"),
                scale=4,
                template="{stem}.{ext}",
                shard=shard,
            )
            return [job.input for job in plan.jobs]

        shards = [inputs((index + 1, count)) for index in range(count)]

        assert sorted(path for shard in shards for path in shard) == sorted(inputs(None))
        assert max(map(len, shards)) - min(map(len, shards)) <= 1
