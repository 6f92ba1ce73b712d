"""What Adam's saved state tells of a training: which part of netG learned, and for how long."""

from collections.abc import Collection, Iterator, Mapping
from typing import Any, Literal

from torch import Tensor

from clipsr_cli.released_checkpoint.layout import MAPPING, TOWER

Learning = Literal["trained", "never trained", "unknown"]


def read_learning(
    optimisers: Any, tensors: Mapping[str, Tensor], kept: Collection[str]
) -> tuple[Learning, int | None]:
    """Whether the branch through CLIP's image tower learned, and how many steps netG was trained.

    The state knows parameters by number only: by their order in ``netG.parameters()``, which is the
    order of netG's state dict, as the network has no buffers. The optimiser meant is the one with
    as many parameters as netG, with or without CLIP's tower, whose moments have their shapes.

    Adam makes a parameter's moments with its first gradient; one that never got any, or zeros only,
    has none, or zeros. Where not even the kept tensors have other moments than zero, nothing had
    been learned when the state was saved, and it tells nothing.

    Args:
        optimisers: the checkpoint's ``optimizers``, in whatever shape.
        tensors: netG, in the file's order.
        kept: names of the tensors that reach the picture.
    """
    without_tower = [name for name in tensors if not name.startswith(TOWER)]
    for state, numbers in _states(optimisers):
        for names in ([*tensors], without_tower):
            if len(names) != len(numbers):
                continue
            own = {n: state.get(number) for n, number in zip(names, numbers, strict=True)}
            if not all(_fits(saved, tensors[name]) for name, saved in own.items()):
                continue
            first = next((own[name] for name in kept if _moved(own[name])), None)
            if first is None:
                continue
            learned = any(_moved(own[name]) for name in names if name.startswith(MAPPING))
            return "trained" if learned else "never trained", _whole(first.get("step"))
    return "unknown", None


def _states(optimisers: Any) -> Iterator[tuple[Mapping[Any, Any], list[int]]]:
    """Of every optimiser in the file: its state by parameter number, and the numbers in order."""
    if not isinstance(optimisers, Mapping):
        return
    for saved in optimisers.values():
        match saved:
            case {"state": Mapping() as state, "param_groups": [*groups]}:
                numbers = [number for group in groups for number in _numbers(group)]
                yield state, numbers


def _numbers(group: Any) -> list[int]:
    match group:
        case {"params": [*numbers]}:
            return [number for number in numbers if isinstance(number, int)]
    return []


def _fits(saved: Any, parameter: Tensor) -> bool:
    """Whether Adam's state of a parameter, or None, can be this parameter's."""
    if not isinstance(saved, Mapping):
        return saved is None
    moments = (saved.get("exp_avg"), saved.get("exp_avg_sq"))
    return all(isinstance(m, Tensor) and m.shape == parameter.shape for m in moments)


def _moved(saved: Any) -> bool:
    """Whether a parameter's gradient was ever other than zero."""
    return saved is not None and bool(saved["exp_avg"].any() or saved["exp_avg_sq"].any())


def _whole(count: Any) -> int | None:
    """A step count, which is a number or a tensor of one."""
    if isinstance(count, Tensor) and count.numel() == 1:
        count = count.item()
    return int(count) if isinstance(count, int | float) and count == count // 1 else None
