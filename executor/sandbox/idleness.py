"""Decides whether a job is idle: it sends nothing, and computes less than a small share of one core.

CPU time is judged as a rate and never as an amount, because whatever waits in a container may still wake now and then,
and what that costs depends on the machine. Time that is used beyond the rate adds up until it is more than waking
explains; then it is a sign of life. Clock and counters come in as arguments.

Measured 2026-11, without process 1, on a machine and on one half as fast: a job that sleeps uses 0 to 4.3 ms a second.
"""

_SHARE = 0.01  # of one core: a job that computes at twice this rate is never idle
_SHARE_OF_LIMIT = 0.2  # of the cores that the job may use, where that is less: throttled is not idle
_BURST_SECONDS_MAX = 0.05  # of CPU time beyond the share: a job that uses it at once has computed


class IdleClock:
    """Measures how long a job has been idle.

    Args:
        now: The monotonic clock when the job starts.
        limit_seconds: How long the job may be idle.
        cpus: How many cores the job may use.

    Attributes:
        longest: Longest time without a sign of life, in seconds.
    """

    def __init__(self, now: float, *, limit_seconds: float, cpus: float) -> None:
        self.longest = 0.0
        self._limit = limit_seconds
        self._share = min(_SHARE, _SHARE_OF_LIMIT * cpus)
        # At twice the share, this much comes together within half the limit.
        self._burst = min(_BURST_SECONDS_MAX, self._share * limit_seconds / 2)
        self._alive_at = self._read_at = now
        self._cpu_seconds: float | None = None
        self._excess = 0.0

    def record_sign(self, now: float) -> None:
        """Record that the job did something that can be seen from outside."""
        self.longest = max(self.longest, now - self._alive_at)
        self._alive_at = now
        self._excess = 0.0

    def record_cpu(self, now: float, cpu_seconds: float) -> None:
        """Record a reading of the job's CPU time.

        The first one only says from where to count: what the job did until then nobody knows.

        Args:
            now: The monotonic clock when the counter was read.
            cpu_seconds: CPU time that the job has used so far.
        """
        if self._cpu_seconds is None:
            self._alive_at = now
        else:
            used, passed = cpu_seconds - self._cpu_seconds, now - self._read_at
            self._excess = max(0.0, self._excess + used - self._share * passed)
        self._cpu_seconds, self._read_at = cpu_seconds, now
        if self._excess > self._burst:
            self.record_sign(now)
        self.longest = max(self.longest, now - self._alive_at)

    @property
    def is_over(self) -> bool:
        """Whether the job had been idle for longer than its limit at the last reading; never before there was one."""
        return self._cpu_seconds is not None and self._read_at - self._alive_at > self._limit
