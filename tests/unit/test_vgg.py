"""VGG's distance is of torchvision's features, reaches the picture, and says what file it needs."""

import hashlib
from pathlib import Path

import pytest
import torch
from torchvision.models import vgg as torchvisions

from clipsr_cli.errors import UnknownNameError, WeightsError
from clipsr_cli.models import vgg
from clipsr_cli.models.vgg import Vgg


def save_vgg(path, *, kind="vgg16", classifier=False):
    """A file of random weights under torchvision's names."""
    torch.manual_seed(0)
    state = {f"features.{name}": v for name, v in Vgg(kind).features.state_dict().items()}
    if classifier:
        state |= {"classifier.0.weight": torch.zeros(2, 2), "classifier.0.bias": torch.zeros(2)}
    torch.save(state, path)
    return path


@pytest.fixture
def narrow(monkeypatch):
    """Networks a tenth as wide, and a hundredth as slow."""
    monkeypatch.setattr(vgg, "WIDTHS", (6, 8, 12, 16, 16))


@pytest.fixture
def network(narrow, tmp_path):
    return Vgg.load("vgg16", save_vgg(tmp_path / "vgg16.pth"))


@pytest.fixture
def cache(monkeypatch, tmp_path):
    """An empty folder as torch's cache."""
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.delenv("TRANSFORMERS_OFFLINE", raising=False)
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    return tmp_path / "torch" / "hub" / "checkpoints"


@pytest.mark.parametrize(("kind", "letter"), [("vgg16", "D"), ("vgg19", "E")])
def test_its_layers_are_torchvisions(kind, letter):
    theirs = torchvisions.make_layers(torchvisions.cfgs[letter])

    ours = Vgg(kind).features

    assert {k: v.shape for k, v in ours.state_dict().items()} == {
        k: v.shape for k, v in theirs.state_dict().items()
    }
    # Theirs ends in one more pooling.
    assert [type(layer) for layer in ours] == [type(layer) for layer in theirs][:-1]


@pytest.mark.parametrize(
    ("kind", "tapped"), [("vgg16", (3, 8, 15, 22, 29)), ("vgg19", (3, 8, 17, 26, 35))]
)
def test_its_maps_are_the_last_of_every_block(narrow, kind, tapped):
    """relu1_2 to relu5_3 or relu5_4, by their numbers in torchvision's ``features``."""
    torch.manual_seed(0)
    network = Vgg(kind)
    images = torch.rand(2, 3, 32, 48)
    x, expected = (images - network.mean) / network.std, []
    for index, layer in enumerate(network.features):
        x = layer(x)
        if index in tapped:
            expected.append(x)

    maps = network.maps(images)

    assert all(torch.equal(a, b) for a, b in zip(maps, expected, strict=True))
    assert [tuple(m.shape[-2:]) for m in maps] == [(32 >> i, 48 >> i) for i in range(5)]


def test_equal_pictures_are_at_distance_zero(network):
    images = torch.rand(2, 3, 16, 24)

    assert torch.equal(network(images, images), torch.zeros(2))


def test_it_grows_with_noise_for_each_picture_alone(network):
    image = torch.rand(1, 3, 32, 32)
    noise = torch.randn_like(image)
    noisy = torch.cat([image + sigma * noise for sigma in (0.02, 0.05, 0.2)])

    together = network(noisy, image.expand(3, -1, -1, -1))

    assert together[0] < together[1] < together[2]
    alone = torch.cat([network(one[None], image) for one in noisy])
    torch.testing.assert_close(together, alone)


def test_it_is_the_weighted_mean_of_the_differences(network):
    first, second = torch.rand(2, 1, 3, 32, 32)
    differences = [
        (a - b).abs().mean().item()
        for a, b in zip(network.maps(first), network.maps(second), strict=True)
    ]

    expected = (0.1 * sum(differences[:2]) + sum(differences[2:])) / 3.2

    assert network(first, second).item() == pytest.approx(expected, rel=1e-5)


def test_the_gradient_leads_downhill_and_reaches_the_first_picture_alone(network):
    network.double()
    first, second = torch.rand(2, 1, 3, 16, 16).double().requires_grad_()

    loss = network(first, second).sum()
    to_first, to_second = torch.autograd.grad(loss, (first, second), allow_unused=True)

    assert to_second is None
    # Downhill: a small step against the gradient brings the picture nearer.
    step = 0.02 * to_first / to_first.abs().max()
    assert network(first - step, second) < loss
    assert all(parameter.grad is None for parameter in network.parameters())


def test_it_learns_nothing_and_stays_in_evaluation_mode(network):
    around = torch.nn.Sequential(network).train()

    assert around.training
    assert not any(module.training for module in network.modules())
    assert not any(parameter.requires_grad for parameter in network.parameters())


def test_the_classifier_is_dropped(narrow, tmp_path):
    path = save_vgg(tmp_path / "vgg19.pth", kind="vgg19", classifier=True)

    network = Vgg.load("vgg19", path)

    assert {name.split(".")[0] for name in network.state_dict()} == {"features"}
    expected = torch.load(path)["features.0.weight"]
    assert torch.equal(network.features[0].weight, expected)


def test_another_networks_file_is_refused(narrow, tmp_path):
    for kind, other in (("vgg16", "vgg19"), ("vgg19", "vgg16")):
        path = save_vgg(tmp_path / f"{kind}.pth", kind=kind)
        with pytest.raises(WeightsError, match=f"does not hold the weights of {other}") as error:
            Vgg.load(other, path)
        assert Path(vgg.URLS[other]).name in error.value.hint


def test_files_that_are_no_weights_are_refused(tmp_path):
    path = tmp_path / "weights.pth"
    with pytest.raises(WeightsError, match=r"Cannot read .*weights\.pth: No such file"):
        Vgg.load("vgg16", path)
    path.write_bytes(b"not a pickle")
    with pytest.raises(WeightsError, match="damaged"):
        Vgg.load("vgg16", path)
    for unnamed in ([1, 2], {1: torch.zeros(2)}):
        torch.save(unnamed, path)
        with pytest.raises(WeightsError, match="no weights by name"):
            Vgg.load("vgg16", path)


def test_a_file_that_would_run_code_is_refused(tmp_path):
    path = tmp_path / "weights.pth"
    torch.save({"features.0.weight": Path}, path)

    with pytest.raises(WeightsError, match="damaged"):
        Vgg.load("vgg16", path)


def test_an_unknown_network_is_refused():
    with pytest.raises(UnknownNameError, match="'vgg11'"):
        Vgg("vgg11")


def test_a_failed_download_says_which_file_must_lie_where(cache):
    """Sockets are blocked in tests."""
    with pytest.raises(WeightsError, match=r"Cannot download the weights vgg19-dcbb9e9d\.pth") as e:
        Vgg.load("vgg19")

    assert vgg.URLS["vgg19"] in e.value.hint
    assert e.value.hint.endswith(str(cache / "vgg19-dcbb9e9d.pth"))
    assert e.value.exit_code == 4
    assert list(cache.iterdir()) == []


@pytest.mark.parametrize("variable", ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"])
def test_offline_nothing_is_tried(cache, monkeypatch, variable):
    monkeypatch.setenv(variable, "1")
    monkeypatch.setattr(torch.hub, "download_url_to_file", None)

    with pytest.raises(WeightsError, match="HF_HUB_OFFLINE forbids") as error:
        Vgg.load("vgg16")

    assert error.value.hint.endswith(str(cache / "vgg16-397923af.pth"))


def test_offline_a_cached_file_is_used(cache, monkeypatch, narrow):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    cache.mkdir(parents=True)
    save_vgg(cache / "vgg16-397923af.pth")

    assert Vgg.load("vgg16").features[0].out_channels == 6


def test_a_download_is_checked_and_kept(cache, monkeypatch, narrow, tmp_path):
    source = save_vgg(tmp_path / "source.pth")
    digest = hashlib.sha256(source.read_bytes()).hexdigest()
    wrong, right = (source.with_name(f"vgg16-{name}.pth") for name in ("0" * 8, digest[:8]))
    for path in (wrong, right):
        path.write_bytes(source.read_bytes())

    monkeypatch.setitem(vgg.URLS, "vgg16", wrong.as_uri())
    with pytest.raises(WeightsError, match="invalid hash"):
        Vgg.load("vgg16")
    monkeypatch.setitem(vgg.URLS, "vgg16", right.as_uri())
    Vgg.load("vgg16")

    assert [path.name for path in cache.iterdir()] == [right.name]
