"""How many threads, and in which placement, for the next chunk of steps: what has been fastest of late."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fastbp.engine import tuning
from fastbp.engine.placement import Placement


@dataclass(slots=True)
class _Record:
    """What is known of a candidate that is not the present choice."""

    tried: float = 0.0  # when the last trial ended, in seconds of training
    pause: float = 0.0  # from then to the next
    ratio: float = 1.0  # of its time to that of the present choice, over the last trials
    trials: int = 0  # that the ratio is the mean of


@dataclass(slots=True)
class _Trial:
    """A trial that is under way: first some steps in which caches fill, which do not count, then those that do."""

    placement: Placement
    before: float  # seconds a step of the present choice just before
    cold_length: float  # seconds of either half
    length: float
    cold: bool = True
    steps: int = 0  # that count
    seconds: float = 0.0
    all_steps: int = 0
    all_seconds: float = 0.0

    @property
    def left(self) -> float:
        return self.cold_length if self.cold else self.length

    @property
    def step(self) -> float:
        """Seconds."""
        return self.seconds / self.steps


class Chooser:
    """The placement of the next chunk of steps: what has been fastest of late.

    Results do not depend on it, so it may change at any chunk: that is how a busy neighbour is survived, and cores that
    come to lie further apart. Others than the present choice are tried now and then. What trials lose is booked: they
    may lose a small share of the time that has passed, and what is saved of it is there when something changes.

    - Those of which least is expected to be lost come first: by their last trial, or else by the model's prediction.
    - A trial is compared with the present choice just before and just after it: on a shared host what was measured a
      second ago says little. A clear gain is taken at once, and taken back if it does not last; a small one after two
      trials that agree.
    - Trials that fail come at ever longer pauses, until the present choice becomes slower or faster by a quarter.

    Attributes
    ----------
    best : Placement
        The present choice.
    most : int
        Threads that may be asked for at most.
    seconds : dict
        Of a step, as last measured, by placement.
    """

    def __init__(self, candidates: Sequence[Placement], expected: Sequence[float]) -> None:
        self.candidates = list(candidates)
        self.expected = dict(zip(self.candidates, expected, strict=True))
        self.most = max(placement.threads for placement in self.candidates)
        self.best = min(self.candidates, key=self.expected.__getitem__)
        self.seconds: dict[Placement, float] = {}
        self.credit = 0.0  # seconds that trials may lose
        self._asked = 0.0  # what a trial needs that could not be paid
        self._now = 0.0  # seconds of training
        self._records = {placement: _Record() for placement in self.candidates}
        self._trial: _Trial | None = None
        self._tried: _Trial | None = None  # the last trial, until the present choice has been looked at after it
        self._doubt: tuple[Placement, float] | None = None  # what was left on one trial alone, and its seconds a step
        self._steps, self._seconds = 0, 0.0  # of the present choice, not looked at yet
        self._back: float | None = None  # seconds that its caches take to fill after a trial: they do not count
        self._latest = 0.0  # seconds a step of it, when last looked at
        self._usual = 0.0  # seconds of its chunks
        self._look = self._hurry = False  # time to look for a trial; something has changed

    def next(self, chunk_seconds: float) -> tuple[Placement, float]:
        """(placement, seconds) of the next chunk."""
        if self._look and self._trial is None:
            self._look = False
            self._trial = self._plan()
        if self._trial is not None:
            return self._trial.placement, self._trial.left
        if self._back is not None:
            return self.best, self._back
        if len(self.candidates) > 1 and self.best.threads > 1:  # to see soon that its time has changed
            least = tuning.WINDOW_SECONDS if self._hurry else tuning.WATCH_SECONDS
            return self.best, min(chunk_seconds, max(least, 4.0 * self.seconds.get(self.best, 0.0)))
        return self.best, chunk_seconds

    def note(self, placement: Placement, steps: int, seconds: float) -> None:
        """Learn how long some steps took."""
        if len(self.candidates) == 1:
            self.seconds[placement] = seconds / steps
            return
        self._now += seconds
        young = self._now < tuning.TRIAL_YOUTH
        self.credit += (tuning.TRIAL_YOUNG_SHARE if young else tuning.TRIAL_SHARE) * seconds
        if self._trial is not None and placement == self._trial.placement:
            self._note_trial(self._trial, steps, seconds)
        elif placement == self.best:
            self._note_best(steps, seconds)

    # --- the present choice -----------------------------------------------------------------------------------

    def _note_best(self, steps: int, seconds: float) -> None:
        if self._back is not None:
            self._back = None
            self.credit -= max(0.0, seconds - steps * self._latest)
            return
        self._usual = seconds if self._usual == 0.0 else 0.75 * self._usual + 0.25 * seconds
        self._steps += steps
        self._seconds += seconds
        if self._seconds < tuning.WINDOW_SECONDS and self.best in self.seconds:
            return
        now, self._steps, self._seconds = self._seconds / self._steps, 0, 0.0
        before, self._latest = self.seconds.get(self.best, now), now
        self.seconds[self.best] = 0.5 * (before + now)
        self.credit = min(self.credit, max(tuning.CREDIT_MOST, self._asked))
        doubt, tried, self._tried = self._doubt, self._tried, None
        if doubt is not None:
            self._end_doubt(now)
        elif tried is not None:
            self._compare(tried, now)
        if doubt is None and not before / tuning.CHANGED < now < before * tuning.CHANGED:
            self._hurry = now > before
            for record in self._records.values():
                record.pause, record.trials = 0.0, 0
        self._look = True

    def _end_doubt(self, now: float) -> None:
        """The first look at what a single trial made the choice."""
        assert self._doubt is not None
        (left, seconds), self._doubt = self._doubt, None
        if now > seconds:  # a lucky trial
            self._fail(self.best)
            self.best, self.seconds[left], self._latest = left, seconds, seconds
            self._back = tuning.TRIAL_LEAST

    def _compare(self, trial: _Trial, after: float) -> None:
        """Judge a trial by the present choice before and after it."""
        placement, before = trial.placement, trial.before
        changed = not before / tuning.CHANGED < after < before * tuning.CHANGED
        base = after if changed else 0.5 * (before + after)
        self.credit -= max(0.0, trial.all_seconds - trial.all_steps * base) + tuning.TRIAL_SECONDS
        record, more = self._records[placement], placement.threads > self.best.threads
        record.ratio = (record.trials * record.ratio + trial.step / base) / (record.trials + 1)
        record.trials = min(record.trials + 1, 3)
        if trial.step * self._margin(placement) < base:
            self._choose(placement, trial.step, left=after)
        elif record.ratio > (tuning.GAIN_MORE if more else tuning.GAIN):
            self._fail(placement)
        elif record.trials > 1:
            self._choose(placement, trial.step)
        else:
            record.pause = 0.0  # again, at once

    def _margin(self, placement: Placement) -> float:
        """What a single trial must gain."""
        return tuning.TRIAL_MARGIN if placement.threads > self.best.threads else tuning.TRIAL_MARGIN_FEWER

    # --- trials -----------------------------------------------------------------------------------------------

    def _estimate(self, placement: Placement) -> float:
        """Seconds a step: by the last trial, or by the model in proportion to the present choice."""
        if placement in self.seconds:
            return self.seconds[placement]
        scale = self.seconds[self.best] / self.expected[self.best]
        return max(scale * self.expected[placement], tuning.UNKNOWN * self.seconds[self.best])

    def _plan(self) -> _Trial | None:
        """The trial that is due and can be paid, of the candidate that promises most."""
        hurry, self._hurry = self._hurry, False
        base, found, least, self._asked = self._latest, None, 0.0, 0.0
        for placement in self.candidates:
            if placement == self.best:
                continue
            record, known = self._records[placement], placement in self.seconds
            pause = max(record.pause, tuning.TRIAL_RARE) if self._is_hopeless(placement) else record.pause
            if known and self._now - record.tried < pause:
                continue
            each = self._estimate(placement)
            if found is not None and each >= least:
                continue
            lost = max(0.1, 1.0 - base / each)  # of the time of the trial
            # What has not been tried yet, what should gain, and a change may use the reserve.
            reserve = 0.0 if hurry or not known or each < base else max(tuning.CREDIT_RESERVE, base)
            credit = self.credit - reserve
            most = max(tuning.WATCH_SECONDS, 2.0 * each)
            length = max(tuning.TRIAL_LEAST, each)
            if not hurry:
                length = min(most, max(length, 0.4 * credit / lost))
            cold = max(0.25 * tuning.TRIAL_LEAST, min(3.0 * each, 0.25 * length))
            cost = lost * (length + 2.0 * max(cold, each)) + tuning.TRIAL_SECONDS
            if self._usual < 2.0 * tuning.TRIAL_LEAST:  # calls as short as that are not cut into pieces
                cold = max(cold, tuning.TRIAL_LEAST)
            cost *= 0.5 if hurry else 1.0
            if credit >= cost:
                found, least = _Trial(placement, base, cold, length), each
            elif self._asked == 0.0 or cost + reserve < self._asked:
                self._asked = cost + reserve
        if hurry and found is not None:
            self._hurry = True  # until all have been tried
        return found

    def _is_hopeless(self, placement: Placement) -> bool:
        """Whether one between it and the present choice, of the same kind but for the threads, is clearly slower."""
        if placement.threads == 1:
            return False  # the one that never waits for others
        low, high = sorted((placement.threads, self.best.threads))
        bar = tuning.CLEARLY * self._latest
        return any(
            low < other.threads < high and other[1:] == placement[1:] and seconds > bar
            for other, seconds in self.seconds.items()
        )

    def _note_trial(self, trial: _Trial, steps: int, seconds: float) -> None:
        placement, each = trial.placement, seconds / steps
        trial.all_steps += steps
        trial.all_seconds += seconds
        if trial.cold:
            trial.cold = False
            # The steps to come are as many as fit into their time: rather too few of them.
            self.seconds[placement] = max(each, self.seconds.get(placement, 0.0))
            if each < tuning.HOPELESS * trial.before or seconds < trial.length:
                return
        trial.steps += steps
        trial.seconds += seconds
        if trial.seconds < 0.6 * trial.length:
            return
        self.seconds[placement] = trial.step
        self._trial, self._records[placement].tried = None, self._now
        if trial.step * self._margin(placement) < trial.before:
            self._choose(placement, trial.step, left=trial.before)
        else:
            self._tried, self._back = trial, trial.cold_length

    def _choose(self, placement: Placement, seconds: float, left: float | None = None) -> None:
        """Make a candidate the present choice; left: on a single trial, which the one left behind, so fast, lost."""
        old, self.best, self.seconds[placement] = self.best, placement, seconds
        self._doubt = None if left is None else (old, left)
        self._steps, self._seconds, self._latest = 0, 0.0, seconds
        for record in self._records.values():
            record.trials = 0
        self._records[old].tried, self._records[old].pause = self._now, tuning.TRIAL_PAUSE

    def _fail(self, placement: Placement) -> None:
        """Wait longer before the next trial."""
        record = self._records[placement]
        record.tried = self._now
        record.pause = min(max(2.0 * record.pause, tuning.TRIAL_PAUSE), tuning.TRIAL_LONGEST)
