"""Every error carries a message, perhaps a hint, and the exit code that scripts rely on."""

import pytest

from clipsr_cli.errors import (
    ClipsrError,
    DeviceError,
    ImageError,
    InputError,
    UnknownNameError,
    WeightsError,
)


@pytest.mark.parametrize(
    ("kind", "code"),
    [(ClipsrError, 1), (InputError, 2), (ImageError, 3), (WeightsError, 4), (DeviceError, 5)],
)
def test_every_kind_has_its_exit_code(kind, code):
    error = kind("It broke.", hint="Mend it.")

    assert isinstance(error, ClipsrError)
    assert (error.exit_code, str(error), error.message) == (code, "It broke.", "It broke.")
    assert error.hint == "Mend it."
    assert kind("It broke.").hint == ""


def test_an_unknown_name_is_answered_with_the_nearest_known_one():
    error = UnknownNameError("generator", "clpsr", {"clipsr": 1, "other": 2})

    assert error.exit_code == 2
    assert str(error) == "No generator is named 'clpsr'."
    assert error.hint == "Did you mean 'clipsr'?"


def test_an_unknown_name_like_no_other_is_answered_with_all_known_ones():
    assert UnknownNameError("format", "zzz", ["png", "jpg"]).hint == "Known: jpg, png."
