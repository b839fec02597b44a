"""What a sweep says about itself: a section of its report."""

from __future__ import annotations

from collections.abc import Iterator

from analysis.report.document import Block
from analysis.report.records import Records
from sweeps.publish.health import health_of
from sweeps.publish.markdown import code, line


def health_part(records: Records) -> list[Block]:
    """Every finding with its evidence and a remedy to paste."""
    return list(health_blocks(records))


def health_blocks(records: Records) -> Iterator[str]:
    """The blocks of the section."""
    health = health_of(records.sweep, records.trials, folder=records.shown_store)
    yield line(f"{health.state[0].upper()}{health.state[1:]}.")
    for finding in health.findings:
        evidence = finding.evidence[0].upper() + finding.evidence[1:]
        yield f"**{line(finding.sentence)}** {line(f'{evidence}. Remedy, {finding.remedy.do}:')}"
        yield code(finding.remedy.paste)
    if health.findings and health.open:
        why = "; ".join(f"{name} ({reason})" for name, reason in health.open.items())
        yield line(f"Not examined: {why}.")
