"""Who ends hopeless runs of a stack while it trains."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from dqn.sweep.score import aggregated

if TYPE_CHECKING:
    from dqn.sweep.config import Aggregate, PrunerConfig
    from dqn.sweep.study import OpenStudy, StudyAddress


class OptunaJudge:
    """A `dqn.trainer.Judge` of jobs by number: reports trials to an Optuna study and asks its pruner.

    A trial lives or dies with all its seeds. Its value at a step is the aggregate of its seeds' scores there; a seed
    that has ended (converged) counts with its last score, and as long as a seed has yet to begin (in a later stack),
    nothing is decided. Can be pickled and used in another process, as long as all seeds of a trial are judged by the
    same copy.

    Args:
        address: of the study, connected to where it is first needed.
        pruner: which one, and its settings.
        max_steps: the run's trainer.total_steps, which hyperband needs.
        seeds_per_trial: job numbers count seeds first: job = trial x seeds_per_trial + seed.
        aggregate: how scores of seeds become one.
    """

    def __init__(
        self,
        address: StudyAddress,
        pruner: PrunerConfig,
        max_steps: int | None,
        seeds_per_trial: int,
        aggregate: Aggregate,
    ) -> None:
        self._address, self._pruner, self._max_steps = address, pruner, max_steps
        self._seeds_per_trial, self._aggregate = seeds_per_trial, aggregate
        self._scores: dict[int, dict[int, float]] = {}  # by job, then by step
        self._study: OpenStudy | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Everything but the connection."""
        return {**vars(self), "_study": None}

    def recall(self, job: int, scores: Mapping[int, float]) -> None:
        """Take in what a job has scored before, by step."""
        self._scores.setdefault(job, {}).update(scores)

    def trial_of(self, job: int) -> int:
        """The number of a job's trial."""
        return job // self._seeds_per_trial

    def __call__(self, step: int, scores: Mapping[int, float]) -> dict[int, str]:
        """See `dqn.trainer.Judge`, with the numbers of jobs."""
        for job, score in scores.items():
            self._scores.setdefault(job, {})[step] = score
        study = self._connected()
        pruned: dict[int, float] = {}
        for trial in sorted({self.trial_of(job) for job in scores}):
            value = self._value(trial, step)
            if value is None:
                continue
            study.report(trial, step, value)
            if study.should_prune(trial, step):  # compared with those that have been asked about before
                pruned[trial] = value
        return {
            job: f"{self._pruner.kind} pruned trial {trial} at step {step:,}: {pruned[trial]:.1f}"
            for job in scores
            if (trial := self.trial_of(job)) in pruned
        }

    def _connected(self) -> OpenStudy:
        if self._study is None:
            from dqn.sweep.study import OpenStudy

            self._study = OpenStudy(self._address, self._pruner, self._max_steps)
        return self._study

    def _value(self, trial: int, step: int) -> float | None:
        """The trial's value at a step, None if a seed has no score up to there."""
        last: list[float] = []
        for job in range(trial * self._seeds_per_trial, (trial + 1) * self._seeds_per_trial):
            steps = [known for known in self._scores.get(job, {}) if known <= step]
            if not steps:
                return None
            last.append(self._scores[job][max(steps)])
        return aggregated(last, self._aggregate)
