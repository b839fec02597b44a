"""The states in which MLflow's UI opens the runs of a sweep: a table with curves, and its fields.

The UI reads them from tags of the experiment. tests/sweeps/test_private.py says when it no longer
knows one of these names.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Mapping, Sequence
from typing import Any, Final

from lander.metrics import CURVES, EVAL_RETURN, FINALS
from sweeps.schema import (
    CHOICE_RETURN,
    COST_SECONDS,
    COST_STEPS,
    EXPECTED_ERROR,
    EXPECTED_RETURN,
    PROMISED_RETURN,
    RANK,
    ROLE,
    SCORE,
    SUPERSEDED,
    TEST_RETURN,
    VIEW_STATE,
    Role,
    seed_folder,
)
from sweeps.store.trials import Trials
from sweeps.study.study import Study

TABLE: Final = "sweep"
"""Key of the table, with the curves of the best trials among its charts."""
FIELDS: Final = "fields"
"""Key of the charts of the score over each searched field."""
LONGEST: Final = 5000
"""Characters in the value of an experiment's tag."""
COMPRESSED: Final = "deflate;"
"""Begins a compressed value."""
WITHOUT_SLASH: Final = "Model metrics"
"""The UI's section of metrics whose names have no slash."""
FIRST_COLUMNS: Final = ("attributes.`Run Name`", "runDateAndNestInfo")
"""The name of a run, and when it began."""
CHARACTER: Final = 7
"""Pixels in the head of a column."""
MARGIN: Final = 36
NARROWEST: Final = 80
WIDEST: Final = 150
"""So that more columns fit into the window."""


def view_tags(study: Study, trials: Trials) -> dict[str, str]:
    """The tags of the experiment."""
    states = view_states(study, trials)
    return {VIEW_STATE + key: tag_value(state) for key, state in states.items()}


def view_states(study: Study, trials: Trials) -> dict[str, dict[str, Any]]:
    """The states by the keys of their links."""
    curves = [
        chart("LINE", EVAL_RETURN, metricKey=EVAL_RETURN, xAxisKey="step"),
        parallel_coordinates(list(study.space)),
    ]
    return {
        TABLE: view_state(study, trials, charts=curves, runs="FIRST_10_RUNS", columns=1),
        FIELDS: view_state(
            study, trials, charts=list(map(scatter, study.space)), runs="SHOW_ALL", columns=3
        ),
    }


def tag_value(state: Mapping[str, Any]) -> str:
    """A state as the value of a tag, compressed if it is too long."""
    text = json.dumps(state, separators=(",", ":"))
    if len(text) <= LONGEST:
        return text
    return COMPRESSED + base64.b64encode(zlib.compress(text.encode(), 9)).decode()


def view_state(
    study: Study,
    trials: Trials,
    *,
    charts: Sequence[Mapping[str, Any]],
    runs: str,
    columns: int,
) -> dict[str, Any]:
    """Trials that count, best first, with searched parameters; and charts of some of these runs,
    so many side by side: the names of all fields are written over one of them.

    While trials are missing they are sorted by score: ranks are recorded at the end.
    """
    order, numbers = RANK, [EXPECTED_RETURN, EXPECTED_ERROR, PROMISED_RETURN]
    if trials.left or trials.running:
        order, numbers = SCORE, [SCORE]
    shown = [metric(name) for name in (RANK, *numbers, COST_SECONDS, COST_STEPS)]
    shown += [f"params.`{field}`" for field in study.space]
    return {
        "searchFilter": f"tags.`{ROLE}` = '{Role.TRIAL}' and tags.`{SUPERSEDED}` IS NULL",
        "orderByKey": metric(order),
        "orderByAsc": order == RANK,
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "datasetsFilter": [],
        "modelVersionFilter": "All Runs",
        "selectedColumns": shown,
        "columnOrder": [*FIRST_COLUMNS, *shown],
        "columnWidths": {column: width(column) for column in shown},
        "runsExpanded": {},
        "runsHiddenMode": runs,
        "compareRunCharts": charts,
        "compareRunSections": [
            section(TABLE, display=True, columns=columns),
            *map(section, closed_sections(study)),
        ],
        "isAccordionReordered": True,  # or they are sorted by name
    }


def metric(name: str) -> str:
    """A metric as a column."""
    return f"metrics.`{name}`"


def width(column: str) -> int:
    """Pixels of a column, whose head is the name between its backticks."""
    return min(max(NARROWEST, CHARACTER * len(column.split("`")[1]) + MARGIN), WIDEST)


def parallel_coordinates(fields: Sequence[str]) -> dict[str, Any]:
    """A line across all fields for every trial, whichever runs the other charts show."""
    return chart(
        "PARALLEL",
        "all fields",
        selectedParams=fields,
        selectedMetrics=[SCORE],
        showAllRuns=True,
    )


def scatter(field: str) -> dict[str, Any]:
    """The score over a field."""
    xaxis, yaxis = {"key": field, "type": "PARAM"}, {"key": SCORE, "type": "METRIC"}
    return chart("SCATTER", field, xaxis=xaxis, yaxis=yaxis)


def chart(kind: str, name: str, **contents: object) -> dict[str, Any]:
    """A chart in the open section."""
    return {
        "type": kind,
        "uuid": name,
        "metricSectionId": TABLE,
        "deleted": False,
        "isGenerated": False,
        **contents,
    }


def section(name: str, *, display: bool = False, **layout: object) -> dict[str, Any]:
    """A section of charts; the UI fills those that are closed."""
    return {"uuid": name, "name": name, "display": display, "isReordered": False, **layout}


def closed_sections(study: Study) -> list[str]:
    """The sections that the UI makes of a trial's metrics: what stands before their last slash."""
    seeds = study.settings.seeds_per_trial
    folders = {"", *(seed_folder(seed, of=seeds) for seed in range(seeds))}
    metrics = [folder + name for folder in folders for name in (*CURVES, *FINALS)]
    metrics += [SCORE, COST_SECONDS, CHOICE_RETURN, TEST_RETURN]
    return sorted({name.rpartition("/")[0] or WITHOUT_SLASH for name in metrics})
