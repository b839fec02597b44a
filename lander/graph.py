"""Runs a function of tensors without Python between its operations."""

from __future__ import annotations

import warnings
from collections import Counter, OrderedDict
from collections.abc import Callable, Hashable, Sequence
from typing import cast

import torch
from torch import Tensor

CAPTURE_AFTER = 150
"""Calls after which a function is recorded: an update or two stay as they are, a training gains
from its first seconds on."""
PAID = 400
"""Replays that save the time which a record takes to make; before that no other one is made."""
KEPT = 8
"""Records that are held at a time, some megabytes each: those used last."""
COUNTED = 1000
"""Functions whose calls are counted at a time; with one more, counting begins anew."""

Function = Callable[..., tuple[Tensor, ...]]
"""Gives two tensors or more: TorchScript unpacks a single one."""


class Tracer:
    """Calls functions of tensors; one that is called often is recorded and then replayed.

    A gradient of small networks is two hundred operations of a few microseconds, and half of its
    time goes into Python and the bookkeeping of autograd between them. The record holds the same
    operations in the same order, those of the backward pass included, so the results are the same
    to the bit.

    Records are made with private parts of torch. A version that lacks them, or in which they do
    something else, trains without records: slower, to the same result.
    """

    def __init__(self) -> None:
        self._calls: Counter[Hashable] = Counter()
        self._records: OrderedDict[Hashable, Function] = OrderedDict()
        self._replays = PAID
        """Since the last record was made."""
        self._works = True

    def __call__(
        self, function: Function, inputs: Sequence[Tensor], *, constants: Hashable
    ) -> tuple[Tensor, ...]:
        """function(*inputs). It must compute from `inputs` and `constants` alone, and change
        nothing; the shapes of its inputs are constants too."""
        if not self._works:
            return function(*inputs)
        key = constants, tuple(part.shape for part in inputs)
        record = self._records.get(key)
        if record is None:
            return self._counted(key, function, inputs)
        self._records.move_to_end(key)
        self._replays += 1
        return replayed(record, inputs)

    def _counted(
        self, key: Hashable, function: Function, inputs: Sequence[Tensor]
    ) -> tuple[Tensor, ...]:
        """A call without a record, which may be the one to make it."""
        if len(self._calls) > COUNTED:
            self._calls.clear()
        self._calls[key] += 1
        result = function(*inputs)
        if self._calls[key] < CAPTURE_AFTER or self._replays < PAID:
            return result
        try:
            record = recorded(function, inputs)
            same = all(map(torch.equal, replayed(record, inputs), result))
        except Exception:  # whatever private parts raise: the result is there without them
            same = False
        if not same:
            self._works = False
            self._records.clear()
            return result
        del self._calls[key]
        self._records[key] = record
        self._replays = 0
        if len(self._records) > KEPT:
            self._records.popitem(last=False)
        return result


def replayed(record: Function, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """What a record gives."""
    with torch.inference_mode():
        return record(*inputs)


def recorded(function: Function, inputs: Sequence[Tensor]) -> Function:
    """The operations of function(*inputs) as one TorchScript function, for inputs of the same
    shapes.

    torch.compile takes 20 s to be no faster than Python here; what torch.jit.trace gives is never
    freed, megabytes for every training.
    """
    # private, so imported where their lack can be caught
    from torch.fx.experimental.proxy_tensor import make_fx
    from torch.jit._trace import _get_trace_graph

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what a later version of torch gives up
        operations = make_fx(function)(*inputs)
        operations.graph.eliminate_dead_code()
        operations.recompile()
        trace: Callable[..., tuple[torch.Graph, object]] = _get_trace_graph
        graph, _ = trace(lambda *tensors: operations(*tensors), tuple(inputs))
        return cast(Function, torch._C._create_function_from_graph("recorded", graph))
