"""Runs a function of tensors without Python between its operations."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from typing import cast

import torch
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx
from torch.jit._trace import _get_trace_graph

HOT = 150
"""Calls after which a function is recorded, which takes as long as 400 replays save: an update or
two stay as they are, a training gains from its first seconds on."""

Function = Callable[..., tuple[Tensor, ...]]
"""Gives two tensors or more: TorchScript unpacks a single one."""


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
    shapes.

    torch.compile takes 20 s to be no faster than Python here; what torch.jit.trace gives is never
    freed, megabytes for every training.
    """
    operations = make_fx(function)(*inputs)
    operations.graph.eliminate_dead_code()
    operations.recompile()
    trace: Callable[..., tuple[torch.Graph, object]] = _get_trace_graph
    graph, _ = trace(lambda *tensors: operations(*tensors), tuple(inputs))
    return cast(Function, torch._C._create_function_from_graph("recorded", graph))
