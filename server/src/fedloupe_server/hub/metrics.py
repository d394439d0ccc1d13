"""The service's numbers for Prometheus, on loopback.

    with serving(lambda: status, port=9464) as port:
        ...                                 # GET http://127.0.0.1:PORT/metrics

Numbers about hospitals' work and health; none about patients.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from fedloupe_server.hub.status import Status


class _Numbers(Collector):
    def __init__(self, status: Callable[[], Status | None]) -> None:
        self._status = status

    def collect(self) -> Iterable[Metric]:
        """The numbers of this moment; none before the first look."""
        status = self._status()
        return [] if status is None else numbers(status)


def numbers(status: Status) -> list[Metric]:
    """A status as metrics."""
    about = InfoMetricFamily("fedloupe", "The federation", labels=[])
    told = {"study": status.study, "fingerprint": status.fingerprint, "coordinator": status.coordinator}
    about.add_metric([], {**told, "task": status.task})
    service = GaugeMetricFamily(
        "fedloupe_service_works", "1 while the SuperLink answers", 0.0 if status.trouble else 1.0
    )
    starts = CounterMetricFamily("fedloupe_process_starts", "Starts of a process of the service", labels=["process"])
    for name, process in status.processes.items():
        starts.add_metric([name], process.starts)
    outcome = GaugeMetricFamily("fedloupe_run", "1 for what the run does", labels=["state"])
    for word in ("runs", "waits", "completed", "failed"):
        outcome.add_metric([word], float(status.outcome == word))
    found: list[Metric] = [about, service, starts, outcome]
    found.append(CounterMetricFamily("fedloupe_run_submissions", "Submissions of the run", status.submissions))
    if (run := status.state) is not None:
        found.append(GaugeMetricFamily("fedloupe_round", "The round under way or done last", run.round))
        found.append(GaugeMetricFamily("fedloupe_rounds", "Rounds of the study", run.rounds))
        if run.expected_end is not None:
            left = max(0.0, (run.expected_end - datetime.now(UTC)).total_seconds())
            found.append(GaugeMetricFamily("fedloupe_expected_seconds", "Seconds until the rounds should end", left))
    return found + _of_sites(status)


def _of_sites(status: Status) -> list[Metric]:
    online = GaugeMetricFamily("fedloupe_site_online", "1 while its courier is connected", labels=["site"])
    attention = GaugeMetricFamily("fedloupe_site_attention", "1 where somebody must do something", labels=["site"])
    progress = GaugeMetricFamily("fedloupe_site_progress", "Share of its present work that is done", labels=["site"])
    contact = GaugeMetricFamily("fedloupe_site_contact_timestamp_seconds", "When it was heard last", labels=["site"])
    rounds = GaugeMetricFamily("fedloupe_site_rounds", "Rounds that it took part in", labels=["site"])
    epsilon = GaugeMetricFamily("fedloupe_site_epsilon", "Privacy budget spent, where it tells", labels=["site"])
    days = GaugeMetricFamily("fedloupe_certificate_days", "Days until a certificate ends", labels=["of"])
    for name, site in status.sites.items():
        online.add_metric([name], float(site.connection == "online"))
        attention.add_metric([name], float(site.attention))
        if site.days is not None:
            days.add_metric([name], site.days)
        if (doing := site.doing) is None:
            continue
        rounds.add_metric([name], doing.rounds)
        if doing.fraction is not None:
            progress.add_metric([name], doing.fraction)
        if doing.last_contact is not None:
            contact.add_metric([name], doing.last_contact.timestamp())
        if doing.epsilon is not None:
            epsilon.add_metric([name], doing.epsilon)
    for name, left in status.expiring.items():
        days.add_metric([name], left)
    return [online, attention, progress, contact, rounds, epsilon, days]


@contextlib.contextmanager
def serving(status: Callable[[], Status | None], port: int, host: str = "127.0.0.1") -> Iterator[int]:
    """Answer Prometheus meanwhile.

    Args:
        status: gives the present one.
        port: to listen on; 0: a free one.
        host: address; hospitals have no business there.

    Yields:
        The port.
    """
    registry = CollectorRegistry()
    registry.register(_Numbers(status))
    server, thread = start_http_server(port, addr=host, registry=registry)
    try:
        yield int(server.server_port)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
