"""CUB-200-2011 as its archive unpacks: boxes, splits, and captions where there are none."""

import pickle

import pytest

from clipsr_cli import datasets
from clipsr_cli.datasets import DATASETS, Options
from clipsr_cli.datasets.attributes import sentences, with_article
from clipsr_cli.errors import InputError

NAMES = [
    "001.Black_footed_Albatross/Black_Footed_Albatross_0001_796111.jpg",
    "001.Black_footed_Albatross/Black_Footed_Albatross_0002_55.jpg",
    "002.Acadian_Flycatcher/Acadian_Flycatcher_0003_29094.jpg",
]
ATTRIBUTES = [
    "has_crown_color::red",
    "has_wing_color::black",
    "has_wing_color::white",
    "has_belly_color::white",
    "has_size::medium_(9_-_16_in)",
    "has_bill_shape::hooked_seabird",
    "has_bill_shape::cone",
]


@pytest.fixture
def birds(tmp_path, photo):
    """The archive, unpacked into a folder; without captions."""
    home = tmp_path / "CUB_200_2011"
    for name in NAMES:
        photo(home / "images" / name, width=3, height=2)
    ids = range(1, len(NAMES) + 1)
    write(home / "images.txt", [f"{i} {name}" for i, name in zip(ids, NAMES, strict=True)])
    write(home / "bounding_boxes.txt", [f"{i} {i}.0 2.5 30.0 40.0" for i in ids])
    write(home / "train_test_split.txt", ["1 1", "2 0", "3 1"])
    write(home / "image_class_labels.txt", ["1 1", "2 1", "3 2"])
    write(home / "classes.txt", ["1 001.Black_footed_Albatross", "2 002.Acadian_Flycatcher"])
    return tmp_path


def write(path, lines):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")


def write_attributes(root, rows, *, beside=False):
    home = root / "CUB_200_2011"
    write(home / "attributes/class_attribute_labels_continuous.txt", rows)
    names = root / "attributes.txt" if beside else home / "attributes/attributes.txt"
    write(names, [f"{i} {name}" for i, name in enumerate(ATTRIBUTES, start=1)])


def write_lists(folder, train, test):
    for split, names in (("train", train), ("test", test)):
        path = folder / split / "filenames.pickle"
        path.parent.mkdir(parents=True)
        path.write_bytes(pickle.dumps(names, protocol=2))


def read(root):
    return datasets.read("cub", root)


def check(root):
    return {part.what: part for part in DATASETS["cub"].check(root, Options())}


def usable(parts):
    return all(part.ok or not part.needed for part in parts.values())


def test_photos_boxes_and_splits_are_read(birds):
    samples = read(birds)

    assert [sample.name for sample in samples] == NAMES
    assert [sample.split for sample in samples] == ["train", "test", "train"]
    assert [sample.box for sample in samples] == [(i, 2.5, 30, 40) for i in (1.0, 2.0, 3.0)]
    assert all(s.path == birds / "CUB_200_2011/images" / s.name for s in samples)


def test_the_folder_itself_may_be_given(birds):
    write(birds / "text" / NAMES[0].replace(".jpg", ".txt"), ["beside"])

    assert read(birds / "CUB_200_2011") == read(birds)


@pytest.mark.parametrize(
    "texts", ["text", "text_c10", "CUB_200_2011/text", "CUB_200_2011/text_c10"]
)
def test_captions_are_found_inside_and_beside(birds, texts):
    for name in NAMES:
        write(birds / texts / name.replace(".jpg", ".txt"), ["a red bird ", "", f"{name}  bird"])

    assert [s.captions for s in read(birds)] == [("a red bird", f"{name} bird") for name in NAMES]
    assert check(birds)["captions"].ok


def test_captions_are_made_from_class_attributes(birds):
    write_attributes(birds, ["80 60.5 50.1 90 70 20 55", "0 50 50 0 0 0 0"])

    first, second, third = read(birds)

    assert first.captions == (
        "this bird has a red crown, black and white wings and a white belly",
        "a medium-sized bird with a cone bill",
        "this bird has a cone bill",
        "a photo of a black footed albatross",
    )
    assert second.captions == first.captions
    # Fifty percent is not certain.
    assert third.captions == ("a photo of an acadian flycatcher",)


def test_attribute_names_may_lie_beside_the_archive(birds):
    write_attributes(birds, ["80 0 0 0 0 0 0", "0 0 0 0 0 0 0"], beside=True)

    assert read(birds)[0].captions[0] == "this bird has a red crown"


def test_class_names_are_the_last_resort(birds):
    parts = check(birds)

    assert read(birds)[0].captions == ("a photo of a black footed albatross",)
    assert parts["captions"].found == "3 photos from class names"
    assert not parts["captions"].needed
    assert f"clipsr data prepare cub --data-root {birds}" in parts["captions"].advice
    assert usable(parts)


@pytest.mark.parametrize(
    ("rows", "named"),
    [
        (["1 2 3"], "line 1 has 3 numbers; there are 7"),
        (["0 0 0 0 0 0 0", "0 0 0 x 0 0 0"], "line 2: .*'x'"),
    ],
)
def test_broken_attributes_are_refused_where_captions_need_them(birds, rows, named):
    write_attributes(birds, rows)

    with pytest.raises(InputError, match=named):
        read(birds)
    assert not usable(check(birds))


def test_an_attribute_without_a_value_is_refused(birds):
    write_attributes(birds, ["0 0 0 0 0 0 0"])
    write(birds / "CUB_200_2011/attributes/attributes.txt", ["1 has_red_crown"])

    with pytest.raises(InputError, match="line 1"):
        read(birds)


@pytest.mark.parametrize("inside", [True, False])
def test_stackgans_lists_split_where_the_archives_own_split_is_missing(birds, inside):
    stems = [name.removesuffix(".jpg") for name in NAMES]
    write_lists(birds / "CUB_200_2011" if inside else birds, stems[2:], stems[:1])
    assert [sample.split for sample in read(birds)] == ["train", "test", "train"]
    assert "filenames.pickle is not used" in check(birds)["split"].found
    (birds / "CUB_200_2011/train_test_split.txt").unlink()

    samples = read(birds)

    assert [(s.name, s.split) for s in samples] == [(NAMES[0], "test"), (NAMES[2], "train")]
    assert "StackGAN's filenames.pickle; 1 in no list" in check(birds)["split"].found


def test_a_split_is_needed(birds):
    (birds / "CUB_200_2011/train_test_split.txt").unlink()

    with pytest.raises(InputError, match=r"train_test_split\.txt is missing"):
        read(birds)
    assert not usable(check(birds))


def test_one_list_alone_is_refused(birds):
    (birds / "CUB_200_2011/train_test_split.txt").unlink()
    write_lists(birds, [], [])
    (birds / "test/filenames.pickle").unlink()

    with pytest.raises(InputError, match="the other split's list is not"):
        read(birds)


def test_boxes_may_be_missing(birds):
    (birds / "CUB_200_2011/bounding_boxes.txt").unlink()

    assert {sample.box for sample in read(birds)} == {None}
    assert usable(check(birds))


@pytest.mark.parametrize(
    ("file", "lines", "named"),
    [
        ("images.txt", ["1"], "line 1"),
        ("images.txt", ["", "1 ../../secret.jpg"], r"line 2: '\.\./\.\./secret\.jpg'"),
        ("images.txt", ["1 /etc/passwd"], "line 1"),
        ("images.txt", [f"1 {NAMES[0]}", f"1 {NAMES[1]}"], "line 2: the id '1' comes twice"),
        ("images.txt", [f"1 {NAMES[0]}", f"2 {NAMES[0]}"], "line 2"),
        ("images.txt", [], "no pictures"),
        ("images.txt", [f"1 {NAMES[0]}", "2 gone.jpg", "3 lost.jpg"], r"2 of the 3 .*gone\.jpg"),
        ("images.txt", ["1 " + "9" * 5000 + ".A/a.jpg"], "1 of the 1"),
        ("train_test_split.txt", ["1 1", "2 2", "3 1"], "line 2: '2'"),
        ("train_test_split.txt", ["1 1", "3 1"], "picture 2"),
        ("bounding_boxes.txt", ["1 0 0 5 5", "2 0 0 5", "3 0 0 5 5"], "line 2"),
        ("bounding_boxes.txt", ["1 0 0 5 5", "2 0 0 x 5", "3 0 0 5 5"], "line 2"),
        ("bounding_boxes.txt", ["1 0 0 5 5", "2 0 0 nan 5", "3 0 0 5 5"], "line 2"),
        ("bounding_boxes.txt", ["1 0 0 5 5", "2 0 0 0 5", "3 0 0 5 5"], "line 2"),
        ("bounding_boxes.txt", ["1 0 0 5 5"], "no line for picture 2"),
    ],
)
def test_malformed_files_are_refused_with_the_line(birds, file, lines, named):
    write(birds / "CUB_200_2011" / file, lines)

    with pytest.raises(InputError, match=named):
        read(birds)
    assert not usable(check(birds))


def test_captions_that_are_no_text_are_refused(birds):
    path = birds / "text" / NAMES[0].replace(".jpg", ".txt")
    path.parent.mkdir(parents=True)
    path.write_bytes(b"\xff\xfe\x00")

    with pytest.raises(InputError, match="UTF-8"):
        read(birds)
    assert not usable(check(birds))


def test_a_byte_order_mark_is_no_trouble(birds):
    path = birds / "CUB_200_2011/images.txt"
    path.write_text("\ufeff" + path.read_text(), encoding="utf-8")

    assert len(read(birds)) == 3


def test_preparing_writes_the_captions_that_would_be_made_and_no_others(birds):
    write_attributes(birds, ["80 60 0 90 70 20 55", "0 0 0 0 0 0 0"])
    own = birds / "text" / NAMES[0].replace(".jpg", ".txt")
    write(own, ["my own words"])
    before = read(birds)

    written = DATASETS["cub"].prepare(birds, Options())

    assert [
        path.relative_to(birds / "text").with_suffix(".jpg").as_posix() for path in written
    ] == (NAMES[1:])
    assert own.read_text() == "my own words\n"
    assert read(birds) == before
    assert check(birds)["captions"].ok
    assert DATASETS["cub"].prepare(birds, Options()) == []


def test_preparing_leaves_an_empty_caption_file_alone(birds):
    for name in NAMES:
        write(birds / "text" / name.replace(".jpg", ".txt"), [])

    assert DATASETS["cub"].prepare(birds, Options()) == []


@pytest.mark.parametrize(
    ("traits", "said"),
    [
        ({}, ()),
        ({"size": ["very large"]}, ("a very large bird",)),
        (
            {
                "primary_color": ["white", "black"],
                "bill_color": ["orange"],
                "eye_color": ["black"],
                "leg_color": ["olive"],
                "breast_color": ["olive"],
            },
            (
                "a white and black bird with an orange bill",
                "a bird with an olive breast",
                "this white and black bird has olive legs, black eyes and an orange bill",
            ),
        ),
    ],
)
def test_sentences_say_what_is_known_and_nothing_else(traits, said):
    assert sentences(traits) == said


def test_articles_fit():
    assert with_article("european goldfinch") == "a european goldfinch"
    assert with_article("ovenbird") == "an ovenbird"
