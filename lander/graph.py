"""Captures a function of tensors as a graph, and replays it without Python between operations."""

from __future__ import annotations

import warnings
from collections import Counter, OrderedDict
from collections.abc import Callable, Hashable, Sequence
from typing import cast

import torch
from torch import Tensor

CAPTURE_AFTER = 150
"""Calls after which a function is captured: one or two updates stay as they are, a training gains
from its first seconds on."""
PAID_AFTER = 400
"""Replays that save the time which a capture takes; before that no other graph is captured."""
MAX_GRAPHS = 8
"""Graphs that are kept at a time, some megabytes each: the last ones used."""
MAX_COUNTS = 1000
"""Functions whose calls are counted at a time; with one more, counting begins anew."""

Function = Callable[..., tuple[Tensor, ...]]
"""Gives two tensors or more: TorchScript unpacks a single one."""


class GraphCache:
    """Calls functions of tensors; one that is called often is captured and then replayed.

    A gradient of small networks is two hundred operations of a few microseconds, and half of its
    time goes into Python and the bookkeeping of autograd between them. The graph holds the same
    operations in the same order, those of the backward pass included, so the results are the same
    to the bit.

    Capture uses private parts of torch. With a version that lacks or has changed them, training
    does without graphs: it is slower, and gives the same result.
    """

    def __init__(self) -> None:
        self._calls: Counter[Hashable] = Counter()
        self._graphs: OrderedDict[Hashable, Function] = OrderedDict()
        self._replays = PAID_AFTER
        """Since the last capture."""
        self._works = True

    def __call__(
        self, function: Function, inputs: Sequence[Tensor], *, constants: Hashable
    ) -> tuple[Tensor, ...]:
        """function(*inputs). It must compute from `inputs` and `constants` alone, and change
        nothing; the shapes of its inputs are constants too."""
        if not self._works:
            return function(*inputs)
        key = constants, tuple(part.shape for part in inputs)
        graph = self._graphs.get(key)
        if graph is None:
            return self._counted(key, function, inputs)
        self._graphs.move_to_end(key)
        self._replays += 1
        return replayed(graph, inputs)

    def _counted(
        self, key: Hashable, function: Function, inputs: Sequence[Tensor]
    ) -> tuple[Tensor, ...]:
        """A call without a graph, which captures one if it is due."""
        if len(self._calls) > MAX_COUNTS:
            self._calls.clear()
        self._calls[key] += 1
        result = function(*inputs)
        if self._calls[key] < CAPTURE_AFTER or self._replays < PAID_AFTER:
            return result
        try:
            graph = captured(function, inputs)
            same = all(map(torch.equal, replayed(graph, inputs), result))
        except Exception:  # private parts may raise anything; `result` does not depend on them
            same = False
        if not same:
            self._works = False
            self._graphs.clear()
            return result
        del self._calls[key]
        self._graphs[key] = graph
        self._replays = 0
        if len(self._graphs) > MAX_GRAPHS:
            self._graphs.popitem(last=False)
        return result


def replayed(graph: Function, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """The results of a graph for these inputs."""
    with torch.inference_mode():
        return graph(*inputs)


def captured(function: Function, inputs: Sequence[Tensor]) -> Function:
    """The operations of function(*inputs) as one TorchScript function, for inputs of the same
    shapes.

    torch.compile takes 20 s to be no faster than Python here; what torch.jit.trace gives is never
    freed, megabytes for every training.
    """
    # private, and so imported here, where the caller can do without them
    from torch.fx.experimental.proxy_tensor import make_fx
    from torch.jit._trace import _get_trace_graph

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecations of a later torch
        operations = make_fx(function)(*inputs)
        operations.graph.eliminate_dead_code()
        operations.recompile()
        trace: Callable[..., tuple[torch.Graph, object]] = _get_trace_graph
        graph, _ = trace(lambda *tensors: operations(*tensors), tuple(inputs))
        return cast(Function, torch._C._create_function_from_graph("captured", graph))
