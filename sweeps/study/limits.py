"""The [stop] and [constraints] tables of a study file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Final

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass as checked

RULES: Final = ConfigDict(extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)


@checked(frozen=True, slots=True, config=RULES)
class Stop:
    """When a sweep ends before all of its trials; those that run are finished."""

    target: Annotated[float | None, Field(strict=True, examples=[240.0])] = None
    """Stop once the best expected return is this high."""
    plateau: Annotated[int | None, Field(ge=1, strict=True, examples=[20])] = None
    """Stop once so many trials in a row have raised the best expected return by no more than its
    standard error."""
    hours: Annotated[float | None, Field(gt=0, strict=True, examples=[8.0])] = None
    """Stop once trials have run for so many hours, all commands together."""


@checked(frozen=True, slots=True, config=RULES)
class Constraints:
    """What a trial must keep to be ranked among the best, and to enter the race."""

    success_rate: Annotated[float | None, Field(ge=0, le=1, strict=True, examples=[0.9])] = None
    """At least this share of the final episodes reaches the solved return."""
    worst_seed: Annotated[float | None, Field(strict=True, examples=[150.0])] = None
    """Each training has at least this final return."""
    seconds: Annotated[float | None, Field(gt=0, strict=True, examples=[60.0])] = None
    """The trainings take at most so many seconds, where they run."""

    def excess(
        self, returns: Sequence[Sequence[float]], *, solved: float | None, seconds: float
    ) -> dict[str, float]:
        """By how much a trial breaks each of them, 0 or less if it does not.

        `returns` of the final episodes, by training.
        """
        excess = dict[str, float]()
        if self.success_rate is not None and solved is not None:
            reached = [value >= solved for episodes in returns for value in episodes]
            excess["success_rate"] = self.success_rate - sum(reached) / len(reached)
        if self.worst_seed is not None:
            worst = min(sum(episodes) / len(episodes) for episodes in returns)
            excess["worst_seed"] = self.worst_seed - worst
        if self.seconds is not None:
            excess["seconds"] = seconds - self.seconds
        return excess


KEY_TABLES: Final[Mapping[str, type]] = {"stop": Stop, "constraints": Constraints}
"""Tables that a search may have besides [study], as the classes whose fields are their keys."""
