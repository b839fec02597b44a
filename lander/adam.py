"""Adam on parameters that share one memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import torch
from torch import Tensor, nn

BETA1: Final = 0.9
"""Decay of the mean gradient."""
BETA2: Final = 0.999
"""Decay of the mean squared gradient."""
EPSILON: Final = 1e-5
"""As in baselines; Adam's own is 1e-8."""

ALIGNED: Final = 16
"""Numbers in 64 bytes. Every parameter begins at a multiple of them, as it does in memory of its
own: the last bit of a matrix product may depend on that."""


class FlatAdam:
    """Adam (arXiv:1412.6980, algorithm 1), with a step size for each group of parameters.

    The parameters become views of one flat tensor and their gradients of another, so that one
    operation serves a dozen small tensors. It is the one that `torch.optim.Adam(fused=True)` calls;
    that class would import torch's compiler, a second and 80 MB in each worker.
    """

    def __init__(self, groups: Sequence[Sequence[nn.Parameter]]) -> None:
        self.parameters = [parameter for group in groups for parameter in group]
        self._padding = torch.zeros(ALIGNED)
        self.weights = self.flattened([parameter.detach() for parameter in self.parameters])
        self.gradient = torch.zeros_like(self.weights)
        self._mean, self._square = torch.zeros_like(self.weights), torch.zeros_like(self.weights)
        self._steps = torch.zeros(())
        whole = self.weights, self.gradient, self._mean, self._square
        ends = [sum(map(padded, group)) for group in groups]
        self._groups = list(zip(*(tensor.split(ends) for tensor in whole), strict=True))
        """Weights, gradient, mean and mean square of each group."""
        sizes = list(map(padded, self.parameters))
        weights, gradients = self.weights.split(sizes), self.gradient.split(sizes)
        for parameter, weight, gradient in zip(self.parameters, weights, gradients, strict=True):
            shape, strides = parameter.shape, parameter.stride()
            parameter.grad = gradient.as_strided(shape, strides)
            parameter.data = weight.as_strided(shape, strides)

    def flattened(self, parts: Sequence[Tensor]) -> Tensor:
        """Tensors like the parameters as one, each in the order in which its parameter is stored
        and filled up with zeros."""
        pieces: list[Tensor] = []
        for part, parameter in zip(parts, self.parameters, strict=True):
            pieces.append((part.T if is_transposed(parameter) else part).flatten())
            gap = padded(parameter) - parameter.numel()
            pieces += [self._padding[:gap]] if gap else []
        return torch.cat(pieces)

    @torch.no_grad()
    def step(self, rates: Sequence[float]) -> None:
        """Move the weights against `gradient`, by the step size of each group."""
        self._steps += 1
        for rate, parts in zip(rates, self._groups, strict=True):
            weights, gradient, mean, square = ([part] for part in parts)
            # one pass over memory, where seven operations would take six times as long
            torch._fused_adam_(
                weights,
                gradient,
                mean,
                square,
                [],
                [self._steps],
                lr=rate,
                beta1=BETA1,
                beta2=BETA2,
                weight_decay=0.0,
                eps=EPSILON,
                amsgrad=False,
                maximize=False,
            )

    def state(self) -> dict[str, Any]:
        """The state that `restore` needs besides the weights."""
        return {"mean": self._mean, "square": self._square, "steps": self._steps}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from an earlier state."""
        self._mean.copy_(state["mean"])
        self._square.copy_(state["square"])
        self._steps.copy_(state["steps"])


def is_transposed(parameter: Tensor) -> bool:
    """Whether a matrix lies in memory column by column."""
    return parameter.dim() == 2 and not parameter.is_contiguous()


def padded(parameter: Tensor) -> int:
    """How many numbers lie between the beginning of a parameter and that of the next."""
    return -(-parameter.numel() // ALIGNED) * ALIGNED
