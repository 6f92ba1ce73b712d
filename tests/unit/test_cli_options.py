"""What is typed as a size, or as devices, is read as it is meant, or refused."""

import logging
from decimal import Decimal

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from clipsr_cli import runtime
from clipsr_cli.cli import console
from clipsr_cli.cli.options import (
    PRECISIONS,
    auto_or_number,
    check_device,
    check_scale,
    parse_bytes,
    read_devices,
)
from clipsr_cli.errors import InputError

UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}

# Sizes


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("1", 1),
        ("500M", 500_000_000),
        ("2G", 2_000_000_000),
        ("2g", 2_000_000_000),
        ("2GB", 2_000_000_000),
        ("2gb", 2_000_000_000),
        ("1.5GB", 1_500_000_000),
        ("0.5K", 500),
        ("1T", 10**12),
        ("12 MB", 12_000_000),
        ("  3K  ", 3000),
        ("7B", 7),
    ],
)
def test_a_size_is_a_number_of_bytes(text, size):
    assert parse_bytes(text, "--max-memory") == size


def test_no_size_stays_none():
    assert parse_bytes(None, "--max-memory") is None


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "G", "B", "x", "-1", "+1", "1,5G", "1.G", ".5G", "1..5G", "1e3", "1P", "1GG",
        "1 2", "1G2", "2 G B", "0x10", "nan", "inf", "1\n2", "2Gb/s", "½G", "auto",
    ],
)  # fmt: skip
def test_what_is_no_size_is_refused_by_its_option_and_text(text):
    with pytest.raises(InputError) as caught:
        parse_bytes(text, "--max-memory")

    assert "--max-memory" in str(caught.value)
    assert repr(text) in str(caught.value)


@given(
    # Of what there is in any machine.
    number=st.integers(0, 9000),
    unit=st.sampled_from([*UNITS]),
    byte=st.sampled_from(["", "B", "b"]),
    space=st.sampled_from(["", " "]),
    lower=st.booleans(),
)
def test_round_numbers_are_read_exactly(number, unit, byte, space, lower):
    text = f"{number}{space}{unit}{byte}"

    assert parse_bytes(text.lower() if lower else text, "--x") == number * UNITS[unit]


@given(number=st.decimals(0, 1000, places=3), unit=st.sampled_from([*UNITS]))
def test_fractions_are_read_to_the_byte(number, unit):
    read = parse_bytes(f"{number}{unit}", "--x")

    assert abs(Decimal(read) - number * UNITS[unit]) <= 1


@given(st.text(st.characters(exclude_categories=["Nd"]), max_size=10))
def test_nothing_without_a_digit_is_a_size(text):
    with pytest.raises(InputError):
        parse_bytes(text, "--x")


@given(st.text("0123456789", min_size=300, max_size=400), st.sampled_from([*UNITS]))
def test_no_number_of_bytes_is_too_large_to_be_read(digits, unit):
    assert parse_bytes(digits + unit, "--x") == int(digits) * UNITS[unit]


# Devices


@pytest.mark.parametrize(
    ("text", "devices"),
    [
        ("0", ["cuda:0"]),
        ("0,1", ["cuda:0", "cuda:1"]),
        ("3, 1 ,2", ["cuda:3", "cuda:1", "cuda:2"]),
        ("0,1,", ["cuda:0", "cuda:1"]),
        ("cuda:0,1", ["cuda:0", "cuda:1"]),
        ("cpu", ["cpu"]),
        ("cpu,cpu", ["cpu", "cpu"]),
        ("cpu,0", ["cpu", "cuda:0"]),
        ("mps", ["mps"]),
        ("12", ["cuda:12"]),
    ],
)
def test_devices_are_numbers_or_names(text, devices):
    assert read_devices(text) == devices


def test_no_devices_stay_none():
    assert read_devices(None) is None


@pytest.mark.parametrize("text", ["", " ", ",", " , ,"])
def test_an_empty_list_of_devices_is_refused(text):
    with pytest.raises(InputError, match="--gpus is empty") as caught:
        read_devices(text)

    assert "--gpus 0,1" in caught.value.hint


@pytest.mark.parametrize(
    ("text", "named"),
    [("x", "x"), ("0,gpu1", "gpu1"), ("-1", "-1"), ("1.5", "1.5"), ("cuda:", "cuda:"),
     ("0;1", "0;1"), ("0 1", "0 1"), ("CPU", "CPU"), ("cuda:-1", "cuda:-1"), ("cpu:0", "cpu:0"),
     ("1,cuda:x,2", "cuda:x")],
)  # fmt: skip
def test_what_is_no_device_is_refused_and_named(text, named):
    with pytest.raises(InputError) as caught:
        read_devices(text)

    assert repr(named) in str(caught.value)
    assert "cuda:N" in caught.value.hint


@pytest.mark.parametrize("text", ["0,0", "0,1,0", "cuda:1,cuda:1", "cuda:0,0", "mps,mps"])
def test_a_device_that_comes_twice_is_refused(text):
    with pytest.raises(InputError, match="twice"):
        read_devices(text)


@given(st.lists(st.integers(0, 99), min_size=1, max_size=8))
def test_numbers_become_cuda_devices_in_their_order(numbers):
    text = ",".join(map(str, numbers))
    if len(set(numbers)) < len(numbers):
        with pytest.raises(InputError, match="twice"):
            read_devices(text)
    else:
        assert read_devices(text) == [f"cuda:{number}" for number in numbers]


@given(st.integers(1, 9))
def test_the_cpu_may_come_as_often_as_one_likes(count):
    assert read_devices(",".join(["cpu"] * count)) == ["cpu"] * count


@given(st.text(max_size=12))
def test_whatever_is_typed_is_devices_or_refused(text):
    try:
        devices = read_devices(text)
    except InputError:
        return
    assert [check_device(name) for name in devices] == devices


# Numbers


@given(st.integers(-(10**6), 10**6))
def test_a_whole_number_is_itself(number):
    assert auto_or_number(str(number), "--tile") == number


def test_auto_leaves_it_open():
    assert auto_or_number("auto", "--tile") is None


@given(st.text(max_size=8))
def test_what_is_neither_auto_nor_a_number_is_refused(text):
    try:
        int(text)
    except ValueError:
        assume(text != "auto")
        with pytest.raises(InputError) as caught:
            auto_or_number(text, "--tile")
        assert repr(text) in str(caught.value)


# Words


def test_the_precisions_are_those_there_are():
    assert list(PRECISIONS) == ["auto", *runtime.PRECISIONS]


def test_a_scale_is_refused_with_the_advice_of_its_command():
    for hint in ("", "For other sizes: --outscale."):
        with pytest.raises(InputError, match="--scale is 3; it must be 4, 8 or 16") as caught:
            check_scale(3, hint=hint)
        assert caught.value.hint == hint


# What is printed


def test_no_name_passes_for_a_line_of_its_own(capsys):
    name = "a\nerror: forged\r\x1b[2K.png"

    console.tell("", f"in {name}:\ttold")
    console.say(f"{name} is said")
    console.show_error(InputError(f"{name} broke.", hint=f"Rename {name}."))

    said = capsys.readouterr()
    shown = r"a\nerror: forged\r\x1b[2K.png"
    assert said.out == f"\nin {shown}:\ttold\n"
    assert said.err.splitlines() == [
        f"{shown} is said",
        f"error: {shown} broke.",
        f"       Rename {shown}.",
    ]


@pytest.fixture
def logged():
    """Logs as commands do, and puts logging back."""
    root, ours = logging.getLogger(), logging.getLogger("clipsr_cli")
    before = root.handlers[:], root.level, ours.level
    console.set_up_logging(quiet=False, verbose=False)
    yield logging.getLogger("clipsr_cli.test")
    root.handlers[:] = before[0]
    root.setLevel(before[1])
    ours.setLevel(before[2])


def test_a_warning_is_one_line_and_what_raised_it_has_its_own(logged, capsys):
    logged.warning("%s is strange", "a\nERROR: forged")
    try:
        raise ValueError("bad\x1b[2K")
    except ValueError:
        logged.exception("It broke")

    first, second, *trace = capsys.readouterr().err.splitlines()
    assert first == r"WARNING: a\nERROR: forged is strange"
    assert second == "ERROR: It broke"
    assert trace[0] == "Traceback (most recent call last):"
    assert trace[-1] == r"ValueError: bad\x1b[2K"


def test_whatever_is_printed_commands_no_terminal(capsys):
    """Our own lines stay lines; a stranger's escape is shown as it is written."""
    console.out().print("first\nsecond \x1b]0;owned\x07 [red]")
    console.err().print("\u2028\u202e")

    shown = capsys.readouterr()
    assert shown.out == "first\nsecond \\x1b]0;owned\\x07 [red]\n"
    assert shown.err == "\\u2028\\u202e\n"
