"""How many threads the next chunk of steps gets: what has been fastest of late."""

from __future__ import annotations

from fastbp.engine import tuning


class Chooser:
    """The number of threads for the next chunk of steps: what has been fastest of late, one or all.

    Results do not depend on it, so it may change at any chunk: that is how a busy neighbour is survived. The other
    candidate is tried now and then, for a time that is small beside what has passed since, and taken if it is faster
    than the present one was just then: on a shared host what was measured a second ago says little. Trials that fail
    come at ever longer pauses, until something changes.
    """

    def __init__(self, wanted: int | None, expected: int, most: int) -> None:
        self.most = most
        self.candidates = [most] if wanted or most == 1 else [1, most]
        self.best = expected if expected in self.candidates else most
        self.seconds: dict[int, float] = {}  # a step, by number of threads
        self.since = 0.0  # seconds since the last trial
        self.pause = tuning.TRIAL_PAUSE
        self.trial: tuple[int, float] | None = None  # what `next` is to return for the second half of a trial
        self.cold = False  # the trial is in its first half, in which another thread's caches fill: it does not count
        self.doubtful = False  # the present choice rests on a trial alone

    def next(self, chunk_seconds: float) -> tuple[int, float]:
        """(threads, seconds) of the next chunk."""
        if self.trial is not None:
            return self.trial
        step = self.seconds.get(self.best)
        if step is not None and len(self.candidates) > 1:
            other = next(n for n in self.candidates if n != self.best)
            allowed = min(tuning.TRIAL_SHARE * self.since, max(tuning.TRIAL_MOST, 2.0 * step))
            if allowed >= max(tuning.TRIAL_LEAST, 2.0 * step) and (
                other not in self.seconds or self.since >= self.pause
            ):
                self.since, self.cold = 0.0, True
                self.trial = other, 0.5 * allowed
                return self.trial
        return self.best, chunk_seconds

    def note(self, threads: int, steps: int, seconds: float) -> None:
        """Learn how long some steps took."""
        self.since += seconds
        now = seconds / steps
        if threads == self.best:
            self._note_best(threads, now)
        elif self.cold:
            self.cold = False
        else:
            self.trial = None
            self.seconds[threads] = now
            if now * (tuning.TRIAL_MARGIN if threads > self.best else 1.0) < self.seconds[self.best]:
                self.best, self.doubtful = threads, True
            else:
                self._wait_longer()

    def _note_best(self, threads: int, now: float) -> None:
        before = self.seconds.get(threads, now)
        self.seconds[threads] = min(now, 0.5 * (before + now))
        if self.doubtful:
            self.doubtful = False
            other = next(n for n in self.candidates if n != threads)
            if now > self.seconds[other]:  # a lucky trial
                self.best = other
                self._wait_longer()
            else:
                self.pause = tuning.TRIAL_PAUSE
        elif now > tuning.TRIAL_SLOWER * before:
            self.pause = tuning.TRIAL_PAUSE

    def _wait_longer(self) -> None:
        self.pause = min(2.0 * self.pause, tuning.TRIAL_LONGEST)
