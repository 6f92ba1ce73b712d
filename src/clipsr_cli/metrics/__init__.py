"""METRICS: how near a picture, or a set of them, is to what it should be.

A new metric is a function and a row here.
"""

from collections.abc import Sequence

from clipsr_cli.errors import UnknownNameError, WeightsError
from clipsr_cli.metrics import networks, pixels, sets
from clipsr_cli.metrics.metric import Compared, Gathering, Metric, Setting

__all__ = [
    "DEFAULT_METRICS",
    "METRICS",
    "Compared",
    "Gathering",
    "Metric",
    "Setting",
    "find",
]

METRICS: dict[str, Metric] = {
    "psnr": Metric(
        title="PSNR",
        higher_is_better=True,
        unit="dB",
        digits=2,
        score=pixels.score_psnr,
    ),
    "psnr_y": Metric(
        title="PSNR (Y)",
        higher_is_better=True,
        unit="dB",
        digits=2,
        score=pixels.score_psnr_y,
    ),
    "ssim": Metric(
        title="SSIM",
        higher_is_better=True,
        digits=4,
        score=pixels.score_ssim,
        missing=pixels.torchmetrics_missing,
    ),
    "ms_ssim": Metric(
        title="MS-SSIM",
        higher_is_better=True,
        digits=4,
        score=pixels.score_ms_ssim,
        missing=pixels.torchmetrics_missing,
    ),
    "lpips": Metric(
        title="LPIPS",
        higher_is_better=False,
        digits=4,
        score=networks.score_lpips,
    ),
    "clip_score": Metric(
        title="CLIP score",
        higher_is_better=True,
        digits=2,
        score=networks.score_clip,
    ),
    "lr_psnr": Metric(
        title="LR-PSNR",
        higher_is_better=True,
        unit="dB",
        digits=2,
        score=pixels.score_lr_psnr,
    ),
    "dists": Metric(
        title="DISTS",
        higher_is_better=False,
        digits=4,
        score=networks.score_dists,
        missing=networks.dists_missing,
    ),
    "niqe": Metric(
        title="NIQE",
        higher_is_better=False,
        score=networks.score_niqe,
        missing=networks.niqe_missing,
    ),
    "fid": Metric(
        title="FID",
        higher_is_better=False,
        digits=2,
        gather=sets.gather_fid,
        missing=sets.inception_missing,
    ),
    "kid": Metric(
        title="KID",
        higher_is_better=False,
        digits=5,
        gather=sets.gather_kid,
        missing=sets.inception_missing,
    ),
}

DEFAULT_METRICS = ("psnr", "psnr_y", "ssim", "ms_ssim", "lpips", "clip_score", "lr_psnr")


def find(names: Sequence[str]) -> dict[str, Metric]:
    """The metrics of these names, in their order, all of them usable on this machine.

    Raises:
        UnknownNameError: there is no such metric.
        WeightsError: one needs something that is not on this machine; it says how to get it.
    """
    for name in names:
        if name not in METRICS:
            raise UnknownNameError("metric", name, METRICS)
    for name in names:
        if missing := METRICS[name].missing():
            raise WeightsError(f"{METRICS[name].title} cannot be scored. {missing}")
    return {name: METRICS[name] for name in names}
