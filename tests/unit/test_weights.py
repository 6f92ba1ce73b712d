"""A model's name becomes a file, or a clear word on what is wrong with it."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save

from clipsr_cli import weights
from clipsr_cli.errors import InputError, UnknownNameError, WeightsError
from clipsr_cli.models.clip import Clip

CONFIG = '{"embed_dim": 8, "vision_cfg": {"layers": [1, {"a": 2}]}, "text_cfg": {}}'
REGISTRY = """
[small]
kind = "generator"
description = "one"
licence = "MIT"
scales = [4, 8]
files = ["builtin:small-x4.safetensors", "builtin:small-x8.safetensors"]
clip = "words"

[words]
kind = "clip"
description = "two"
licence = "MIT"
architecture = "builtin:words.json"
files = ["builtin:words.safetensors"]

[open]
kind = "clip"
description = "three"
licence = "MIT"
architecture = "ViT-B-32"
files = ["builtin:words.safetensors"]
"""


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package folder of our own, with a registry and all files but the one for x8."""
    assets = tmp_path / "src" / "package" / "assets"
    assets.mkdir(parents=True)
    for name in ("small-x4.safetensors", "words.safetensors"):
        (assets / name).touch()
    (assets / "words.json").write_text(CONFIG)
    (assets.parent / "weights.toml").write_text(REGISTRY)
    monkeypatch.setattr(weights, "PACKAGE", assets.parent)
    monkeypatch.setattr(weights, "ASSETS", assets)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CLIPSR_WEIGHTS", raising=False)
    return assets.parent


def test_the_packages_own_registry_is_sound():
    known = weights.registry()

    default = weights.entry(weights.DEFAULT_MODEL, "generator")
    assert weights.entry(default.clip, "clip") in known.values()
    for entry in known.values():
        assert entry.description
        assert entry.licence
    architecture, file = weights.find_clip(default.clip)
    assert Path(architecture).is_file()
    assert file.is_file()
    for name in ("clip-vit-b-32", "clip-vit-b-32-laion2b"):
        (part,) = known[name].parts(name)
        assert part.reference.pinned
        part.reference.check_format()
        # The tensors in fp32, and a header of some kilobytes.
        assert 0 < part.size - 4 * 151_277_313 < 100_000
        assert len(part.sha256) == 64
    assert known["coca-vit-b-32"].kind == "captioner"


def test_a_name_and_a_scale_give_a_file(package):
    assert weights.find_generator("small", 4) == package / "assets" / "small-x4.safetensors"


def test_a_registry_at_the_top_of_the_checkout_is_found_too(package, tmp_path):
    (package / "weights.toml").rename(tmp_path / "weights.toml")

    assert list(weights.registry()) == ["small", "words", "open"]


def test_a_file_that_is_not_there_is_a_matter_of_weights(package):
    with pytest.raises(WeightsError, match=r"small-x8\.safetensors are missing") as caught:
        weights.find_generator("small", 8)
    assert "pip install" in caught.value.hint


def test_a_scale_without_weights_is_refused_with_those_there_are(package):
    with pytest.raises(InputError, match="small has no weights for x16") as caught:
        weights.find_generator("small", 16)
    assert caught.value.hint == "Its scales: 4, 8."


def test_a_path_is_taken_as_it_is(package, tmp_path):
    for name in ("own.safetensors", "own.bin"):
        (tmp_path / name).touch()
        assert weights.find_generator(name, 4) == Path(name)
        assert weights.find_generator(str(tmp_path / name), 4) == tmp_path / name


def test_a_file_called_like_a_model_does_not_stand_in_for_it(package, tmp_path):
    (tmp_path / "small").touch()

    assert weights.find_generator("small", 4).name == "small-x4.safetensors"
    assert weights.find_generator("./small", 4) == Path("small")


@pytest.mark.parametrize("model", ["none.safetensors", "folder/none", "./folder/none.pth"])
def test_a_path_that_is_not_there_is_a_matter_of_weights(package, model):
    with pytest.raises(WeightsError, match=r"none.* do not exist"):
        weights.find_generator(model, 4)


@pytest.mark.parametrize(("model", "hint"), [("smal", "Did you mean 'small'?"), ("words", "small")])
def test_an_unknown_name_is_answered_with_known_ones(package, model, hint):
    with pytest.raises(UnknownNameError, match=f"No generator is named '{model}'") as caught:
        weights.find_generator(model, 4)
    assert hint in caught.value.hint


def test_a_clip_has_an_architecture_and_a_file(package):
    assets = package / "assets"

    assert weights.find_clip("words") == (assets / "words.json", assets / "words.safetensors")
    assert weights.find_clip("open") == ("ViT-B-32", assets / "words.safetensors")
    with pytest.raises(UnknownNameError, match="No CLIP is named 'small'"):
        weights.find_clip("small")


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ("[small]", "small = 3\n[other]", "small is no table: 3"),
        ("[4, 8]", '"4"', r"small\.scales is '4'"),
        ("[4, 8]", '["x4", "x8"]', r"small\.scales\[0\] is 'x4'"),
        ("[4, 8]", "[4]", "files holds 2; it must hold 1"),
        ('"builtin:words.safetensors"', "", "files holds 0; it must hold 1"),
        ('"builtin:words.safetensors"', '"builtin:words.bin"', r"must be a \.safetensors"),
        ('"builtin:words.safetensors"', '"hf://owner/words"', "not a reference"),
        ('"builtin:words.json"', '""', "architecture is missing"),
        ("[4, 8]", '[4, 8]\nsha256 = ["a"]', "sha256 holds 1; it must hold 2"),
        ("[4, 8]", '[4, 8]\nsha256 = ["a", ""]', "sha256 is 'a'"),
        ("[4, 8]", "[4, 8]\nsize = [1, 2, 3]", "size holds 3; it must hold 2"),
        ('"generator"', '"genrator"', "kind is 'genrator'"),
        ('licence = "MIT"', "", r"Missing setting small\.licence"),
        ("licence", "license", r"Unknown setting small\.license"),
        ("[small]", "[small", "not valid TOML"),
    ],
)
def test_a_malformed_registry_is_refused(package, old, new, named):
    (package / "weights.toml").write_text(REGISTRY.replace(old, new, 1))

    with pytest.raises(InputError, match=rf"weights\.toml.*{named}"):
        weights.registry()


def test_a_missing_registry_is_named(package):
    (package / "weights.toml").unlink()

    with pytest.raises(InputError, match=r"Cannot read .*weights\.toml"):
        weights.registry()


# Files of the Hub


def tensors(**notes):
    """The bytes of a small safetensors file."""
    return save({"a": torch.zeros(100)}, metadata=notes)


@pytest.fixture
def repository(hub_server, package):
    return hub_server.repository(
        "owner/repo",
        {
            "gen.safetensors": tensors(clip="words"),
            "a.safetensors": tensors(),
            "a.json": CONFIG.encode(),
        },
    )


def test_a_generator_comes_from_the_hub(repository):
    path = weights.find_generator("hf://owner/repo/gen.safetensors", 4)

    assert path.read_bytes() == tensors(clip="words")
    commit = repository.commits[0][0]
    assert weights.find_generator(f"hf://owner/repo@{commit}/gen.safetensors", 4).samefile(path)


@pytest.mark.parametrize("file", ["gen.bin", "gen.pth", "a.json"])
def test_only_tensors_are_taken_for_weights(repository, hub_server, file):
    with pytest.raises(WeightsError, match=r"only \.safetensors files are"):
        weights.find_generator(f"hf://owner/repo/{file}", 4)

    assert hub_server.seen == []


def test_a_malformed_reference_is_an_error_of_usage(package):
    with pytest.raises(InputError, match="not a reference"):
        weights.find_generator("hf://a", 4)


def test_a_row_may_be_on_the_hub(repository, package, hub_server):
    (package / "weights.toml").write_text(
        REGISTRY.replace("builtin:words.json", "hf://owner/repo/a.json").replace(
            "builtin:words.safetensors", "hf://owner/repo/a.safetensors"
        )
    )

    architecture, file = weights.find_clip("words")

    assert (architecture.read_text(), file.read_bytes()) == (CONFIG, tensors())
    assert weights.registry()["words"].paths() == [file]


def test_what_a_row_says_of_a_file_is_held_against_it(repository, package):
    digest = "0" * 64
    (package / "weights.toml").write_text(
        REGISTRY.replace(
            'files = ["builtin:words.safetensors"]',
            f'files = ["hf://owner/repo/a.safetensors"]\nsha256 = ["{digest}"]',
            1,
        )
    )

    with pytest.raises(WeightsError, match=r"not the file that weights\.toml means"):
        weights.find_clip("words")


def test_a_missing_clip_is_named_with_the_way_to_get_it(repository, package, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    (package / "weights.toml").write_text(
        REGISTRY.replace("builtin:words.safetensors", "hf://owner/repo/a.safetensors", 1)
    )

    with pytest.raises(WeightsError, match="is not on this machine") as caught:
        weights.find_clip("words")

    assert "clipsr weights pull words" in caught.value.hint
    assert "put a.safetensors of owner/repo" in caught.value.hint


# CLIPs and captioners by file


@pytest.fixture
def own_clip(tmp_path, package):
    (tmp_path / "own.safetensors").write_bytes(tensors())
    (tmp_path / "own.json").write_text(CONFIG)
    return tmp_path


@pytest.mark.parametrize(
    ("name", "architecture", "file"),
    [
        ("ViT-B-32:own.safetensors", "ViT-B-32", "own.safetensors"),
        ("own.json:own.safetensors", Path("own.json"), "own.safetensors"),
        ("own.safetensors", Path("own.json"), "own.safetensors"),
        ("./own.safetensors", Path("./own.json"), "./own.safetensors"),
    ],
)
def test_a_clip_is_a_file_and_its_architecture(own_clip, name, architecture, file):
    assert weights.find_clip(name) == (architecture, Path(file))
    assert weights.find_captioner(name) == (architecture, Path(file))


@pytest.mark.parametrize(
    "name",
    [
        "hf://owner/repo/a.safetensors",
        "hf://owner/repo/a.json:hf://owner/repo@main/a.safetensors",
        "own.json:hf://owner/repo/a.safetensors",
        "hf://owner/repo/a.json:own.safetensors",
        "ViT-B-32:hf://owner/repo/a.safetensors",
    ],
)
def test_its_files_may_be_on_the_hub(own_clip, repository, name):
    architecture, file = weights.find_clip(name)

    assert file.read_bytes() == tensors()
    assert architecture == "ViT-B-32" or architecture.read_text() == CONFIG


@pytest.mark.parametrize(
    ("name", "kind", "message"),
    [
        ("ViT-B-32:own.bin", InputError, r"no \.safetensors file"),
        ("hf://owner/repo/a.bin", InputError, r"no \.safetensors file"),
        ("ViT-B-32:", InputError, r"no \.safetensors file"),
        (":own.safetensors", InputError, "'' is no architecture"),
        ("hf-hub:owner/repo", InputError, r"no \.safetensors file"),
        ("../x y:own.safetensors", InputError, "is no architecture"),
        ("ViT-B-32:none.safetensors", WeightsError, r"no file none\.safetensors"),
        ("none.json:own.safetensors", WeightsError, r"no file none\.json"),
        ("bare.safetensors", WeightsError, r"bare\.safetensors has no usable config"),
        ("hf://owner/repo/gen.safetensors", WeightsError, r"has no file gen\.json"),
        ("nothing", UnknownNameError, "No captioner is named"),
        ("words", UnknownNameError, "No captioner is named"),
    ],
)
def test_what_is_no_captioner_is_refused(own_clip, repository, tmp_path, name, kind, message):
    (tmp_path / "bare.safetensors").write_bytes(tensors())

    with pytest.raises(kind, match=message):
        weights.find_captioner(name)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("{", "Cannot read"),
        ('{"text_cfg": {"hf_tokenizer_name": "a/b"}}', "from elsewhere: hf_tokenizer_name"),
        ('{"vision_cfg": {"timm_model_name": "x"}}', "from elsewhere: timm_model_name"),
        ('{"a": [{"tokenizer_kwargs": {"trust_remote_code": true}}]}', "tokenizer_kwargs"),
        ('{"vision_cfg": {"layers": 1000000000}}', "layers = 1000000000"),
        ('{"vision_cfg": {"layers": [2, 1000]}}', "layers = 1000"),
        ('{"embed_dim": 1e300}', "embed_dim = 1e"),
    ],
)
def test_a_config_that_would_have_more_fetched_is_refused(own_clip, config, message):
    """Such a config makes open_clip fetch a tokenizer or a model, or run a repository's code."""
    (own_clip / "own.json").write_text(config)

    with pytest.raises(WeightsError, match=message):
        weights.find_clip("own.safetensors")


@pytest.mark.parametrize("where", ["on the hub", "here"])
def test_a_clip_by_its_files_reads_text(tiny_clip, package, hub_server, tmp_path, where):
    config = (Path(__file__).parents[1] / "data" / "tiny-clip.json").read_bytes()
    state = {key: value.contiguous() for key, value in tiny_clip.model.state_dict().items()}
    files = {"own-tiny.json": config, "own-tiny.safetensors": save(state)}
    name = "own-tiny.safetensors"
    if where == "here":
        for file, content in files.items():
            (tmp_path / file).write_bytes(content)
    else:
        hub_server.repository("owner/clip", files)
        name = f"hf://owner/clip/{name}"

    clip = Clip.create(*weights.find_clip(name), name=name)

    with torch.no_grad():
        assert torch.equal(clip.text(["a red bird"]), tiny_clip.text(["a red bird"]))


# A registry of one's own


@pytest.fixture
def own(tmp_path, package, monkeypatch):
    path = tmp_path / "mine" / "my-weights.toml"
    path.parent.mkdir()
    monkeypatch.setenv("CLIPSR_WEIGHTS", str(path))
    return path


def test_own_rows_come_before_the_packages(own, tmp_path):
    own.write_text(
        REGISTRY.split("[words]")[0]
        .replace("[4, 8]", "[16]")
        .replace(
            '["builtin:small-x4.safetensors", "builtin:small-x8.safetensors"]',
            '["files/big.safetensors"]',
        )
        + REGISTRY.split("[open]")[1].join(["[mine]", ""])
    )
    (own.parent / "files").mkdir()
    (own.parent / "files" / "big.safetensors").touch()

    assert list(weights.registry()) == ["small", "words", "open", "mine"]
    assert weights.find_generator("small", 16) == own.parent / "files" / "big.safetensors"
    with pytest.raises(InputError, match="no weights for x4"):
        weights.find_generator("small", 4)


def test_a_path_of_an_own_row_that_is_not_there_is_said(own):
    own.write_text(
        REGISTRY.replace("builtin:words.safetensors", "none.safetensors").replace(
            "builtin:words.json", "none.json"
        )
    )

    with pytest.raises(WeightsError, match=r"There is no file .*mine.none\.json"):
        weights.find_clip("words")
    with pytest.raises(WeightsError, match=r"There is no file .*mine.none\.safetensors"):
        weights.find_clip("open")


def test_an_error_in_an_own_registry_names_it(own):
    own.write_text(REGISTRY.replace("licence", "license", 1))
    with pytest.raises(InputError, match=r"my-weights\.toml, \[small\]: Unknown setting"):
        weights.registry()

    own.unlink()
    with pytest.raises(InputError, match=r"my-weights\.toml") as caught:
        weights.registry()
    assert "CLIPSR_WEIGHTS" in caught.value.message
    assert "clipsr weights pin" in caught.value.hint


# Pulling


def names_of(pulled):
    return [path.name for _, path in pulled]


def test_a_generator_comes_with_its_clip(package):
    (package / "assets" / "small-x8.safetensors").touch()

    assert names_of(weights.pull("small")) == [
        "small-x4.safetensors",
        "small-x8.safetensors",
        "words.safetensors",
        "words.json",
    ]
    assert names_of(weights.pull("open")) == ["words.safetensors"]


def test_a_generator_of_the_hub_comes_with_the_clip_in_its_header(repository):
    pulled = weights.pull("hf://owner/repo/gen.safetensors")
    assert names_of(pulled) == ["gen.safetensors", "words.safetensors", "words.json"]
    assert names_of(weights.pull("hf://owner/repo/a.safetensors")) == ["a.safetensors"]
    assert names_of(weights.pull("hf://owner/repo/a.json")) == ["a.json"]


def test_what_is_unknown_is_not_pulled(package):
    with pytest.raises(UnknownNameError, match=r"No entry of weights\.toml is named"):
        list(weights.pull("smal"))
    with pytest.raises(InputError, match="not a reference"):
        list(weights.pull("hf://a"))


@pytest.mark.parametrize("others", [("b", "a"), ("a", "b")])
def test_generators_that_name_each_other_as_clip_need_themselves_alone(
    tmp_path, monkeypatch, others
):
    row = ROW_OF_A_GENERATOR
    (tmp_path / "weights.toml").write_text(
        "".join(row.format(name=name, clip=clip) for name, clip in zip("ab", others, strict=True))
    )
    monkeypatch.setenv("CLIPSR_WEIGHTS", str(tmp_path / "weights.toml"))

    assert [part.name for part in weights.needed("a")] == ["a"]


ROW_OF_A_GENERATOR = """
[{name}]
kind = "generator"
description = "d"
licence = "MIT"
scales = [4]
files = ["{name}.safetensors"]
clip = "{clip}"
"""


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("a.safetensors", "~no-such-user/a.safetensors"), "nobody's home"),
        (('kind = "generator"', 'kind = "clip"'), "only a generator has one"),
    ],
)
def test_a_row_that_means_nothing_is_refused(tmp_path, change, said):
    path = tmp_path / "weights.toml"
    path.write_text(ROW_OF_A_GENERATOR.format(name="a", clip="b").replace(*change))

    with pytest.raises(InputError, match=said):
        weights.read_registry(path)
