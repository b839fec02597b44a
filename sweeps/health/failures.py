"""Where do trials fail or diverge: which half of which field holds them?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import CategoricalDistribution
from optuna.trial import FrozenTrial
from scipy.stats import hypergeom

from lander.terminal import program
from sweeps.endings import SETTLED, ending, is_divergence
from sweeps.health.evidence import Evidence, position
from sweeps.health.finding import LEVEL, Finding, Remedy, TooLittle, digits
from sweeps.health.lines import line, shown, without_choice, without_half
from sweeps.hints import hint
from sweeps.schema import REASON, Ending
from sweeps.study.ranges import Range
from sweeps.study.study import Study

Flags = NDArray[np.bool_]

LONGEST: Final = 80
"""Characters of a reason that are shown."""


class Part(NamedTuple):
    """A half of a range, or a choice, that holds failed trials."""

    words: str
    rest: Range | None
    """The range without it; None if the base lies in it."""
    failed: int
    size: int
    """Trials in it, failed or not."""
    of: int
    """Trials in which its field has an effect."""
    p: float


def failures(evidence: Evidence) -> Iterator[Finding]:
    """That trials have failed, and the part of the space that holds them if a test shows one."""
    study = evidence.study
    ended = [trial for trial in evidence.trials.counted if ending(trial) in SETTLED]
    failed = [trial for trial in ended if ending(trial) == Ending.FAILED]
    if not ended:
        raise TooLittle("no trial has ended")
    if not failed:
        return
    parts = [part for range_ in study.space.values() for part in parts_of(range_, ended, study)]
    worst = min(parts, key=lambda part: part.p, default=None)
    first, sentence = failed[0], f"{len(failed)} of {len(ended)} trials failed or diverged"
    reason = str(first.user_attrs.get(REASON, "no reason is recorded"))[:LONGEST]
    evidence_of = f"the first, trial {first.number}: {reason}"
    remedy = Remedy("run", to_repeat(evidence, first))
    if worst is None or worst.p * len(parts) > LEVEL:
        yield Finding(f"{sentence}, in no particular part of the space.", evidence_of, remedy)
        return
    if worst.rest is not None and not study.points:
        remedy = Remedy("set under [space]", line(worst.rest))
    yield Finding(
        f"{sentence}, {worst.failed} of them with {worst.words}.",
        f"{worst.size} of {worst.of} trials lie there; {digits(worst.p)}, the least of "
        f"{len(parts)} tests; {evidence_of}",
        remedy,
    )


def to_repeat(evidence: Evidence, trial: FrozenTrial) -> str:
    """The command that trains a failed trial again, up to its error: `reproduce` ends where nothing
    more was recorded, unless it diverged."""
    name, number = evidence.study.name, trial.number
    if is_divergence(str(trial.user_attrs.get(REASON, ""))):
        return hint("reproduce", evidence.folder, study=name, trial=number)
    file = f"trial-{number}.toml"
    export = hint("export", evidence.folder, study=name, trial=number)
    return f"{export} > {file} && {program('lander')} --config {file}"


def parts_of(range_: Range, ended: Sequence[FrozenTrial], study: Study) -> Iterator[Part]:
    """The halves of a range, or its choices, with the failed trials in each."""
    some = [trial for trial in ended if range_.parameter in trial.params]
    values = [trial.params[range_.parameter] for trial in some]
    failed = np.array([ending(trial) == Ending.FAILED for trial in some], bool)
    distribution = range_.distribution
    if isinstance(distribution, CategoricalDistribution):
        for choice in distribution.choices:
            rest = without_choice(range_, choice, study)
            inside = np.array([value == choice for value in values], bool)
            yield part(f"{range_.field} = {shown(range_, choice)}", rest, inside, failed)
        return
    at = np.array([position(range_, value) for value in values])
    for upper, inside in ((False, at < 0.5), (True, at >= 0.5)):
        words = f"{range_.field} in the {'upper' if upper else 'lower'} half of its range"
        yield part(words, without_half(range_, study, upper=upper), inside, failed)


def part(words: str, rest: Range | None, inside: Flags, failed: Flags) -> Part:
    """A part of the space; p is Fisher's, one-sided: how likely it holds so many of the failed
    trials if they are any of its field's trials."""
    size, held = int(inside.sum()), int((inside & failed).sum())
    p = float(hypergeom.sf(held - 1, len(failed), int(failed.sum()), size))
    return Part(words, rest, held, size, len(failed), p)
