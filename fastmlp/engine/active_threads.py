"""Number of threads that take part in a run while other processes use the same processors.

Threads of a team wait for each other twice in a step. Where another process runs on one of their processors, all wait
for the thread that does not run, for milliseconds each time, and fewer threads are faster. Results do not depend on the
number of threads, so each native call may have another one.
"""

from __future__ import annotations

__all__ = ["ActiveThreads"]

_MISSING = 0.2  # threads that did not run on average; 0 on an idle machine, as threads do not sleep at barriers
_SHORTEST = 2e-3  # seconds; shorter calls consist of the start of threads to a large part
_GAIN = 0.97  # fewer threads must take less than this share of the time
_TRIAL = 5  # calls, each of about 20 ms, of which some are slow or fast by chance
_FIRST_PAUSE, _LONGEST_PAUSE = 4, 128  # calls until another number is tried again


class ActiveThreads:
    """Choice of the number of threads of the next native call, from the times of the calls before.

    If one or more threads did not run for a fifth of the time in five calls in turn, the next five calls have as many
    threads as there seem to be free processors. (Threads of other libraries look for work for a tenth of a second after
    a call.) If they take less time for a row, that number stays. All threads are tried again at growing intervals,
    after 4 to 128 calls, and stay if they gain at least half of what they would gain on an idle machine.

    Parameters
    ----------
    most : int
        Largest number of threads.
    fixed : bool
        Whether each call has that number.

    Attributes
    ----------
    count : int
        Threads of the next call.

    Examples
    --------
    >>> active = ActiveThreads(2)
    >>> for _ in range(5):
    ...     active.record(rows=1000, seconds=0.04, running=0.05)  # the threads ran for 0.05 s of 2 times 0.04 s
    >>> active.count
    1
    >>> for _ in range(5):
    ...     active.record(rows=1000, seconds=0.03, running=0.03)  # one thread takes less time for as many rows
    >>> active.count
    1
    """

    def __init__(self, most: int, fixed: bool = False) -> None:
        self.most = self.count = most
        self._fixed = fixed or most == 1
        self._usual = most  # the better number so far
        self._seconds = 0.0  # per row with that number, where later calls count more
        self._trial: list[float] = []  # seconds per row with the other number
        self._pause, self._calls, self._busy = _FIRST_PAUSE, 0, 0
        self._rows = self._threads = 0.0

    @property
    def mean(self) -> float:
        """Mean number of threads per row so far."""
        return self._threads / self._rows if self._rows else float(self.most)

    def restart(self) -> None:
        """Begin a new mean."""
        self._rows = self._threads = 0.0

    def record(self, rows: int, seconds: float, running: float) -> None:
        """Record a call with `count` threads.

        Parameters
        ----------
        rows : int
            Rows that the call computed.
        seconds : float
            Time of the call.
        running : float
            Sum of the processor times of its threads in seconds.
        """
        self._rows, self._threads = self._rows + rows, self._threads + rows * self.count
        if self._fixed or seconds < _SHORTEST:
            return
        of_row = seconds / rows
        if self.count != self._usual:
            self._judge(of_row)
            return
        self._calls += 1
        self._busy = self._busy + 1 if running < (self.count - _MISSING) * seconds else 0
        self._seconds = of_row if self._calls == 1 else (self._seconds + of_row) / 2
        if self.count < self.most:
            if self._calls >= self._pause:
                self.count = self.most
        elif self._busy >= _TRIAL and (self._calls >= self._pause or self._pause == _FIRST_PAUSE):
            self.count = min(self.count - 1, max(1, round(running / seconds)))
        elif self._calls >= _LONGEST_PAUSE:
            self._pause = _FIRST_PAUSE

    def _judge(self, of_row: float) -> None:
        """Record a call with the number that is tried; keep that number if it is the faster one after some calls."""
        self._trial.append(of_row)
        bound = _GAIN if self.count < self._usual else (1 + self._usual / self.count) / 2
        slower = sum(self._trial) / len(self._trial) >= bound * self._seconds
        # More threads that are slow at once are not tried further, as beside other processes they may be very slow.
        if len(self._trial) < _TRIAL and not (slower and self.count > self._usual):
            return
        if slower:
            self._pause = min(2 * self._pause, _LONGEST_PAUSE)
        else:
            self._usual = self.count
        self.count, self._calls, self._busy = self._usual, 0, 0
        self._trial.clear()
