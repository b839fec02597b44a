"""Simulated races: how often something is confirmed among equals, and how often a difference is.

`python -m analysis race` writes the shares to `experiments/results/races.json`. A simulated race
draws scores instead of training, and is decided by the functions that decide a real one. One in
which nothing is confirmed is extended as it advises, twice, up to `MOST` report seeds.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from math import sqrt
from pathlib import Path
from typing import Any, Final

import numpy as np
import scipy
from numpy.random import Generator
from numpy.typing import NDArray

from analysis.confirm.judgement import Comparison, Standing, compare
from analysis.confirm.plan import plan_of
from analysis.experiments.landscape import read_measured
from analysis.experiments.results import HERE
from analysis.race import EQUAL, level_of, report_seeds, run_race
from analysis.stats import chance_error, share_estimate
from lander.files import write_aside
from lander.terminal import say
from sweeps.confirm import Confirmed, Training
from sweeps.study.study import DEFAULTS

MOST: Final = 60
"""Report seeds of each finalist up to which a race is extended."""
LOOKS: Final = 3
"""How often a race is judged at most."""
SPREAD: Final = 30.0
"""Standard deviation of a score over training seeds."""
FILE: Final = HERE / "results" / "races.json"
REAL: Final = "landscape"
"""The study whose trainings lend their deviations to the noise that is called real."""
GOOD: Final = 200.0
"""Mean return of the points that lend theirs."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Noise:
    """How scores vary over training seeds."""

    draw: Callable[[Generator, int], Floats]
    """So many deviations, of standard deviation 1."""
    base: float = 1.0
    """The spread of the base, in units of `SPREAD`."""
    others: float = 1.0

    def deviations(self, rng: Generator, candidate: int, count: int) -> list[float]:
        """So many deviations of a candidate's scores from their mean."""
        spread = SPREAD * (self.base if candidate == DEFAULTS else self.others)
        return [spread * float(one) for one in self.draw(rng, count)]


def lower_tail(rng: Generator, count: int) -> Floats:
    """Most trainings come to much the same, some to far less."""
    return 1 - rng.exponential(size=count)


@cache
def real_deviations() -> Floats:
    """Deviations of the trainings of `REAL` from the mean of their point, to standard deviation 1,
    of points that reach `GOOD`: what races is good. Each is enlarged by what its own share in that
    mean takes from it."""
    scores = defaultdict[str, list[float]](list)
    for training in read_measured(REAL).values():
        scores[training.point].append(training.report)
    points = [np.array(each) for each in scores.values() if np.mean(each) >= GOOD]
    raw = np.concatenate([(each - each.mean()) * shrunk_by(len(each)) for each in points])
    return np.asarray(raw / raw.std())


def shrunk_by(count: int) -> float:
    """How much larger the deviations from a true mean are than those from the mean of `count`."""
    return sqrt(count / (count - 1))


NOISES: Final[Mapping[str, Noise]] = {
    "normal": Noise(lambda rng, count: rng.normal(size=count)),
    "lower tail": Noise(lower_tail),
    "real": Noise(lambda rng, count: rng.choice(real_deviations(), size=count)),
    "unequal": Noise(lower_tail, base=0.5, others=1.5),
}
PROMISED: Final = ("normal", "lower tail", "real")
"""Noises under which all candidates are equal, for which the level is promised. In `unequal` only
the means are: the base fails less badly, the others return more in most trainings. A verdict by
ranks speaks of the latter."""


@dataclass(frozen=True, slots=True)
class Setting:
    """A race that is simulated many times."""

    noise: str
    candidates: int
    """Besides the base."""
    trainings: int
    difference: float = 0.0
    """By how much all others are better than the base."""


@dataclass(frozen=True, slots=True)
class Shares:
    """What many races of a setting came to."""

    setting: Setting
    races: int
    confirmed: int
    """Races that confirmed somebody at the first look."""
    confirmed_in_all: int
    """The same at any look, extensions included."""
    best_lost: int
    """Races that eliminated candidate 1, which is no worse than anybody."""
    report_seeds: float
    """Of each finalist at the first look, on average."""

    @property
    def record(self) -> dict[str, Any]:
        """The same as JSON, shares with their 95 % intervals."""
        shares = {
            name: [round(end, 4) for end in (share.value, share.low, share.high)]
            for name, count in (
                ("share_confirmed", self.confirmed),
                ("share_confirmed_in_all", self.confirmed_in_all),
                ("share_best_lost", self.best_lost),
            )
            for share in (share_estimate(count, self.races),)
        }
        fields = asdict(self)
        return {**fields.pop("setting"), **fields, **shares, "promised_power": self.promised_power}

    @property
    def promised_power(self) -> float | None:
        """The share that the forecast of a race promises; None for equals."""
        setting = self.setting
        if not setting.difference:
            return None
        return round(power(setting.difference, SPREAD, self.report_seeds), 4)


def power(difference: float, deviation: float, seeds: float) -> float:
    """Probability that the first look proves a difference: the inverse of `smallest_difference`."""
    theta = float(scipy.special.ndtr(difference / (deviation * sqrt(2))))
    needed = scipy.special.ndtri(1 - level_of(0) / 2) * chance_error(EQUAL, seeds, seeds)
    return float(scipy.special.ndtr((theta - EQUAL - needed) / chance_error(theta, seeds, seeds)))


def settings() -> Iterator[Setting]:
    """Every setting: equals, then differences."""
    for noise in NOISES:
        for candidates, trainings in ((1, 12), (1, 40), (3, 24), (3, 40), (5, 40), (5, 80)):
            yield Setting(noise, candidates, trainings)
    for trainings in (40, 80):
        for difference in (10.0, 20.0, 30.0, 40.0, 50.0, 60.0):
            yield Setting("normal", 5, trainings, difference)


def simulate(setting: Setting, *, races: int, seed: int = 0) -> Shares:
    """Race `races` times."""
    rng = np.random.default_rng(seed)
    ended = [race_once(setting, rng) for _ in range(races)]
    return Shares(
        setting,
        races,
        confirmed=sum(looks == 1 for looks, _, _ in ended),
        confirmed_in_all=sum(looks > 0 for looks, _, _ in ended),
        best_lost=sum(lost for _, lost, _ in ended),
        report_seeds=float(np.mean([seeds for _, _, seeds in ended])),
    )


def race_once(setting: Setting, rng: Generator) -> tuple[int, bool, int]:
    """One race: at which look somebody was confirmed, from 1, or 0; whether candidate 1 was
    eliminated; the report seeds of each finalist at the first look."""
    noise, plan = NOISES[setting.noise], plan_of(setting.trainings, candidates=setting.candidates)

    def draw(candidate: int, count: int) -> list[float]:
        better = 0.0 if candidate == DEFAULTS else setting.difference
        return [better + one for one in noise.deviations(rng, candidate, count)]

    racing = range(1, setting.candidates + 1)
    choice = {one: draw(one, plan.first + plan.looks) for one in racing}
    course = run_race(lambda one, seed: choice[one][seed], racing, plan)
    rival = course.order[0]
    first = report_seeds(plan, used=course.used)
    scores = {one: draw(one, first) for one in (rival, DEFAULTS)}
    for look in range(LOOKS):
        final = judged(scores, rival=rival, look=look)
        if final.better is not None:
            return look + 1, 1 in course.out, first
        needed = final.seeds_to_decide
        if needed is None or needed > MOST:
            break
        for one, known in scores.items():
            known += draw(one, needed - len(known))
    return 0, 1 in course.out, first


def judged(scores: Mapping[int, Sequence[float]], *, rival: int, look: int) -> Comparison:
    """The comparison of two finalists by their scores under report seeds."""

    def standing(number: int) -> Standing:
        report = tuple(Training(0, (score,)) for score in scores[number])
        return Standing(Confirmed(number, {}, report=report), (), None, (), None, None)

    return compare(standing(rival), standing(DEFAULTS), look=look, threshold=None)


def simulate_all(*, races: int, path: Path = FILE) -> Path:
    """Simulate every setting, print a line for each, and write all to a file."""
    rows = []
    for seed, setting in enumerate(settings()):
        shares = simulate(setting, races=races, seed=seed)
        rows.append(shares.record)
        say(words(shares))
    with write_aside(path) as aside:
        aside.write_text("\n".join(["[", ",\n".join(map(json.dumps, rows)), "]"]) + "\n")
    return path


def words(shares: Shares) -> str:
    """What a setting came to, in one line."""
    setting, races = shares.setting, shares.races
    first, every, lost = (
        format(share_estimate(count, races), ".1%")
        for count in (shares.confirmed, shares.confirmed_in_all, shares.best_lost)
    )
    promised = shares.promised_power
    text = (
        f"{setting.noise}, {setting.candidates} candidates, {setting.trainings} trainings, "
        f"difference {setting.difference:.0f}: confirmed {first}, with extensions {every}, "
        f"best candidate lost {lost}"
    )
    return text if promised is None else f"{text}; promised {promised:.1%}"
