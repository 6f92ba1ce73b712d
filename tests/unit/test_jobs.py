"""All that can be refused is refused before any work; the rest is planned as it will be done."""

import logging
import os
from pathlib import Path

import numpy as np
import pytest

from clipsr_cli import encoders, upscale_options
from clipsr_cli.errors import InputError
from clipsr_cli.finding import find_pictures
from clipsr_cli.jobs import parse_shard, plan
from clipsr_cli.pictures import Picture
from clipsr_cli.prompts import Prompts
from clipsr_cli.upscale_options import Resize, UpscaleOptions


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty folder to be in, as users name files relative to where they are."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def pictures(here, photo):
    """Writes small pictures and gives their names: ``pictures("a.png", "in/b.jpg")``."""

    def write(*names: str, **settings) -> list[str]:
        for name in names:
            photo(Path(name), **settings)
        return list(names)

    return write


OUT = Path("out")


def outputs(planned):
    return [job.output.as_posix() for job in planned.jobs]


def refused(match, *inputs, output=OUT, scale=4, **settings):
    """Plan, expect to be refused, and give the error's hint."""
    with pytest.raises(InputError, match=match) as caught:
        plan(inputs, output, scale=scale, **settings)
    assert not OUT.exists()
    return caught.value.hint


# What is found, and where it goes.


def test_a_folders_tree_is_mirrored_and_a_single_file_goes_right_in(pictures):
    pictures("in/a.png", "in/b c/ü.JPG", "in/b c/d/e.webp", "x/y/single.tif")

    assert outputs(plan(["in", "x/y/single.tif"], OUT, scale=4)) == [
        "out/a_x4.png",
        "out/b c/d/e_x4.png",
        "out/b c/ü_x4.png",
        "out/single_x4.png",
    ]


def test_a_job_knows_sizes_and_prompt_beforehand(pictures):
    pictures("a.png", width=20, height=10)
    Path("a.txt").write_text("a bird")

    (job,) = plan(["a.png"], OUT, scale=8, form="jpg").jobs

    assert (job.size_in, job.size_out) == ((20, 10), (160, 80))
    assert (job.output, job.form) == (Path("out/a_x8.jpg"), "jpg")
    assert (job.prompt.text, job.prompt.source) == ("a bird", "sidecar")


def test_hidden_files_other_files_and_unasked_for_subfolders_are_left_out(pictures):
    pictures("in/a.png", "in/.b.png", "in/.c/d.png", "in/e/f.png")
    Path("in/a.txt").write_text("a bird")

    assert outputs(plan(["in"], OUT, scale=4)) == ["out/a_x4.png", "out/e/f_x4.png"]
    assert outputs(plan(["in"], OUT, scale=4, recursive=False)) == ["out/a_x4.png"]
    assert outputs(plan(["in"], OUT, scale=4, pattern="f*")) == ["out/e/f_x4.png"]


def test_globs_take_pictures_and_folders_and_leave_the_rest(pictures):
    pictures("in/a.png", "in/b.jpg", "in/c/d.png")
    Path("in/a.txt").write_text("a bird")

    assert outputs(plan(["in/*.png"], OUT, scale=4)) == ["out/a_x4.png"]
    assert outputs(plan(["in/*"], OUT, scale=4)) == ["out/a_x4.png", "out/b_x4.png", "out/d_x4.png"]
    assert outputs(plan(["in/**/*.png"], OUT, scale=4)) == ["out/a_x4.png", "out/d_x4.png"]
    assert outputs(plan(["in/**"], OUT, scale=4))[-1] == "out/c/d_x4.png"


@pytest.mark.parametrize("scale", [4, 8])
def test_a_glob_leaves_out_what_earlier_runs_wrote(pictures, caplog, scale):
    """``clipsr upscale "**/*.png"`` twice, or with another scale."""
    caplog.set_level(logging.INFO)
    pictures("castle.png", "in/owl.png", "out/castle_x4.png", "out/owl_x4.png")
    Path("link.png").symlink_to("out/castle_x4.png")

    planned = plan(["**/*.png"], OUT, scale=scale)

    every = [*planned.jobs, *(skip.job for skip in planned.skipped)]
    assert [job.input.as_posix() for job in every] == ["castle.png", "in/owl.png"]
    assert len(planned.skipped) == (2 if scale == 4 else 0)
    assert "Left out of **/*.png, as they lie in the output folder: 3." in caplog.text


def test_folders_that_a_glob_takes_in_are_left_out_too_where_they_hold_results(pictures):
    pictures("in/a.png", "out/b_x4.png")

    assert outputs(plan(["*"], OUT, scale=4)) == ["out/a_x4.png"]


def test_a_glob_that_takes_in_nothing_but_results_is_refused(pictures):
    pictures("out/a_x4.png")

    with pytest.raises(InputError, match=r"All that \*\*/\*\.png matches lies in .* folder out"):
        plan(["**/*.png"], OUT, scale=4)


def test_pictures_to_be_described_may_lie_anywhere(pictures):
    pictures("upscaled/a_x4.png")

    (found,) = find_pictures(["**/*.png"])

    assert found.path == Path("upscaled/a_x4.png")


def test_a_name_with_signs_of_a_glob_is_the_file_of_that_name(pictures):
    pictures("[red].png", "r.png")

    assert outputs(plan(["[red].png"], OUT, scale=4)) == ["out/[red]_x4.png"]


def test_a_picture_given_twice_is_one_job(pictures, here):
    pictures("in/a.png")
    Path("link.png").symlink_to("in/a.png")

    planned = plan(["in", "in/a.png", str(here / "in/../in/a.png"), "link.png"], OUT, scale=4)

    assert outputs(planned) == ["out/a_x4.png"]


def test_a_broken_picture_is_left_for_its_turn(pictures):
    pictures("in/a.png")
    Path("in/b.png").write_bytes(b"no picture")
    Path("in/c.png").symlink_to("nowhere.png")

    planned = plan(["in"], OUT, scale=4).jobs

    assert [(job.input.name, job.size_in, job.size_out) for job in planned] == [
        ("a.png", (24, 16), (96, 64)),
        ("b.png", None, None),
        ("c.png", None, None),
    ]


def test_planning_writes_nothing(pictures, here):
    pictures("in/a.png")

    plan(["in"], OUT, scale=4)

    assert sorted(path.name for path in here.iterdir()) == ["in"]


def test_a_folder_of_many_pictures_is_looked_at_once(here, monkeypatch):
    asked = []
    monkeypatch.setattr(os, "access", lambda path, mode: asked.append(path) or True)
    for folder in ("in/a", "in/b"):
        Path(folder).mkdir(parents=True)
        for index in range(20):
            Path(folder, f"{index}.png").touch()

    assert len(plan(["in"], OUT, scale=4).jobs) == 40
    assert len(asked) == 2


# Inputs that are refused.


def test_a_missing_input_is_answered_with_the_nearest_name(pictures):
    pictures("in/photo.png")

    assert refused(r"in/foto\.png does not exist", "in/foto.png") == "Did you mean in/photo.png?"
    assert refused(r"in/zzz does not exist", "in/zzz") == ""
    assert "no folder im" in refused(r"im/photo\.png does not exist", "im/photo.png")
    refused(r"in/\*\.jpg does not exist", "in/*.jpg")
    refused("does not exist", "")


def test_a_file_of_another_kind_is_refused(pictures):
    Path("notes.txt").touch()

    assert ".png" in refused(r"notes\.txt is not a picture", "notes.txt")


def test_inputs_without_a_picture_are_refused(pictures):
    pictures("in/a.png")
    Path("empty").mkdir()
    Path("empty/notes.txt").touch()

    assert ".png" in refused("There is no picture in empty, empty/", "empty", "empty/*")
    refused(r"There is no picture that matches 'b\*' in in", "in", pattern="b*")


# Outputs that are refused.


def test_two_pictures_of_one_output_are_refused(pictures):
    pictures("in/a.png", "in/a.jpg")

    hint = refused(r"in/a\.jpg and in/a\.png would both be written to out/a_x4\.png", "in")

    template = hint.split('"')[1].replace("x{scale}", "{scale}")
    assert len(outputs(plan(["in"], OUT, scale=4, template=template))) == 2


def test_same_names_of_several_folders_are_refused_and_their_tree_is_not(pictures):
    pictures("in/a/x.png", "in/b/x.png")

    assert "Give the folder" in refused("would both be written", "in/a", "in/b")
    refused("would both be written", "in/**/*.png")
    assert outputs(plan(["in"], OUT, scale=4)) == ["out/a/x_x4.png", "out/b/x_x4.png"]


def test_outputs_that_meet_through_a_link_are_refused(pictures):
    pictures("in/a/x.png", "in/b/x.png")
    Path("there/b").mkdir(parents=True)
    Path("there/a").symlink_to("b")

    refused("would both be written", "in", output=Path("there"))


def test_a_collision_of_other_shards_is_refused_too(pictures):
    pictures("in/a.png", "in/b.jpg", "in/b.png")

    refused("would both be written", "in", shard=(1, 3))


@pytest.mark.parametrize("output", ["in", "in/out", "link", "in/../in/out", "link/out"])
def test_an_output_folder_in_an_input_folder_is_refused(pictures, output):
    pictures("in/a.png")
    Path("link").symlink_to("in")

    hint = refused("lies in the input folder in", "in", output=Path(output))
    assert "next run's input" in hint
    hint = refused("lies in the (input|output) folder (in|link)", "i*", output=Path(output))
    assert "next run's input" in hint


def test_the_folder_one_is_in_is_no_input_for_the_default_output(pictures):
    pictures("a.png")

    refused(r"The output out lies in the input folder \.", ".")


def test_a_single_file_may_be_enlarged_into_its_own_folder(pictures):
    pictures("a.png")

    assert outputs(plan(["a.png"], Path(), scale=4)) == ["a_x4.png"]


@pytest.mark.parametrize("linked", [False, True])
def test_an_output_that_is_an_input_is_refused(pictures, linked):
    pictures("in/a.png", "in/b.png")
    Path("link").symlink_to("in")

    refused(
        r"a\.png is an input and would be overwritten",
        "in/a.png",
        "in/b.png",
        output=Path("link" if linked else "in"),
        template="{stem}",
        existing="overwrite",
    )


def test_another_shards_input_is_not_overwritten_either(pictures):
    pictures("a.png", "a_x4.png")

    refused(r"a_x4\.png is an input", "a.png", "a_x4.png", output=Path(), shard=(2, 2))


@pytest.mark.parametrize("name", ["a.png", "link.jsonl", "out/../a.png"])
def test_a_report_over_an_input_is_refused(pictures, name):
    pictures("a.png")
    Path("link.jsonl").symlink_to("a.png")

    refused("is an input and would be overwritten", "a.png", also=[Path(name)])


def test_a_sheet_over_an_output_or_in_an_input_folder_is_refused(pictures):
    pictures("in/a.png")

    refused(r"is the output of in/a\.png", "in", also=[Path("out/a_x4.png")])
    refused(r"in/sheet\.png lies in the input folder in", "in", also=[Path("in/sheet.png")])
    assert plan(["in"], OUT, scale=4, also=[Path("in/report.jsonl"), Path("sheet.png")]).jobs


def test_a_link_in_the_output_folder_that_leads_out_of_it_is_refused(pictures, here):
    pictures("in/sub/a.png")
    (here / "elsewhere").mkdir()
    OUT.mkdir()
    (OUT / "sub").symlink_to(here / "elsewhere")

    with pytest.raises(InputError, match="out/sub is a link that leads out of the output folder"):
        plan(["in"], OUT, scale=4)

    # The output folder itself may be a link, and links may lead to places within it.
    (OUT / "sub").unlink()
    (OUT / "real").mkdir()
    (OUT / "sub").symlink_to("real")
    Path("link").symlink_to(OUT)
    assert outputs(plan(["in"], Path("link"), scale=4)) == ["link/sub/a_x4.png"]


def test_a_limit_of_pixels_holds_for_inputs(pictures):
    pictures("a.png", width=100, height=100)

    small, large = (
        plan(["a.png"], OUT, scale=4, options=UpscaleOptions(max_input_pixels=most)).jobs[0]
        for most in (9_999, 10_000)
    )

    # Told when its turn comes, like every picture that cannot be read.
    assert small.size_in is None
    assert large.size_in == (100, 100)


def test_threads_are_half_the_cores_unless_asked(monkeypatch):
    for cores, threads in ((1, 2), (2, 2), (8, 4), (64, 8), (None, 2)):
        monkeypatch.setattr(os, "cpu_count", lambda cores=cores: cores)
        assert UpscaleOptions().threads == threads
        assert UpscaleOptions(workers=3).threads == 3


def test_an_output_that_is_a_file_or_leads_nowhere_is_refused(pictures):
    pictures("in/a.png", "in/b/c.png")
    Path("file").touch()
    Path("dangling").symlink_to("nowhere")
    Path("half").mkdir()
    Path("half/b").touch()

    for output, named in [
        ("file", "file"),
        ("file/below", "file"),
        ("dangling", "dangling"),
        ("half", "half/b"),
    ]:
        assert "another" in refused(f"{named} is not a folder", "in", output=Path(output))


def test_a_folder_that_cannot_be_written_to_is_refused(pictures, here, monkeypatch):
    pictures("a.png")
    asked = []

    def access(path, mode):
        asked.append(Path(path))
        return False

    monkeypatch.setattr(os, "access", access)

    refused("cannot be written to", "a.png", output=Path("new/folder"))
    assert asked == [here]


def test_a_report_that_cannot_be_written_is_refused(pictures):
    pictures("a.png")
    Path("file").touch()

    refused("file is not a folder", "a.png", also=[Path("file/new/report.jsonl")])
    assert plan(["a.png"], OUT, scale=4, also=[Path("new/report.jsonl")]).jobs
    assert not Path("new").exists()


@pytest.mark.parametrize(
    ("form", "limit"), [("webp", 16383), ("jpg", 65500), ("avif", 65536), ("auto", None)]
)
def test_an_output_too_large_for_its_format_is_refused(pictures, form, limit):
    pictures("a.png", width=4100, height=1)
    settings = {"scale": 16, "form": form}

    if limit is None:
        assert plan(["a.png"], OUT, **settings).jobs[0].size_out == (65600, 16)
    else:
        hint = refused(f"65600 x 16, and {form} holds {limit} px", "a.png", **settings)
        assert "--longest-side" in hint
        options = UpscaleOptions(resize=Resize(longest_side=limit))
        small = plan(["a.png"], OUT, options=options, **settings)
        assert max(small.jobs[0].size_out) == limit


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"form": "jpeg"}, "No output format is named 'jpeg'"),
        ({"existing": "ovewrite"}, "existing is 'ovewrite'; it must be one of: skip, overwrite"),
    ],
)
def test_words_that_mean_nothing_are_refused(pictures, settings, named):
    pictures("a.png")

    refused(named, "a.png", **settings)


def test_the_largest_sizes_are_refused_by_their_format(pictures):
    pictures("a.png", width=24, height=1)

    for resize in (Resize(outscale=2**31 - 1), Resize(outscale=1e9)):
        refused("and png holds", "a.png", options=UpscaleOptions(resize=resize))


def test_sixteen_bits_are_known_beforehand(here):
    for name, dtype in (("8.png", np.uint8), ("16.png", np.uint16)):
        pixels = np.zeros((4, 4, 3), dtype)
        encoders.write(Picture(pixels=pixels), Path("in", name), "png")

    assert [job.sixteen_bit for job in plan(["in"], OUT, scale=4).jobs] == [True, False]


# Templates.


def test_a_template_names_the_outputs(pictures):
    pictures("a.JPG")
    template = "{stem}-{ext}-{scale:02}-{model}"

    planned = plan(["a.JPG"], OUT, scale=4, template=template, model="m/n\\o", form="tiff")

    assert outputs(planned) == ["out/a-JPG-04-m_n_o.tif"]


@pytest.mark.parametrize(
    ("template", "named"),
    [
        ("{name}", "unknown field {name}"),
        ("{}", "unknown field {}"),
        ("{0}", "unknown field {0}"),
        ("{stem.upper}", r"unknown field {stem\.upper}"),
        ("{stem[0]}", r"unknown field {stem\[0\]}"),
        ("{stem", "malformed"),
        ("{stem!z}", "malformed"),
        ("{stem:d}", "malformed"),
        ("{stem:{width}}", "malformed"),
        ("{stem:{}}", "malformed"),
        ("{stem:{scale.x}}", "malformed"),
        ("{stem:{scale[0]}}", "malformed"),
        ("../{stem}", r"gives '\.\./a', which is no file name"),
        ("x\\{stem}", "which is no file name"),
        ("/{stem}", "which is no file name"),
        ("..", "which is no file name"),
        ("", "gives '', which is no file name"),
        (" ", "which is no file name"),
        ("{stem}\0", "which is no file name"),
    ],
)
def test_a_template_that_gives_no_name_is_refused(pictures, template, named):
    pictures("a.png")

    refused(named, "a.png", template=template)


# What is there already.


def test_what_is_there_is_skipped_made_again_or_refused(pictures, photo):
    pictures("in/a.png", "in/b.png", "done/a_x4.png")
    done = Path("done")

    planned = plan(["in"], done, scale=4)
    assert [skip.job.output for skip in planned.skipped] == [done / "a_x4.png"]
    assert outputs(planned) == ["done/b_x4.png"]

    assert len(plan(["in"], done, scale=4, existing="overwrite").jobs) == 2
    hint = refused(r"done/a_x4\.png exists already", "in", output=done, existing="fail")
    assert "--overwrite" in hint
    assert len(plan(["in"], OUT, scale=4, existing="fail").jobs) == 2


def test_a_folder_or_a_dead_link_of_an_outputs_name_is_not_taken_for_done(pictures):
    pictures("in/a.png", "in/b.png")
    (OUT / "a_x4.png").mkdir(parents=True)
    (OUT / "b_x4.png").symlink_to("gone.png")

    planned = plan(["in"], OUT, scale=4)

    assert outputs(planned) == ["out/a_x4.png", "out/b_x4.png"]
    assert planned.skipped == []


def test_a_half_written_file_of_a_killed_run_does_not_count_as_done(pictures):
    pictures("a.png")
    OUT.mkdir()
    Path("out/.a_x4.png.part").touch()

    assert len(plan(["a.png"], OUT, scale=4).jobs) == 1


# Prompts.


def test_prompts_are_counted_and_those_of_no_picture_told(pictures):
    pictures("in/a.png", "in/b/c.png", "in/d.png", "out/d_x4.png")
    Path("in/a.txt").write_text("a bird")
    Path("in/d.txt").write_text("a fish")
    prompts = Prompts(manifest={"b/c.png": "a cat", "z.png": "nothing"})

    planned = plan(["in"], OUT, scale=4, prompts=prompts, shard=(1, 1))

    assert {job.input.name: job.prompt.text for job in planned.jobs} == {
        "a.png": "a bird",
        "c.png": "a cat",
    }
    assert planned.sidecars == 2
    assert planned.unused_prompts == ["z.png"]
    # A row of another shard's picture is not one too many.
    assert plan(["in"], OUT, scale=4, prompts=prompts, shard=(1, 9)).unused_prompts == ["z.png"]


# Shards.


def test_shards_share_out_the_work(pictures):
    names = pictures(*(f"in/{letter}.png" for letter in "abcdefg"))

    shards = [plan(["in"], OUT, scale=4, shard=(index, 3)).jobs for index in (1, 2, 3)]

    assert [len(shard) for shard in shards] == [3, 2, 2]
    assert sorted(str(job.input) for shard in shards for job in shard) == names
    assert plan(["in"], OUT, scale=4, shard=(8, 8)).jobs == []


def test_a_shard_is_read(pictures):
    assert parse_shard("2/3") == (2, 3)
    for text in ("", "2", "0/3", "4/3", "-1/3", "a/b", "1/2/3", "1.0/2"):
        with pytest.raises(InputError, match="is no shard"):
            parse_shard(text)


# Options.


def test_the_final_size_follows_a_factor_a_longest_side_or_the_scale():
    assert Resize().size(30, 20, 4) == (120, 80)
    assert Resize(outscale=1.5).size(30, 20, 4) == (45, 30)
    assert Resize(longest_side=100).size(30, 20, 4) == (100, 67)
    assert Resize(longest_side=100).size(20, 30, 4) == (67, 100)
    assert Resize(outscale=0.001).size(30, 20, 4) == (1, 1)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"outscale": 2.0, "longest_side": 100}, "cannot both be given"),
        ({"outscale": 0.0}, r"--outscale is 0\.0"),
        ({"outscale": -1.0}, r"--outscale is -1\.0"),
        ({"outscale": float("nan")}, "--outscale is nan"),
        ({"outscale": float("inf")}, "--outscale is inf"),
        ({"outscale": 1e308}, r"--outscale is 1e\+308; it must be above 0, and at most 2147483647"),
        ({"longest_side": 0}, "--longest-side is 0"),
        ({"longest_side": 10**400}, "--longest-side is 10*; it must be from 1 to 2147483647"),
    ],
)
def test_a_final_size_that_means_nothing_is_refused(settings, named):
    with pytest.raises(InputError, match=named):
        Resize(**settings)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"tile": 4}, "--tile is 4; it must be at least 8"),
        ({"tile_overlap": -1}, "--tile-overlap is -1"),
        ({"batch_size": 0}, "--batch-size is 0"),
        ({"max_memory": 0}, "--max-memory is 0"),
        ({"max_input_pixels": 0}, "--max-input-pixels is 0"),
        ({"workers": 0}, "--workers is 0"),
        ({"color_fix": "magic"}, "--color-fix is 'magic'; it must be one of: none"),
        ({"quality": 0}, "--quality is 0"),
        ({"quality": 101}, "--quality is 101"),
        ({"text_strength": float("nan")}, "--text-strength is nan"),
        ({"text_strength": float("inf")}, "--text-strength is inf"),
    ],
)
def test_an_option_that_means_nothing_is_refused(settings, named):
    with pytest.raises(InputError, match=named):
        UpscaleOptions(**settings)


def test_tiles_are_as_asked_or_fit_the_scale():
    assert UpscaleOptions().tiling(4) == (64, 16)
    assert UpscaleOptions().tiling(16) == (16, 4)
    assert UpscaleOptions(tile=40, tile_overlap=0).tiling(4) == (40, 0)
    assert UpscaleOptions(tile=8).tiling(4) == (8, 4)
    assert UpscaleOptions(tile_overlap=15).tiling(16) == (16, 15)
    for tile, overlap in ((16, 16), (None, 64)):
        with pytest.raises(InputError, match=f"--tile-overlap is {overlap}; it must be below"):
            UpscaleOptions(tile=tile, tile_overlap=overlap).tiling(4)


def test_tiles_are_never_below_what_the_network_can_take():
    assert UpscaleOptions().tiling(64)[0] == upscale_options.MIN_TILE


def test_a_template_cannot_have_the_memory_filled(pictures):
    pictures("a.png")

    with pytest.raises(InputError, match="too wide"):
        plan(["a.png"], OUT, scale=4, template="{stem:>1000000000}")
