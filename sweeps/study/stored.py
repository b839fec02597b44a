"""The definition of a sweep, kept with it and compared with its study file when it is resumed."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from typing import Any, Final

from lander.config import TrainConfig
from lander.dotted import configure, flatten
from lander.errors import ConfigError
from lander.options import inactive
from sweeps.schema import BASE
from sweeps.study.ranges import NONE
from sweeps.study.study import Study


def base_of(attributes: Mapping[str, Any]) -> TrainConfig | None:
    """The base that a sweep was started with; None in sweeps of versions that did not keep it.

    Raises:
        ConfigError: it is damaged, or has a field that this version does not know.
    """
    kept = attributes.get(BASE)
    if kept is None:
        return None
    if not isinstance(kept, Mapping):
        raise ConfigError(f"{BASE} must be a table of fields, got {kept!r}")
    base = configure(kept, base=TrainConfig())
    unused = flatten(TrainConfig())
    # an idle field must stand at its default of today, or training would refuse it
    return configure({name: unused[name] for name in inactive(flatten(base))}, base=base)


GROWING: Final = ("points", "recorded as", "training seeds")
"""Parts of the definition of a study with points that may have more entries when it is resumed."""


def common(earlier: Study, study: Study) -> dict[str, Any]:
    """The definition of a study, without the points and seeds that `earlier` did not have."""
    old, new = earlier.definition, study.definition
    return {
        part: {name: value for name, value in now.items() if name in old[part]}
        if part in GROWING and part in old
        else now
        for part, now in new.items()
    }


def difference(earlier: Study, study: Study) -> str:
    """Every difference between a study and the earlier one of its name; "" if it continues it."""
    old_parts, new_parts = earlier.definition, common(earlier, study)
    if old_parts == new_parts:
        return ""
    lines = []
    changed = changed_defaults(earlier, study)
    for part in {**old_parts, **new_parts}:
        old, new = old_parts.get(part, {}), new_parts.get(part, {})
        if part == "space":
            old, new = earlier.space, study.space
        if not isinstance(old, Mapping) or not isinstance(new, Mapping):
            old, new = {part: old}, {part: new}
        for name in sorted({*old, *new}):
            then, now = str(old.get(name, "absent")), str(new.get(name, "absent"))
            if then != now:
                why = " (default changed)" if name in changed else ""
                lines.append(f"{name}: {then} then, {now} now{why}")
    return "; ".join(lines)


def changed_defaults(earlier: Study, study: Study) -> dict[str, Any]:
    """Earlier values of the base's fields that differ though neither study file names them."""
    named = {*base_table(earlier), *base_table(study)}
    old, new = earlier.definition["base"], study.definition["base"]
    return {
        name: value
        for name, value in old.items()
        if name in new and value != new[name] and name not in named
    }


def remedy(earlier: Study, study: Study) -> str:
    """What to change so that a study that differs from `earlier` can be run."""
    lines = [
        f'"{name}" = {json.dumps(NONE if value is None else value)}'
        for name, value in changed_defaults(earlier, study).items()
    ]
    keep = f"put {' and '.join(lines)} under [base] to resume it, or " if lines else ""
    return f"{keep}give it another name"


def base_table(study: Study) -> dict[str, Any]:
    """The [base] table of a study's file."""
    return dict(tomllib.loads(study.text)["base"])
