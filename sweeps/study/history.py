"""What a sampler, a pruner and an estimate look at in a history of thousands of trials."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from typing import Final

from optuna import Study
from optuna.trial import FrozenTrial, TrialState

from sweeps.optuna_private import StudyOfSome

LOOKED_AT: Final = 500
"""How many ended trials a sampler looks at."""
BEST: Final = 25
"""So many of them are the best ones: TPE models that many apart from the others."""
ENDED: Final = (TrialState.COMPLETE, TrialState.PRUNED)


class NewTrials:
    """Hands out each finished trial of a study once, however many there are."""

    def __init__(self) -> None:
        self._known: set[int] = set()

    def among(self, finished: Sequence[FrozenTrial]) -> list[FrozenTrial]:
        """Those of all finished trials, sorted by number, that were not handed out before."""
        new: list[FrozenTrial] = []
        for trial in reversed(finished):  # new ones are near the end
            if len(self._known) == len(finished):
                break
            if trial.number not in self._known:
                self._known.add(trial.number)
                new.append(trial)
        return new[::-1]


class SamplerView:
    """Studies as a sampler sees them: with at most `LOOKED_AT` ended trials.

    A sampler that models all of them takes longer with each, and gains next to nothing beyond some
    hundred. It sees the best ones, an even choice of the others and all that run; which ones
    depends on the history alone. A bracket of Hyperband is seen whole. One object serves one study.
    """

    def __init__(self) -> None:
        self._new = NewTrials()
        self._best: list[FrozenTrial] = []

    def of(self, study: Study) -> Study:
        """The study, or one that shows a part of it."""
        if type(study) is not Study:
            return study
        ended = study.get_trials(deepcopy=False, states=ENDED)
        return study if len(ended) <= LOOKED_AT else StudyOfSome(study, self._chosen(ended))

    def _chosen(self, ended: Sequence[FrozenTrial]) -> list[FrozenTrial]:
        """The ended trials that are seen, by number."""
        new = [trial for trial in self._new.among(ended) if trial.state == TrialState.COMPLETE]
        candidates = sorted([*self._best, *new], key=lambda trial: trial.number)
        self._best = heapq.nlargest(BEST, candidates, key=lambda trial: trial.values[0])
        rest = LOOKED_AT - len(self._best)
        even = (ended[index * len(ended) // rest] for index in range(rest))
        by_number = {trial.number: trial for trial in (*even, *self._best)}
        return [by_number[number] for number in sorted(by_number)]
