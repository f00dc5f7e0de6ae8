"""How versions of Phoenix do beside each other while one replaces the other."""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Literal

from pydantic import Field

from phoenix.domain.frozen import Frozen

ALPHA = 0.01
"""A difference counts when chance alone would make it less often than this."""
LEAST = 3
"""So many failures, or deaths, of the new version at least: one or two say nothing."""

Finding = Literal["healthy", "worse", "unclear"]


class Outcomes(Frozen):
    """What came of work that ended within some time."""

    succeeded: int = Field(default=0, ge=0)
    failed: int = Field(default=0, ge=0)
    """Runs that failed; those in quarantine are among them. A cancelled one counts nowhere."""
    quarantined: int = Field(default=0, ge=0)
    deaths: int = Field(default=0, ge=0)
    """Workers whose process died."""

    @property
    def runs(self) -> int:
        """Runs that ended by themselves."""
        return self.succeeded + self.failed

    def __add__(self, other: Outcomes) -> Outcomes:
        return Outcomes(
            succeeded=self.succeeded + other.succeeded,
            failed=self.failed + other.failed,
            quarantined=self.quarantined + other.quarantined,
            deaths=self.deaths + other.deaths,
        )


class Verdict(Frozen):
    """What a comparison of a new version with the old ones finds."""

    finding: Finding
    reason: str
    version: str
    others: list[str]
    new: Outcomes
    old: Outcomes
    chance_of_failures: float
    """How often chance alone would give the new version as many failures or more."""
    chance_of_deaths: float


def compare(version: str, new: Outcomes, others: Collection[str], old: Outcomes, *, least: int) -> Verdict:
    """Tell whether a version does worse than those before it.

    Two one-sided exact tests, both at `ALPHA`: failures among runs that ended (Fisher), and deaths of
    workers, each by the work done (binomial, given all deaths). `healthy` takes `least` runs on both sides;
    `worse` takes none, for failures may be all there is.
    """
    failures = fisher(new.failed, new.runs, old.failed, old.runs)
    deaths = shared(new.deaths, new.runs + new.deaths, old.deaths, old.runs + old.deaths)
    wrong = []
    if new.failed >= LEAST and failures < ALPHA:
        said = f"{new.failed} of {new.runs} runs failed, of the old {old.failed} of {old.runs}"
        wrong.append(f"{said} (p {failures:.2g})")
    if new.deaths >= LEAST and deaths < ALPHA:
        said = f"{new.deaths} workers died over {new.runs} runs, of the old {old.deaths} over {old.runs}"
        wrong.append(f"{said} (p {deaths:.2g})")
    finding: Finding = "healthy"
    reason = "no more failures and deaths than chance allows"
    if wrong:
        finding, reason = "worse", "; ".join(wrong)
    elif min(new.runs, old.runs) < least:
        short, whose = (new, f"of {version}") if new.runs < least else (old, "of older versions")
        finding, reason = "unclear", f"{short.runs} runs {whose} ended, {least} are needed"
    return Verdict(
        finding=finding,
        reason=reason,
        version=version,
        others=sorted(others),
        new=new,
        old=old,
        chance_of_failures=failures,
        chance_of_deaths=deaths,
    )


def fisher(failed: int, runs: int, old_failed: int, old_runs: int) -> float:
    """Return how often chance gives these runs as many failures or more, were all alike (Fisher, exact)."""
    everything, failures = runs + old_runs, failed + old_failed
    whole = _log_choose(everything, failures)
    return min(
        1.0,
        math.fsum(
            math.exp(_log_choose(runs, k) + _log_choose(old_runs, failures - k) - whole)
            for k in range(max(failed, failures - old_runs), min(runs, failures) + 1)
        ),
    )


def shared(deaths: int, work: int, old_deaths: int, old_work: int) -> float:
    """Return how often as many deaths or more fall on this share of the work, were all alike."""
    total = deaths + old_deaths
    if not work or not old_work or not deaths:
        return 1.0
    share = math.log(work / (work + old_work))
    rest = math.log(old_work / (work + old_work))
    return min(
        1.0,
        math.fsum(
            math.exp(_log_choose(total, k) + k * share + (total - k) * rest) for k in range(deaths, total + 1)
        ),
    )


def _log_choose(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
