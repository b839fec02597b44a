"""Runs a function of tensors without Python between its operations."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Hashable, Sequence

import torch
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx

HOT = 150
"""Calls after which recording a function's operations pays for itself."""

Function = Callable[..., tuple[Tensor, ...]]


class Tracer:
    """Calls functions of tensors; one that is called often is recorded and then replayed.

    A gradient of small networks is two hundred operations of a few microseconds, and half of its
    time goes into Python and the bookkeeping of autograd between them. The record holds the same
    operations in the same order, those of the backward pass included, so the results are the same
    to the bit.
    """

    def __init__(self) -> None:
        self._calls: Counter[Hashable] = Counter()
        self._records: dict[Hashable, Function] = {}

    def __call__(
        self, function: Function, inputs: Sequence[Tensor], *, constants: Hashable
    ) -> tuple[Tensor, ...]:
        """function(*inputs). It must compute from `inputs` and `constants` alone, and change
        nothing; the shapes of its inputs are constants too."""
        key = constants, tuple(part.shape for part in inputs)
        record = self._records.get(key)
        if record is None:
            self._calls[key] += 1
            if self._calls[key] < HOT:
                return function(*inputs)
            record = self._records[key] = recorded(function, inputs)
        with torch.inference_mode():
            return record(*inputs)


def recorded(function: Function, inputs: Sequence[Tensor]) -> Function:
    """The operations of function(*inputs) as one TorchScript function, for inputs of the same
    shapes."""
    graph = make_fx(function)(*inputs)
    graph.graph.eliminate_dead_code()
    graph.recompile()
    with warnings.catch_warnings():
        # torch.compile, its successor, takes 20 s to be no faster than Python here
        warnings.filterwarnings("ignore", ".*is deprecated", DeprecationWarning)
        trace: Callable[..., Function] = torch.jit.trace
        return trace(graph, tuple(inputs), check_trace=False)
