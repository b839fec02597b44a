"""Running mean and variance, for normalising observations and rewards."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class RunningMeanStd(nn.Module):
    """Mean and population variance of everything seen; buffers, so saved with the policy.

    Batches are merged by the parallel formula of Chan, Golub and LeVeque (1979). As in baselines it
    starts from mean 0, variance 1, which counts as a ten-thousandth of one sample.

    >>> seen = RunningMeanStd()
    >>> seen.update(torch.tensor([1.0, 3.0]))
    >>> round(float(seen.mean), 3), round(float(seen.std), 3)
    (2.0, 1.0)
    """

    mean: Tensor
    variance: Tensor
    count: Tensor

    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(shape, dtype=torch.float64))
        self.register_buffer("variance", torch.ones(shape, dtype=torch.float64))
        self.register_buffer("count", torch.tensor(1e-4, dtype=torch.float64))

    def update(self, samples: Tensor) -> None:
        """Take in samples (B, *shape)."""
        samples = samples.double()
        count = self.count + len(samples)
        shift = samples.mean(0) - self.mean
        squares = (
            self.variance * self.count
            + samples.var(0, correction=0) * len(samples)
            + shift.square() * self.count * len(samples) / count
        )
        self.mean += shift * len(samples) / count
        self.variance.copy_(squares / count)
        self.count.copy_(count)

    def normalise(self, samples: Tensor, *, clip: float) -> Tensor:
        """(samples - mean) / std within +- clip, for samples (B, *shape)."""
        return ((samples - self.mean.float()) / self.std).clamp(-clip, clip)

    @property
    def std(self) -> Tensor:
        """(*shape), float32, never zero."""
        return (self.variance + 1e-8).sqrt().float()
