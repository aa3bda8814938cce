"""How often somebody may do something."""

from __future__ import annotations

import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable


class Rate:
    """At most `limit` times in any `seconds`, each name by itself."""

    def __init__(self, limit: int, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.limit, self.seconds, self._clock = limit, seconds, clock
        self._times: defaultdict[str, deque[float]] = defaultdict(deque)
        self._lock = threading.Lock()

    def wait(self, name: str) -> float:
        """Seconds until it is allowed again; 0 when it is allowed now."""
        with self._lock:
            now = self._clock()
            for known in [known for known, times in self._times.items() if times[-1] <= now - self.seconds]:
                del self._times[known]  # who has long been away is forgotten, so that memory stays small
            times = self._times.get(name, deque())
            while times and times[0] <= now - self.seconds:
                times.popleft()
            return times[0] + self.seconds - now if len(times) >= self.limit else 0.0

    def count(self, name: str) -> None:
        """It was done now."""
        with self._lock:
            self._times[name].append(self._clock())
