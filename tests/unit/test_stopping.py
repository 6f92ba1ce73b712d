"""The first signal lets what is under way be finished, and the second stops at once."""

import os
import signal
import threading
from contextlib import contextmanager

import pytest

from clipsr_cli.cli.stopping import SIGNALS, Stop


@contextmanager
def handled(number, handler):
    """While it is entered, a signal has a handler of the test's."""
    before = signal.signal(number, handler)
    try:
        yield
    finally:
        signal.signal(number, before)


@pytest.fixture(autouse=True)
def _survive():
    """A signal that nobody takes shall end a test, not the tests."""

    def fail(number, frame):
        pytest.fail(f"{signal.Signals(number).name} was not taken")

    before = {number: signal.signal(number, fail) for number in SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def test_what_a_terminal_and_a_batch_system_send_is_taken():
    assert {signal.SIGINT, signal.SIGTERM} <= set(SIGNALS)


@pytest.mark.parametrize("number", SIGNALS)
def test_the_first_signal_ends_the_source(number, capsys):
    taken = []
    with Stop() as stop:
        for item in stop.until(range(10)):
            taken.append(item)
            if item == 3:
                assert not stop.asked
                signal.raise_signal(number)
                assert stop.asked

    assert taken == [0, 1, 2, 3]
    assert stop.asked
    said = capsys.readouterr()
    assert "once more stops at once" in said.err
    assert said.out == ""


def test_without_a_signal_everything_comes(capsys):
    with Stop() as stop:
        assert list(stop.until("abc")) == ["a", "b", "c"]

    assert not stop.asked
    assert capsys.readouterr().err == ""


def test_items_come_one_by_one():
    taken = []

    def source():
        for item in range(5):
            taken.append(item)
            yield item

    with Stop() as stop:
        items = stop.until(source())
        assert taken == []
        assert next(items) == 0
        assert taken == [0]


def test_where_a_stop_was_asked_for_before_nothing_comes():
    with Stop() as stop:
        signal.raise_signal(signal.SIGINT)

        assert list(stop.until("abc")) == []


@pytest.mark.parametrize("first", SIGNALS)
@pytest.mark.parametrize("second", SIGNALS)
def test_the_second_signal_stops_at_once(first, second):
    with Stop() as stop:
        signal.raise_signal(first)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(second)
        # So does every other.
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(first)

    assert stop.asked


@pytest.mark.parametrize("number", SIGNALS)
def test_an_ignored_signal_stays_ignored(number):
    with handled(number, signal.SIG_IGN):
        with Stop() as stop:
            assert signal.getsignal(number) is signal.SIG_IGN
            signal.raise_signal(number)
            assert not stop.asked
            assert list(stop.until("ab")) == ["a", "b"]
            # The others are taken all the same.
            for other in set(SIGNALS) - {number}:
                assert signal.getsignal(other) == stop._ask
        assert signal.getsignal(number) is signal.SIG_IGN


@pytest.mark.parametrize("error", [None, KeyboardInterrupt, ValueError])
def test_handlers_are_put_back_however_it_is_left(error):
    def own(number, frame):
        pytest.fail("not now")

    before = {number: signal.getsignal(number) for number in SIGNALS}
    with handled(signal.SIGTERM, own):
        if error is None:
            with Stop():
                assert signal.getsignal(signal.SIGTERM) is not own
        else:
            with pytest.raises(error), Stop():
                raise error
        assert signal.getsignal(signal.SIGTERM) is own
        default = signal.signal(signal.SIGTERM, signal.SIG_DFL)
        with Stop():
            assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
        signal.signal(signal.SIGTERM, default)
    assert {number: signal.getsignal(number) for number in SIGNALS} == before


def test_off_the_main_thread_nothing_is_installed():
    before = {number: signal.getsignal(number) for number in SIGNALS}
    seen = []

    def elsewhere():
        with Stop() as stop:
            seen.append({number: signal.getsignal(number) for number in SIGNALS})
            seen.append(list(stop.until("abc")))

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join(20)

    assert seen == [before, ["a", "b", "c"]]
    assert {number: signal.getsignal(number) for number in SIGNALS} == before


def test_a_signal_from_outside_is_taken_as_well():
    with Stop() as stop:
        os.kill(os.getpid(), signal.SIGTERM)

        # Taken at once, as this is the main thread and it is its own.
        assert stop.asked
