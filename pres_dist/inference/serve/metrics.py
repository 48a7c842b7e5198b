"""Counts and durations of a service, in the text format of Prometheus."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping

BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper bounds of the histogram of durations, in seconds."""


class Metrics:
    """Counts of requests by route and status, and histograms of their durations."""

    def __init__(self) -> None:
        self._requests: Counter[tuple[str, int]] = Counter()
        self._buckets: dict[str, list[int]] = {}
        self._seconds: dict[str, float] = {}
        self.num_events = 0

    def count(self, route: str, status: int, seconds: float) -> None:
        """Count a request after its response."""
        self._requests[route, status] += 1
        self._buckets.setdefault(route, [0] * (len(BUCKETS) + 1))[
            bisect_left(BUCKETS, seconds)
        ] += 1
        self._seconds[route] = self._seconds.get(route, 0.0) + seconds

    def text(self, gauges: Mapping[str, float]) -> str:
        """Return all metrics as text.

        Args:
            gauges: current values, by name.
        """
        lines = ["# TYPE pres_dist_requests_total counter"]
        for (route, status), num in sorted(self._requests.items()):
            lines.append(f'pres_dist_requests_total{{route="{route}",status="{status}"}} {num}')
        lines.append("# TYPE pres_dist_request_seconds histogram")
        for route, buckets in sorted(self._buckets.items()):
            total = 0
            for bound, num in zip([*map(str, BUCKETS), "+Inf"], buckets, strict=True):
                total += num
                lines.append(
                    f'pres_dist_request_seconds_bucket{{route="{route}",le="{bound}"}} {total}'
                )
            seconds = self._seconds[route]
            lines.append(f'pres_dist_request_seconds_sum{{route="{route}"}} {seconds:.6f}')
            lines.append(f'pres_dist_request_seconds_count{{route="{route}"}} {total}')
        lines.append("# TYPE pres_dist_ingested_events_total counter")
        lines.append(f"pres_dist_ingested_events_total {self.num_events}")
        for name, value in gauges.items():
            lines += [f"# TYPE pres_dist_{name} gauge", f"pres_dist_{name} {value:g}"]
        return "\n".join(lines) + "\n"
