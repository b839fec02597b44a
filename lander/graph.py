"""Records the operations of a function as a TorchScript program, and runs that in its stead."""

from __future__ import annotations

import warnings
from collections import Counter, OrderedDict
from collections.abc import Callable, Hashable, Mapping, Sequence
from itertools import count
from math import isfinite
from typing import Any, cast

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode  # no public module offers it

RECORD_AFTER = 20
"""Calls after which a function is recorded: a few calls stay as they are."""
PAID_AFTER = 60
"""Runs of a program that save the time in which it was recorded; before that no other is."""
MAX_PROGRAMS = 8
"""Programs that are kept at a time: the last ones used."""
MAX_COUNTS = 1000
"""Functions whose calls are counted at a time; with one more, counting begins anew."""

Function = Callable[..., tuple[Tensor, ...]]
"""Gives two tensors or more: TorchScript unpacks a single one."""


class GraphCache:
    """Calls functions of tensors; one that is called often is recorded, and its program runs.

    A gradient of small networks is a hundred operations of a few microseconds, and half of its time
    goes into Python and the bookkeeping of autograd between them. The program holds the same
    operations in the same order, those of the backward pass included, so the results are the same
    to the bit.

    TorchScript and the recorder are not for ever part of torch. With a version that lacks or has
    changed them, training does without programs: it is slower, and gives the same result.
    """

    def __init__(self) -> None:
        self._calls: Counter[Hashable] = Counter()
        self._programs: OrderedDict[Hashable, Function] = OrderedDict()
        self._runs = PAID_AFTER
        """Since the last recording."""
        self._works = True

    def __call__(
        self, function: Function, inputs: Sequence[Tensor], *, constants: Hashable
    ) -> tuple[Tensor, ...]:
        """function(*inputs). It must compute from `inputs` and `constants` alone, and change
        nothing; the shapes of its inputs are constants too."""
        if not self._works:
            return function(*inputs)
        key = constants, tuple(part.shape for part in inputs)
        program = self._programs.get(key)
        if program is None:
            return self._counted(key, function, inputs)
        self._programs.move_to_end(key)
        self._runs += 1
        return run(program, inputs)

    def _counted(
        self, key: Hashable, function: Function, inputs: Sequence[Tensor]
    ) -> tuple[Tensor, ...]:
        """A call without a program, which records one if it is due."""
        if len(self._calls) > MAX_COUNTS:
            self._calls.clear()
        self._calls[key] += 1
        result = function(*inputs)
        if self._calls[key] < RECORD_AFTER or self._runs < PAID_AFTER:
            return result
        try:
            program = recorded(function, inputs)
            same = all(map(torch.equal, run(program, inputs), result))
        except Exception:  # a changed torch may raise anything; `result` does not depend on it
            same = False
        if not same:
            self._works = False
            self._programs.clear()
            return result
        del self._calls[key]
        self._programs[key] = program
        self._runs = 0
        if len(self._programs) > MAX_PROGRAMS:
            self._programs.popitem(last=False)
        return result


def run(program: Function, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """The results of a program for these inputs."""
    with torch.inference_mode():
        return program(*inputs)


def recorded(function: Function, inputs: Sequence[Tensor]) -> Function:
    """The operations of function(*inputs) as a program for inputs of the same shapes.

    torch.compile takes 20 s to be no faster than Python here; what torch.jit.trace gives is never
    freed, megabytes for every training, and it sees no backward pass.
    """
    with Recorder(inputs) as recorder:
        outputs = function(*inputs)
    constants = recorder.constants
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript is deprecated, without anything as light
        unit: Any = torch.jit.CompilationUnit(recorder.source(outputs))
    program = cast(Function, unit.program)
    return program if not constants else lambda *tensors: program(*tensors, *constants)


class Recorder(TorchDispatchMode):
    """Writes down each operation that torch carries out, the backward pass included."""

    def __init__(self, inputs: Sequence[Tensor]) -> None:
        self.constants: list[Tensor] = []
        """The tensors that are neither inputs nor results of an operation."""
        self._lines: list[str] = []
        self._numbers = count()
        self._names: dict[int, str] = {}
        self._alive: list[Tensor] = []
        """An address names a tensor as long as it exists."""
        for k, tensor in enumerate(inputs):
            self._name(tensor, f"input_{k}")
        self._inputs = list(self._names.values())

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """False: torch would import its compiler, a second and 80 MB, to exclude this class."""
        return False

    def __torch_dispatch__(
        self,
        func: Any,
        types: object,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        options = dict(kwargs or {})
        result = func(*args, **options)
        if func is torch.ops.aten.detach.default:  # a program keeps no track of gradients anyway
            self._name(result, self._written(args[0]))
            return result
        if func.is_view and all(map(self._is_constant, args)):
            return result  # a constant too
        written = [self._written(part) for part in args]
        written += [f"{name}={self._written(part)}" for name, part in options.items()]
        call = f"torch.ops.{func.overloadpacket}({', '.join(written)})"
        if isinstance(result, list):  # all parts of one tensor
            parts = f"parts_{len(self._lines)}"
            self._lines.append(f"{parts} = {call}")
            for k, tensor in enumerate(result):
                self._lines.append(f"{self._new(tensor)} = {parts}[{k}]")
        elif any(result is part for part in args):  # changed in its own memory
            self._lines.append(call)
        else:
            results = result if isinstance(result, tuple) else (result,)
            self._lines.append(f"{', '.join(map(self._new, results))} = {call}")
        return result

    def _is_constant(self, part: object) -> bool:
        name = self._names.get(id(part), "")
        return not isinstance(part, Tensor) or not name.startswith(("input_", "result_"))

    def source(self, outputs: Sequence[Tensor]) -> str:
        """The program: what it takes, an operation per line, what it returns."""
        results = ", ".join(self._names[id(tensor)] for tensor in outputs)
        constants = [self._names[id(tensor)] for tensor in self.constants]
        lines = [f"def program({', '.join(self._inputs + constants)}):", *self._lines]
        return "\n    ".join([*lines, f"return ({results})\n"])

    def _name(self, tensor: Tensor, name: str) -> str:
        self._names[id(tensor)] = name
        self._alive.append(tensor)
        return name

    def _new(self, tensor: Tensor) -> str:
        return self._name(tensor, f"result_{next(self._numbers)}")

    def _written(self, part: object) -> str:
        """An argument of an operation, as TorchScript writes it."""
        match part:
            case Tensor():
                if id(part) not in self._names:
                    self._name(part, f"constant_{len(self.constants)}")
                    self.constants.append(part)
                return self._names[id(part)]
            case list() | tuple():
                return f"[{', '.join(map(self._written, part))}]"
            case float() if not isfinite(part):
                return f'float("{part}")'
            case torch.device():
                return f'torch.device("{part}")'
            case None | bool() | int() | float() | torch.dtype():
                return repr(part)
            case torch.layout() | torch.memory_format():
                return str(part)
        raise TypeError(f"{part!r} has no form in TorchScript")
