"""Does the pruner end trials that would have been among the best?"""

from __future__ import annotations

from collections.abc import Iterator

from sweeps.health.evidence import Evidence
from sweeps.health.finding import Finding, Remedy, TooLittle
from sweeps.study.audit import ACCEPTED, audit_of
from sweeps.study.samplers import first_step
from sweeps.study.study import Study


def pruning(evidence: Evidence) -> Iterator[Finding]:
    """If too many of the trials that the audit trained on became good ones."""
    audit = audit_of(evidence.trials.counted, reports=evidence.study.reports)
    if not audit.audited:
        raise TooLittle("no trial that the pruner would have ended was trained to its end")
    if audit.loosen:
        yield Finding(
            f"The pruner ends trials that would have been among the best: more than "
            f"{ACCEPTED:.0%} of them.",
            audit.numbers,
            loosened(evidence.study),
        )


def loosened(study: Study) -> Remedy:
    """A pruner that ends fewer trials."""
    given = study.pruner
    match study.settings.pruner:
        case "median":
            later = 1 + int(given.get("n_warmup_steps", first_step(study.base.checkpoints)))
            if later < study.base.checkpoints:
                return Remedy("set under [pruner]", f"n_warmup_steps = {later}")
        case "hyperband" | "halving":
            later = 1 + int(given.get("min_resource", 1))
            if later < study.reports:
                return Remedy("set under [pruner]", f"min_resource = {later}")
        case "wilcoxon":
            return Remedy(
                "set under [pruner]", f"p_threshold = {given.get('p_threshold', 0.1) / 2}"
            )
    return Remedy("set under [study]", 'pruner = "none"')
