"""The Upscaler: sizes, batches, words, precision, and what happens when something fails."""

import time
import weakref
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from clipsr_cli import encoders, images, pictures
from clipsr_cli.checkpoints import save_generator
from clipsr_cli.errors import DeviceError, ImageError, InputError, WeightsError
from clipsr_cli.jobs import Done, Failed, Job
from clipsr_cli.pictures import Picture
from clipsr_cli.prompts import Prompt
from clipsr_cli.upscale_options import Resize, UpscaleOptions
from clipsr_cli.upscaling import Upscaler, memory
from clipsr_cli.upscaling.canvas import Canvas
from clipsr_cli.upscaling.engine import Feed


@pytest.fixture
def two_threads():
    """As on a machine of two cores, whatever the tests around run with."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def upscaler(make_generator, two_threads):
    def make(scale=4, *, precision="fp32", **options):
        return Upscaler(
            make_generator(scale),
            device="cpu",
            precision=precision,
            options=UpscaleOptions(**options),
        )

    return make


def job(path: Path, output: Path, prompt: str = "", form: str = "png") -> Job:
    return Job(
        input=path,
        output=output / f"{path.stem}{pictures.FORMATS[form].extension}",
        form=form,
        prompt=Prompt(text=prompt, source="option"),
        size_in=None,
        size_out=None,
    )


def nearest(scale):
    """A network whose result is known: every pixel repeated."""
    return lambda low, text: low.repeat_interleave(scale, 2).repeat_interleave(scale, 3)


def random_picture(height, width, dtype=np.uint8, **settings):
    rng = np.random.default_rng(height * width)
    peak = np.iinfo(dtype).max
    return Picture(
        pixels=rng.integers(0, peak, (height, width, 3), dtype=dtype, endpoint=True), **settings
    )


@pytest.mark.parametrize("scale", [4, 8, 16])
def test_every_picture_comes_out_scale_times_as_large(upscaler, photo, tmp_path, scale):
    sizes = {"a": (24, 16), "b": (9, 31), "c": (40, 40), "d": (3, 2)}
    paths = [photo(tmp_path / f"{n}.png", width=w, height=h) for n, (w, h) in sizes.items()]

    outcomes = list(upscaler(scale).run(job(p, tmp_path / "out") for p in paths))

    assert [type(o) for o in outcomes] == [Done] * 4
    for outcome in outcomes:
        width, height = sizes[outcome.job.input.stem]
        assert outcome.size_in == (width, height)
        with Image.open(outcome.job.output) as image:
            assert image.size == outcome.size_out == (width * scale, height * scale)


@pytest.mark.parametrize(("tile", "overlap"), [(8, 0), (8, 3), (16, 8), (9, 8)])
def test_tiles_stitch_to_what_the_network_gave(upscaler, tile, overlap):
    up = upscaler(4, tile=tile, tile_overlap=overlap, batch_size=3)
    up.network.render = nearest(4)
    picture = random_picture(37, 22)

    result = up.enlarge(picture)

    np.testing.assert_array_equal(result.pixels, picture.pixels.repeat(4, 0).repeat(4, 1))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_gray_alpha_and_depth_are_kept(upscaler, dtype):
    up = upscaler(4)
    peak = np.iinfo(dtype).max
    alpha = np.full((10, 12), peak, dtype)
    alpha[:, :6] = 0
    gray = np.repeat(random_picture(10, 12, dtype).pixels[:, :, :1], 3, axis=2)

    result = up.enlarge(Picture(pixels=gray, alpha=alpha, gray=True))

    assert result.pixels.dtype == result.alpha.dtype == dtype
    assert result.gray
    assert np.ptp(result.pixels, axis=2).max() == 0
    assert result.alpha.shape == (40, 48)
    assert result.alpha[:, :16].max() == 0
    assert result.alpha[:, -16:].min() == peak


def test_colours_under_transparency_do_not_bleed_into_the_visible(upscaler):
    up = upscaler(4)
    alpha = np.full((16, 16), 255, np.uint8)
    alpha[:, :8] = 0
    pixels = np.full((16, 16, 3), 200, np.uint8)
    pixels[:, :8] = 0

    result = up.enlarge(Picture(pixels=pixels, alpha=alpha))
    plain = up.enlarge(Picture(pixels=np.full((16, 16, 3), 200, np.uint8), alpha=alpha))

    np.testing.assert_array_equal(result.pixels, plain.pixels)


def test_sixteen_bits_hold_more_than_eight(upscaler):
    up = upscaler(4)
    up.network.render = nearest(4)
    picture = random_picture(9, 9, np.uint16)

    np.testing.assert_array_equal(up.enlarge(picture).pixels[::4, ::4], picture.pixels)


def test_two_prompts_give_two_pictures_and_one_prompt_the_same_bytes(upscaler, photo, tmp_path):
    path = photo(tmp_path / "a.png")
    results = [
        (tmp_path / name / "a.png", prompt)
        for name, prompt in (("1", "a red bird"), ("2", "a red bird"), ("3", "a blue castle"))
    ]
    for output, prompt in results:
        up = upscaler(4)
        (outcome,) = up.run([job(path, output.parent, prompt)])
        assert isinstance(outcome, Done)

    first, second, third = (output.read_bytes() for output, _ in results)

    assert first == second != third


def test_text_strength_goes_from_the_empty_prompt_through_the_prompt_and_beyond(upscaler):
    def read(strength, prompt="a red bird"):
        return upscaler(4, text_strength=strength).condition(prompt)

    empty, full = read(0), read(1)

    assert torch.equal(empty, read(1, ""))
    assert not torch.equal(empty, full)
    torch.testing.assert_close(read(0.5), (empty + full) / 2)
    torch.testing.assert_close(read(3), empty + 3 * (full - empty))


def test_a_stronger_text_moves_the_picture_further(upscaler, photo, tmp_path):
    picture = images.read(photo(tmp_path / "a.png"))

    def moved(strength):
        result = upscaler(4, text_strength=strength).enlarge(picture, "a red bird")
        return np.abs(result.pixels.astype(int) - plain).mean()

    plain = upscaler(4, text_strength=0).enlarge(picture, "a red bird").pixels.astype(int)
    assert 0 < moved(1) < moved(4) < moved(16)


def test_pictures_with_different_prompts_share_a_batch_without_mixing(upscaler, photo, tmp_path):
    paths = [photo(tmp_path / f"{i}.png", seed=i) for i in range(20)]
    prompts = ["a red bird", "a castle", "", "a dress", "a red bird"] * 4
    up = upscaler(4, batch_size=4)
    sizes, network = [], up.network.render
    up.network.render = lambda low, text: (sizes.append(len(low)), network(low, text))[1]
    list(up.run(job(p, tmp_path / "many", t) for p, t in zip(paths, prompts, strict=True)))
    for path, prompt in zip(paths, prompts, strict=True):
        list(upscaler(4, batch_size=1).run([job(path, tmp_path / "one", prompt)]))

    assert max(sizes) == 4
    for path in paths:
        many, one = (images.read(tmp_path / kind / path.name).pixels for kind in ("many", "one"))
        assert np.abs(many.astype(int) - one).max() <= 1


def test_one_broken_picture_among_ten_costs_only_itself(upscaler, photo, tmp_path):
    paths = [photo(tmp_path / f"{i}.png", seed=i) for i in range(10)]
    paths[4].write_bytes(paths[4].read_bytes()[:60])

    outcomes = list(upscaler(4).run(job(p, tmp_path / "out") for p in paths))

    (failed,) = [o for o in outcomes if isinstance(o, Failed)]
    assert failed.job.input == paths[4]
    assert isinstance(failed.error, ImageError)
    assert len(list((tmp_path / "out").iterdir())) == 9


def test_an_output_that_cannot_be_written_costs_only_itself(upscaler, photo, tmp_path):
    paths = [photo(tmp_path / f"{i}.png", seed=i) for i in range(3)]
    (tmp_path / "out" / "1.png").mkdir(parents=True)

    outcomes = list(upscaler(4).run(job(p, tmp_path / "out") for p in paths))

    assert sorted(o.job.input.stem for o in outcomes if isinstance(o, Done)) == ["0", "2"]
    assert not list((tmp_path / "out").glob(".*"))


def test_overflow_in_mixed_precision_is_done_again_in_fp32(upscaler, caplog):
    up = upscaler(4, precision="bf16", batch_size=2)
    calls = []

    def network(low, text):
        calls.append(torch.is_autocast_enabled("cpu"))
        high = nearest(4)(low, text)
        if calls[-1]:
            high[0] = float("nan")
        return high

    up.network.render = network
    picture = random_picture(64, 64)

    result = up.enlarge(picture)

    np.testing.assert_array_equal(result.pixels, picture.pixels.repeat(4, 0).repeat(4, 1))
    assert True in calls
    assert False in calls
    assert [r.levelname for r in caplog.records] == ["WARNING"]


def test_a_picture_the_network_cannot_do_fails_alone(upscaler, photo, tmp_path):
    paths = [photo(tmp_path / f"{i}.png", seed=i) for i in range(3)]
    up = upscaler(4, batch_size=8)
    bad = pictures.to_float(images.read(paths[1]).pixels)[0, 0]

    def network(low, text):
        high = nearest(4)(low, text)
        high[(low[:, :, 0, 0] == torch.from_numpy(bad)).all(dim=1)] = float("inf")
        return high

    up.network.render = network
    outcomes = {o.job.input.stem: o for o in up.run(job(p, tmp_path / "out") for p in paths)}

    assert isinstance(outcomes["1"], Failed)
    assert "finite" in str(outcomes["1"].error)
    assert isinstance(outcomes["0"], Done)
    assert isinstance(outcomes["2"], Done)


def test_out_of_memory_halves_the_batch_and_goes_on(upscaler, caplog):
    up = upscaler(4, tile=8, tile_overlap=0, batch_size=8)
    picture = random_picture(32, 32)

    def network(low, text):
        if len(low) > 2:
            raise torch.OutOfMemoryError("no room")
        return nearest(4)(low, text)

    up.network.render = network

    result = up.enlarge(picture)

    np.testing.assert_array_equal(result.pixels, picture.pixels.repeat(4, 0).repeat(4, 1))
    assert up.network.batch_size == 2
    assert "batch size" in caplog.text


def test_a_tile_too_large_for_the_memory_says_what_to_do(upscaler):
    up = upscaler(4)

    def network(low, text):
        raise torch.OutOfMemoryError("no room")

    up.network.render = network

    with pytest.raises(ImageError, match="memory"):
        up.enlarge(random_picture(8, 8))


def test_the_final_size_follows_the_resize(upscaler, photo, tmp_path):
    path = photo(tmp_path / "a.png", width=20, height=10)
    for resize, size in (
        (Resize(outscale=2), (40, 20)),
        (Resize(longest_side=33), (33, 16)),
        (Resize(), (80, 40)),
    ):
        (done,) = upscaler(4, resize=resize).run([job(path, tmp_path / "out")])
        assert done.size_out == size


def test_colour_fix_takes_the_tint_out(upscaler):
    picture = random_picture(16, 16)
    for kind in ("wavelet", "adain"):
        up = upscaler(4, color_fix=kind)
        up.network.render = lambda low, text: 0.7 * nearest(4)(low, text)
        mean = up.enlarge(picture).pixels.mean(axis=(0, 1))
        assert np.abs(mean - picture.pixels.mean(axis=(0, 1))).max() < 4


def test_a_caller_that_stops_early_leaves_nothing_half_written(upscaler, photo, tmp_path):
    paths = [photo(tmp_path / f"{i}.png", seed=i) for i in range(8)]
    run = upscaler(4, batch_size=1).run(job(p, tmp_path / "out") for p in paths)
    next(run)
    run.close()

    written = list((tmp_path / "out").iterdir())
    assert 1 <= len(written) < 8
    for path in written:
        assert images.read(path).size == (96, 64)


def test_what_stays_infinite_in_fp32_is_a_failure_not_a_black_picture(upscaler):
    up = upscaler(4, precision="bf16")
    up.network.render = lambda low, text: nearest(4)(low, text) * float("inf")

    with pytest.raises(ImageError, match="finite"):
        up.enlarge(random_picture(8, 8))


def test_the_network_in_mixed_precision_gives_nearly_the_same_picture(upscaler):
    picture = random_picture(16, 16)

    exact, mixed = (
        upscaler(4, precision=p).enlarge(picture, "a red bird").pixels.astype(int)
        for p in ("fp32", "bf16")
    )

    assert np.abs(exact - mixed).max() <= 3


def test_a_tile_that_does_not_fit_is_divided_and_later_ones_at_once(upscaler, caplog):
    up = upscaler(4, tile=32, tile_overlap=8)
    picture = random_picture(70, 50)
    tried = []

    def network(low, text):
        tried.append(low.shape[2] * low.shape[3])
        if low.shape[2] * low.shape[3] > 300:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: no room")
        return nearest(4)(low, text)

    up.network.render = network

    result = up.enlarge(picture)

    np.testing.assert_array_equal(result.pixels, picture.pixels.repeat(4, 0).repeat(4, 1))
    # Each lane may have found out by itself, for each of the sizes that do not fit.
    assert sum(size > 300 for size in tried) <= 2 * up.network.lanes
    assert "are divided" in caplog.text


def test_a_picture_comes_out_the_same_to_the_last_bit_whatever_its_company(
    upscaler, photo, tmp_path, monkeypatch
):
    sizes = [(40, 30), (24, 16), (90, 20), (24, 16)]
    paths = [
        photo(tmp_path / f"{i}.png", width=w, height=h, seed=i) for i, (w, h) in enumerate(sizes)
    ]
    prompts = ["a red bird", "", "a castle", "a red bird"]
    together = [job(p, tmp_path / "many", t) for p, t in zip(paths, prompts, strict=True)]
    list(upscaler(4, tile=16).run(together))
    for path, prompt in reversed(list(zip(paths, prompts, strict=True))):
        list(upscaler(4, tile=16, workers=1).run([job(path, tmp_path / "one", prompt)]))
        with monkeypatch.context() as patched:
            patched.setattr(torch, "get_num_threads", lambda: 1)
            up = upscaler(4, tile=16)
        assert up.network.lanes == 1
        enlarged = up.enlarge(images.read(path), prompt)
        encoders.write(enlarged, tmp_path / "alone" / path.name, "png")

    for path in paths:
        folders = (tmp_path / name for name in ("many", "one", "alone"))
        many, one, alone = ((folder / path.name).read_bytes() for folder in folders)
        assert many == one == alone


def test_on_the_cpu_every_tile_runs_alone_on_one_thread(upscaler, photo, tmp_path):
    # In the last bit, results of the real network depend on both.
    up, seen = upscaler(4, tile=16), set()
    up.network.render = lambda low, condition: (
        seen.add((len(low), torch.get_num_threads())),
        nearest(4)(low, condition),
    )[1]
    paths = [photo(tmp_path / f"{i}.png", width=40, height=40, seed=i) for i in range(4)]

    list(up.run(job(p, tmp_path / "out") for p in paths))
    up.enlarge(random_picture(40, 40))

    assert seen == {(1, 1)}


def test_jobs_may_come_one_by_one(upscaler, photo, tmp_path):
    paths = [photo(tmp_path / f"{i}.png", seed=i) for i in range(3)]
    told = []

    def jobs():
        for path in paths:
            yield job(path, tmp_path / "out")
            # Nothing more before this one is done.
            while len(told) <= paths.index(path):
                yield None

    for outcome in upscaler(4).run(jobs()):
        told.append(outcome.job.input)

    assert told == paths


def test_what_a_text_decides_is_computed_once_for_all_tiles_of_a_prompt(upscaler, photo, tmp_path):
    up = upscaler(4, tile=8)
    asked, condition = [], up.generator.condition
    up.generator.condition = lambda text: (asked.append(len(text)), condition(text))[1]
    paths = [photo(tmp_path / f"{i}.png", width=40, height=40) for i in range(4)]

    list(up.run(job(p, tmp_path / "out", prompt) for p, prompt in zip(paths, "abab", strict=True)))

    # Two lanes may meet a prompt at the same time.
    assert 2 <= len(asked) <= 2 * up.network.lanes
    assert set(asked) == {1}


def sized(path: Path, output: Path, form: str = "png", scale: int = 4) -> Job:
    """A job that knows its sizes, as planned ones do."""
    width, height = images.read_size(path)
    return replace(
        job(path, output, form=form),
        size_in=(width, height),
        size_out=(width * scale, height * scale),
    )


def test_pictures_wait_until_there_is_memory_for_them(upscaler, photo, tmp_path, monkeypatch):
    paths = [photo(tmp_path / f"{i}.png", width=64, height=64, seed=i) for i in range(8)]
    jobs = [sized(p, tmp_path / "out") for p in paths]
    up = upscaler(4)
    one = memory.cost(jobs[0], up.options, 4)
    # Room for two and a half.
    monkeypatch.setattr(memory, "available_memory", lambda: int(5 * one))
    under_way, read = [], images.read
    done = []

    def look(path, **settings):
        under_way.append(len(under_way) + 1 - len(done))
        return read(path, **settings)

    monkeypatch.setattr(images, "read", look)
    for outcome in up.run(jobs):
        done.append(outcome)

    assert len(done) == 8
    assert max(under_way) <= 2


def test_rows_that_wait_count_as_wide_as_they_are(upscaler, photo, tmp_path):
    """Rounded to 8 bit they take a byte a channel; 16 bit and floats take four."""
    job = sized(photo(tmp_path / "a.png", width=64, height=64), tmp_path / "out")
    deep = replace(job, sixteen_bit=True)
    rounded, wide, fixed = (
        memory.cost(each, UpscaleOptions(color_fix=fix), 4)
        for each, fix in ((job, "none"), (deep, "none"), (job, "wavelet"))
    )

    assert wide == fixed
    assert wide - rounded == memory.WAITING * (12 - 3) * (4 * 64) ** 2


def test_a_picture_beyond_the_memory_is_refused_only_where_a_limit_was_set(
    upscaler, photo, tmp_path, monkeypatch
):
    large = sized(photo(tmp_path / "l.png", width=600, height=600), tmp_path / "out", "webp")
    small = sized(photo(tmp_path / "s.png"), tmp_path / "out")
    monkeypatch.setattr(memory, "resident_memory", lambda: 10**9)
    lanes = upscaler(4).network.lanes
    limited = upscaler(4, max_memory=10**9 + lanes * memory.LANE + 60 * 10**6)

    outcomes = {o.job.input.stem: o for o in limited.run([large, small])}

    assert isinstance(outcomes["s"], Done)
    assert isinstance(outcomes["l"], Failed)
    assert "--max-memory leaves" in str(outcomes["l"].error)
    monkeypatch.setattr(memory, "available_memory", lambda: 1)
    assert isinstance(next(upscaler(4).run([large])), Done)


def test_a_picture_above_the_limit_of_pixels_names_its_option(upscaler, photo, tmp_path):
    large = sized(photo(tmp_path / "l.png"), tmp_path / "out")

    (outcome,) = upscaler(4, max_input_pixels=10).run([large])

    assert "above the limit of 10" in str(outcome.error)
    assert "--max-input-pixels" in outcome.error.hint


def test_a_limit_of_memory_below_what_the_network_takes_is_refused(upscaler):
    with pytest.raises(InputError, match="--max-memory is 1 MB, and the network alone takes"):
        upscaler(4, max_memory=10**6)


def test_a_run_that_is_stopped_gives_up_what_is_under_way_and_leaves_nothing(
    upscaler, photo, tmp_path
):
    paths = [photo(tmp_path / f"{i}.png", width=64, height=64, seed=i) for i in range(40)]
    done = []

    run = upscaler(4).run((job(p, tmp_path / "out") for p in paths), stopped=lambda: len(done) > 2)
    for outcome in run:
        done.append(outcome)

    assert 3 <= len(done) < 40
    written = list((tmp_path / "out").iterdir())
    assert len(written) < 40
    assert all(images.read(path).size == (256, 256) for path in written)


def test_what_goes_wrong_around_the_network_costs_one_picture(
    upscaler, photo, tmp_path, monkeypatch
):
    paths = [photo(tmp_path / f"{i}.png", width=20 + i, seed=i) for i in range(4)]
    cut, add = Canvas.cut, Canvas.add

    def breaking_cut(canvas, index):
        if canvas.low.shape[1] == 21:
            raise MemoryError
        return cut(canvas, index)

    def breaking_add(canvas, index, high):
        if canvas.low.shape[1] == 22:
            raise torch.OutOfMemoryError("no room for rows")
        return add(canvas, index, high)

    monkeypatch.setattr(Canvas, "cut", breaking_cut)
    monkeypatch.setattr(Canvas, "add", breaking_add)

    outcomes = {
        o.job.input.stem: o for o in upscaler(4).run(job(p, tmp_path / "out") for p in paths)
    }

    assert {name for name, o in outcomes.items() if isinstance(o, Done)} == {"0", "3"}
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["0.png", "3.png"]


def test_a_long_thin_tile_that_does_not_fit_is_divided_only_as_far_as_it_can(upscaler):
    up = upscaler(4)

    def network(low, text):
        if low.shape[2] * low.shape[3] > 32:
            raise torch.OutOfMemoryError("no room")
        return nearest(4)(low, text)

    up.network.render = network
    picture = random_picture(16, 4)
    result = up.enlarge(picture)
    np.testing.assert_array_equal(result.pixels, picture.pixels.repeat(4, 0).repeat(4, 1))
    # Another shape of fewer pixels than one that did not fit, yet too small to be divided.
    up.network.render = nearest(4)
    square = random_picture(8, 8)
    np.testing.assert_array_equal(
        up.enlarge(square).pixels, square.pixels.repeat(4, 0).repeat(4, 1)
    )


def test_rows_wait_for_a_slow_writer_rather_than_fill_the_memory(
    upscaler, photo, tmp_path, monkeypatch
):
    path = photo(tmp_path / "tall.png", width=16, height=600)
    up = upscaler(4, tile=16, tile_overlap=0)
    up.network.render = nearest(4)
    backlog, put = [], Feed.put

    def watched(feed, rows):
        put(feed, rows)
        backlog.append(feed._queue.qsize())

    def slowly(blocks, layout, file):
        for block in blocks:
            time.sleep(0.01)
            file.write(block.tobytes())

    monkeypatch.setattr(Feed, "put", watched)
    monkeypatch.setattr(encoders.png, "write", slowly)

    (outcome,) = up.run([job(path, tmp_path / "out")])

    assert isinstance(outcome, Done)
    assert (tmp_path / "out" / "tall.png").stat().st_size == 64 * 2400 * 3
    # What the lanes had at hand may still come.
    assert max(backlog) <= memory.WAITING + 2 * up.network.lanes + 1


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
def test_a_gpu_gives_nearly_the_cpus_picture(make_generator, precision):
    picture = random_picture(40, 40)

    results = [
        Upscaler(make_generator(4), device=device, precision=p).enlarge(picture, "a bird").pixels
        for device, p in (("cpu", "fp32"), ("cuda", precision))
    ]

    assert np.abs(results[0].astype(int) - results[1]).max() <= 3


def test_a_kept_failure_does_not_keep_its_picture(upscaler, photo, tmp_path):
    path = photo(tmp_path / "a.png")
    up, seen = upscaler(4), []

    def network(low, text):
        tensor = nearest(4)(low, text)
        seen.append(weakref.ref(tensor))
        raise RuntimeError("broken")

    up.network.render = network
    outcomes = list(up.run([job(path, tmp_path / "out")]))

    assert isinstance(outcomes[0], Failed)
    assert seen
    assert all(ref() is None for ref in seen)


def test_pictures_of_two_shapes_in_turn_still_share_batches(upscaler, photo, tmp_path):
    sizes = [(24, 16), (16, 24)] * 4
    paths = [photo(tmp_path / f"{i}.png", width=w, height=h) for i, (w, h) in enumerate(sizes)]
    up, batches = upscaler(4, batch_size=4, workers=8), []
    up.network.render = lambda low, text: (batches.append(len(low)), nearest(4)(low, text))[1]

    outcomes = list(up.run(job(p, tmp_path / "out") for p in paths))

    assert [type(o) for o in outcomes] == [Done] * 8
    assert max(batches) >= 2


def test_an_interrupt_tells_of_what_is_written(upscaler, photo, tmp_path):
    paths = [photo(tmp_path / f"{i}.png", seed=i) for i in range(60)]
    up = upscaler(4, batch_size=1)
    up.network.render = nearest(4)
    told = []

    def jobs():
        for path in paths:
            # Some are done by then, and some are on their way.
            if len(told) > 2:
                raise KeyboardInterrupt
            yield job(path, tmp_path / "out")

    def listen():
        for outcome in up.run(jobs()):
            told.append(outcome.job.output.name)

    with pytest.raises(KeyboardInterrupt):
        listen()

    assert sorted(told) == sorted(p.name for p in (tmp_path / "out").iterdir())


def test_compile_without_a_compiler_is_refused_at_once(make_generator, monkeypatch):
    def broken(_):
        def network(low, text):
            raise RuntimeError("no compiler")

        return network

    monkeypatch.setattr(torch, "compile", broken)

    with pytest.raises(InputError, match="no compiler"):
        Upscaler(make_generator(4), device="cpu", compile=True)


def test_a_model_is_refused_for_a_wrong_scale_name_or_device(make_generator, tmp_path):
    generator = make_generator(8)
    path = tmp_path / "x8.safetensors"
    save_generator(generator.learned_state(), generator.config, "tiny", path)
    with pytest.raises(InputError, match="x8, not x4"):
        Upscaler.load(str(path), scale=4, device="cpu")
    with pytest.raises(InputError, match="clipsr-mimi"):
        Upscaler.load("clipsr-mimi", device="cpu")
    with pytest.raises(WeightsError, match=r"gone\.safetensors"):
        Upscaler.load("gone.safetensors", device="cpu")
    if not torch.cuda.is_available():
        with pytest.raises(DeviceError, match="cuda"):
            Upscaler.load(device="cuda")
