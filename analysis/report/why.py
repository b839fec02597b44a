"""Why the winner wins, on the page of a sweep."""

from __future__ import annotations

from analysis.report.document import Block
from analysis.report.records import Records
from analysis.why.model import model_of
from analysis.why.path import read_path, winner_of
from analysis.why.words import (
    importance_legend,
    importance_table,
    model_sentences,
    path_legend,
    path_sentence,
    path_table,
)
from lander.errors import ConfigError
from sweeps.hints import hint
from sweeps.publish.markdown import code, line, plain_table
from sweeps.study.space import defaults
from sweeps.study.timing import timing_of


def why_part(records: Records) -> list[Block]:
    """The path from the base to the winner, what matters near it, and the statement of a model."""
    sweep, space = records.sweep, records.sweep.study.space
    try:
        winner = winner_of(sweep)
    except ConfigError as error:
        return [line(f"{error}.")]
    path = read_path(sweep.store, sweep, winner)
    if path is None:
        again = hint("why", records.shown_store, study=records.name)
        blocks: list[Block] = ["Which of its fields make the winner better, trained:", code(again)]
    else:
        blocks = [
            line(path_sentence(path)),
            plain_table(path_table(path)),
            line(path_legend(path)),
        ]
    times = timing_of(records.counted, space)
    base, model = defaults(space, sweep.study.base), model_of(records.counted, space)
    sentences = model_sentences(model, winner=winner, base=base)
    return [
        *blocks,
        plain_table(importance_table(records.counted, space, times)),
        line(importance_legend(times)),
        line(" ".join(sentences)),
    ]
