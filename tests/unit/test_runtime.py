"""A device or precision is what was asked for, or a clear refusal."""

import pytest
import torch

from clipsr_cli.errors import DeviceError, InputError
from clipsr_cli.runtime import describe_device, mixed_precision, pick_device, pick_precision

CPU = torch.device("cpu")


def without_gpus(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)


def test_auto_is_the_cpu_where_there_is_nothing_else(monkeypatch):
    without_gpus(monkeypatch)
    assert pick_device("auto") == pick_device("cpu") == CPU


def test_auto_is_the_first_gpu_where_there_is_one(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert pick_device("auto") == torch.device("cuda", 0) == pick_device("cuda")
    with pytest.raises(DeviceError, match="cuda:1"):
        pick_device("cuda:1")


@pytest.mark.parametrize("name", ["cuda", "cuda:3", "mps", "meta"])
def test_a_missing_device_is_never_replaced_in_silence(name, monkeypatch):
    without_gpus(monkeypatch)
    with pytest.raises(DeviceError, match=name) as caught:
        pick_device(name)
    assert caught.value.exit_code == 5


@pytest.mark.parametrize("name", ["cuda:128", "cuda:256", "cuda:257"])
def test_a_number_that_torch_cannot_count_to_is_no_other_device(name, monkeypatch):
    """Torch takes cuda:256 for cuda:0, and cuda:128 for cuda:-128."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)

    with pytest.raises(DeviceError, match=f"'{name}' is not there"):
        pick_device(name)


def test_a_device_that_means_nothing_is_an_input_error():
    with pytest.raises(InputError, match="gpu!"):
        pick_device("gpu!")


def test_precisions():
    assert pick_precision("auto", CPU) == "fp32"
    assert pick_precision("auto", torch.device("cuda")) == "fp16"
    assert pick_precision("bf16", CPU) == "bf16"
    with pytest.raises(InputError, match="fp8"):
        pick_precision("fp8", CPU)
    with pytest.raises(InputError, match="fp16"):
        pick_precision("fp16", CPU)


def test_mixed_precision_computes_in_what_was_asked():
    with mixed_precision(CPU, "bf16"):
        assert (
            torch.nn.functional.linear(torch.ones(1, 2), torch.ones(1, 2)).dtype == torch.bfloat16
        )
    with mixed_precision(CPU, "fp32"):
        assert torch.nn.functional.linear(torch.ones(1, 2), torch.ones(1, 2)).dtype == torch.float32


def test_the_cpu_is_described_by_its_cores():
    assert "cores" in describe_device(CPU)
