"""The head of a report: the question, the result, and the commands that check it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial

from analysis.confirm.judgement import Finalist, Judgement
from analysis.confirm.words import prediction, verdict
from analysis.report.document import Block
from analysis.report.records import Records
from sweeps.endings import SETTLED, USUAL
from sweeps.errors import redacted
from sweeps.hints import hint
from sweeps.publish.markdown import box, code, line
from sweeps.schema import BEST_ALIAS, CONFIRM_SUFFIX, CONFIRMED_ALIAS, TRIAL_NUMBER, Ending
from sweeps.study.cost import steps_in_words
from sweeps.study.ranges import Range
from sweeps.study.space import Space
from sweeps.study.study import TUNED, Study

CHOICES = "choices"

FLY = """\
import gymnasium as gym, mlflow, torch

mlflow.set_tracking_uri("{tracking}")
policy = mlflow.pytorch.load_model("models:/{name}@{alias}")
env = gym.make("{env_id}", {arguments}render_mode="human")
obs, over = env.reset(seed=1)[0], False
while not over:
    obs, _, terminated, truncated, _ = env.step(policy(torch.from_numpy(obs[None])).numpy()[0])
    over = terminated or truncated"""


def question(records: Records) -> str:
    """The question that the sweep answers, in one sentence."""
    study = records.sweep.study
    ranges = {name: searched(range_) for name, range_ in study.space.items()}
    fields = [
        f"`{name}` ({values})" if scale == CHOICES else f"`{name}` ({values}, {scale})"
        for name, (values, scale) in ranges.items()
    ]
    listed = " and ".join([", ".join(fields[:-1]), fields[-1]] if len(fields) > 1 else fields)
    seeds = study.settings.seeds_per_trial
    how = {
        "mean": "averaged",
        "iqm": "their interquartile mean",
        "worst_seed": "the lowest",
    }[study.settings.score]
    return (
        f"Which {listed} give PPO on `{study.base.env.id}` the highest score: {measured(study)}"
        + (f", {how} over {seeds} training seeds" if seeds > 1 else "")
        + f", as far as {records.trials.total} trials can tell?"
    )


def measured(study: Study) -> str:
    """What the score of a training is, in words."""
    within = steps_in_words(study)
    match study.settings.training_score:
        case "area":
            return f"the mean return over the checkpoints of {within}"
        case "time_to_target":
            return f"minus the environment steps until a checkpoint returns {study.target:g}"
    policy = "" if study.base.final_policy == "last" else " of the best checkpoint's policy"
    several = study.settings.score_checkpoints
    last = f"the mean over the last {several} checkpoints, the last of which is "
    return (last if several > 1 else "") + (
        f"the mean return of {study.base.final_episodes} deterministic episodes{policy} after "
        f"{within}"
    )


def searched(range_: Range) -> tuple[str, str]:
    """The values of a range and its scale, in words."""
    match range_.distribution:
        case CategoricalDistribution(choices=choices):
            return ", ".join(map(str, choices)), CHOICES
        case IntDistribution(low=low, high=high, log=log, step=step):
            scale = "whole numbers" + (", log" if log else f" by {step}" if step > 1 else "")
            return f"{low} to {high}", scale
        case FloatDistribution(low=low, high=high, log=log):
            least, most = sorted((range_.to_field(low), range_.to_field(high)))
            scale = "log distance to 1" if range_.one_minus else "log" if log else "linear"
            return f"{brief(least)} to {brief(most)}", scale
    raise TypeError(f"no words for {range_.distribution}")


def brief(value: object) -> str:
    """A field's value for people; None means that the field had no effect."""
    if value is None:
        return "not used"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def values_in(params: Mapping[str, Any], space: Space) -> list[str]:
    """The value of every searched field in a trial, from its parameters in Optuna."""
    return [
        brief(range_.to_field(params[range_.parameter]) if range_.parameter in params else None)
        for range_ in space.values()
    ]


def next_step(records: Records, target: str, *, trial: int | str | None = None) -> str:
    """The `make` command for a target, about this sweep."""
    return hint(target, records.shown_store, study=records.name, trial=trial)


def result_part(records: Records) -> list[Block]:
    """The box with the result."""
    best, judgement = records.best, records.judgement
    if best is None:
        return [box("No trial has finished yet", [line(state(records))])]
    shown = None if judgement is None else judgement.shown
    if judgement is None or shown is None:
        open_ = records.count(Ending.RUNNING) + records.count(Ending.WAITING)
        so_far = " so far" if open_ else ""
        headline = f"Best{so_far}: trial {best.number}, score {records.estimate(best)}"
        sentences = best_sentences(records, best)
    else:
        word = "Not confirmed" if judgement.confirmed is None else "Confirmed"
        word = "Measured so far" if judgement.waiting else word
        headline = f"{word}: {shown.name}, return {shown.mean}"
        sentences = confirmed_sentences(records, judgement, shown)
    return [box(headline, list(map(line, sentences)))]


def receipt_part(records: Records) -> list[Block]:
    """The commands that reproduce the result, and how to fly it."""
    best, judgement = records.best, records.judgement
    if best is None:
        return ["No trial has finished yet."]
    number: int | None = best.number
    if judgement is not None and judgement.shown is not None:
        number = None if judgement.shown.number == TUNED else judgement.shown.number
    return [*receipt(records, number), *flying(records)]


def state(records: Records) -> str:
    """The number of trials by how they ended."""
    counts = ", ".join(
        f"{records.count(how)} {how}"
        for how in (*SETTLED, Ending.RUNNING, Ending.WAITING)
        if records.count(how) or how in USUAL
    )
    return f"{records.trials.total} trials: {counts}."


def best_sentences(records: Records, best: FrozenTrial) -> Iterator[str]:
    """What an unconfirmed score is worth."""
    yield state(records)
    trainings, episodes = len(records.scores(best)), records.episodes(best)
    if trainings > 1:
        how = {"mean": "Mean", "iqm": "Interquartile mean", "worst_seed": "The lowest"}[
            records.sweep.study.settings.score
        ]
        yield f"{how} over its {trainings} trainings, in brackets the 95 % interval."
    elif episodes is not None:
        yield (
            "The score of one training, which may owe much to the luck of its seed. The "
            f"{records.sweep.study.base.final_episodes} final episodes of that one policy: "
            f"{episodes}, mean and its 95 % interval over episodes."
        )
    so_far = "" if records.judgement is None else f"{verdict(records.judgement)} "
    yield (
        f"The best of {len(records.counted)} scores is a lucky one: under fresh training seeds "
        f"expect {records.ranked[0].likely}. {so_far or f'{records.unconfirmed}: '}"
        f"`{next_step(records, 'confirm')}` measures it."
    )


def confirmed_sentences(records: Records, judgement: Judgement, shown: Finalist) -> Iterator[str]:
    """What the report seeds say, compared with the sweep's score."""
    yield verdict(judgement)
    yield (
        f"Mean over {len(shown.finished)} trainings under seeds that the sweep never used, each "
        f"flown on {len(shown.finished[0].returns)} episodes that nothing was chosen by; in "
        "brackets Student's interval."
    )
    if judgement.waiting:
        command = next_step(records, "confirm")
        yield f"{judgement.waiting} trainings are missing: `{command}` runs them."
    yield " ".join(filter(None, (state(records), prediction(judgement))))


def receipt(records: Records, number: int | None) -> Iterator[str]:
    """The commands that reproduce the result; `number` is that of its trial in the sweep."""
    lines = [] if number is None else [next_step(records, "reproduce", trial=number)]
    shown = None if records.judgement is None else records.judgement.shown
    if shown is not None:
        study = records.name + CONFIRM_SUFFIX
        again = hint("reproduce", records.shown_store, study=study, trial=shown.median.trial)
        lines.append(again)
    yield line(
        "The receipt: these commands train it again and compare every recorded number, bit for bit."
    )
    yield code("\n".join(lines))
    if records.confirmed is not None:
        trial = records.confirmed.tags[TRIAL_NUMBER]
        yield line(
            f"`models:/{records.name}@{CONFIRMED_ALIAS}` is the policy of trial {trial} of the "
            "confirmation."
        )


def flying(records: Records) -> Iterator[str]:
    """The lines of Python that fly the registered policy."""
    store, published = records.sweep.store, records.published
    if published is None:
        yield line(f"`models:/{records.name}@{BEST_ALIAS}` is registered when the sweep ends.")
        return
    if records.policy is not None:
        yield line(f"Best policy: {records.policy}.")
    yield line(
        f"To fly it, in stock Gymnasium: `models:/{records.name}@{BEST_ALIAS}` is the policy of "
        f"`{published.info.run_name}`."
    )
    env = records.sweep.study.base.env
    yield code(
        FLY.format(
            tracking=redacted(store.tracking_uri)
            if store.tracked_remotely
            else f"sqlite:///{records.shown_store}/mlflow.db",
            name=records.name,
            alias=BEST_ALIAS,
            env_id=env.id,
            arguments="".join(f"{name}={value!r}, " for name, value in env.kwargs),
        )
    )
