"""What services count, read from their /metrics pages."""

from __future__ import annotations

import threading
import urllib.error
import urllib.request
from collections import defaultdict
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Self

from prometheus_client.parser import text_string_to_metric_families

ANSWER_S = 3.0
"""One page; a service that is busy for longer is left out of this look."""

LOOK_EVERY_S = 0.5

Labels = frozenset[tuple[str, str]]


class Samples:
    """Counted values, summed over services."""

    def __init__(self, values: Mapping[tuple[str, Labels], float]) -> None:
        self._values = values

    def __bool__(self) -> bool:
        """Whether any page answered."""
        return bool(self._values)

    def total(self, name: str, **labels: str) -> float:
        """Over all series of this name with these labels: `total("millpond_in_flight", stage="cache")`."""
        wanted = labels.items()
        return sum(value for (found, has), value in self._values.items() if found == name and wanted <= has)

    def by(self, name: str, *labels: str) -> Mapping[tuple[str, ...], float]:
        """Of all series of this name, summed for each combination of these labels' values."""
        sums: dict[tuple[str, ...], float] = defaultdict(float)
        for (found, has), value in self._values.items():
            if found == name:
                known = dict(has)
                sums[tuple(known.get(label, "") for label in labels)] += value
        return sums

    def __sub__(self, before: Samples) -> Samples:
        """What was counted since. Gauges lose their meaning."""
        return Samples({key: value - before._values.get(key, 0.0) for key, value in self._values.items()})


def parse(pages: Iterable[str]) -> Samples:
    values: dict[tuple[str, Labels], float] = defaultdict(float)
    for page in pages:
        for family in text_string_to_metric_families(page):
            for sample in family.samples:
                values[sample.name, frozenset(sample.labels.items())] += sample.value
    return Samples(values)


def read(urls: Iterable[str], answer_s: float = ANSWER_S) -> Samples:
    """urls: of the pages, with /metrics. answer_s: seconds that each has."""
    pages: list[str] = []
    for url in urls:
        try:
            with urllib.request.urlopen(url, timeout=answer_s) as response:  # noqa: S310
                pages.append(response.read().decode())
        except (urllib.error.URLError, TimeoutError, ConnectionError):
            continue
    return parse(pages)


class Watch:
    """While it is open, `now` is never much older than LOOK_EVERY_S."""

    def __init__(self, services: Iterable[str]) -> None:
        """services: their URLs, without /metrics."""
        self._urls = [f"{service}/metrics" for service in services]
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, name="metrics", daemon=True)
        self.before = self.now = read(self._urls)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._over.set()
        self._thread.join()
        self.now = read(self._urls)

    @property
    def since(self) -> Samples:
        """What was counted since this was made."""
        return self.now - self.before

    def _look(self) -> None:
        while not self._over.wait(LOOK_EVERY_S):
            self.now = read(self._urls)
