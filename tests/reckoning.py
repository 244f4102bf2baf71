"""Every metric of the log, reckoned once more: each by a query of its own over the stored events, and nothing else.

Knows neither the fold that foreman keeps nor its codec. Numbers are `{name: {labels: (value,)}}`; those of a histogram
are `(observations for each bucket, ..., the infinite one, their sum)`. What is 0 is left out.
"""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Iterable
from contextlib import closing
from itertools import pairwise
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from foreman.events.codec import CODEC
from foreman.events.types import Recorded
from foreman.projections.measures import FROM_EVENTS, Kind
from foreman.projections.tally import Tally
from foreman.target.names import canonical

Numbers = dict[str, dict[tuple[str, ...], tuple[float, ...]]]

TABLE = "CREATE TABLE events (position INTEGER, stream TEXT, version INTEGER, type TEXT, at INTEGER, data TEXT)"
#: `label` makes a model's label of its name, as the first names of this log have it.
JOBS = """
WITH jobs AS (
    SELECT stream, position AS arrived, label(data ->> 'model') AS model, data ->> 'job_class' AS class,
        data ->> 'load_key' AS load_key
    FROM events WHERE type = 'job.queued'
), last AS (
    SELECT stream, type FROM events WHERE stream != 'daemon' GROUP BY stream HAVING version = max(version)
)
"""
IN_ORDER = """
SELECT count(*) AS swaps
FROM (SELECT load_key, lag(load_key) OVER (ORDER BY arrived) AS before FROM jobs) WHERE load_key IS NOT before
"""


def _sum(expression: str) -> str:
    return f"""
        SELECT model, sum(max(0, coalesce({expression}, 0))) FROM events JOIN jobs USING (stream)
        WHERE type = 'job.done' GROUP BY 1
    """


def _count(type_: str) -> str:
    return f"SELECT count(*) FROM events WHERE type = '{type_}'"


#: For each metric its rows: the labels' values, then the number; of a histogram, a row for each observation.
QUERIES = {
    "foreman_jobs_submitted_total": "SELECT model, class, count(*) FROM jobs GROUP BY 1, 2",
    "foreman_jobs_finished_total": """
        SELECT model, substr(type, 5), count(*) FROM events JOIN jobs USING (stream)
        WHERE type IN ('job.done', 'job.failed', 'job.cancelled') GROUP BY 1, 2
    """,
    "foreman_jobs_queued": """
        SELECT model, class, count(*) FROM jobs JOIN last USING (stream)
        WHERE type IN ('job.queued', 'job.requeued') GROUP BY 1, 2
    """,
    "foreman_jobs_running": "SELECT count(*) FROM last WHERE type IN ('job.loading', 'job.working')",
    "foreman_job_requeues_total": """
        SELECT data ->> 'reason', count(*) FROM events WHERE type = 'job.requeued' GROUP BY 1
    """,
    "foreman_job_wait_seconds": """
        SELECT class, data ->> 'waited_s' FROM events JOIN jobs USING (stream) WHERE type = 'job.working'
    """,
    "foreman_job_run_seconds": "SELECT data ->> 'run_s' FROM events WHERE type = 'job.done'",
    "foreman_first_token_seconds": "SELECT data ->> 'first_token_s' FROM events WHERE type = 'job.done'",
    "foreman_load_seconds": "SELECT data ->> 'load_s' FROM events WHERE type = 'model.swapped'",
    "foreman_prompt_tokens_total": _sum("data ->> 'prompt_tokens'"),
    "foreman_generated_tokens_total": _sum("data ->> 'generated_tokens'"),
    "foreman_generation_seconds_total": _sum("(data ->> 'eval_duration') / 1e9"),
    "foreman_model_swaps_total": _count("model.swapped"),
    "foreman_model_swaps_in_order_total": IN_ORDER,
    "foreman_model_swaps_avoided": f"SELECT swaps - ({_count('model.swapped')}) FROM ({IN_ORDER})",
    "foreman_target_outages_total": _count("target.degraded"),
    "foreman_target_stalls_total": """
        SELECT data ->> 'stage', count(*) FROM events WHERE type = 'target.stalled' GROUP BY 1
    """,
    "foreman_starts_total": _count("daemon.started"),
}


#: What happened within each stretch of ?1 seconds from number ?2 to number ?3, in the order of `timeline.Bucket`.
OVER_TIME = """
SELECT at / (?1 * 1000000) AS number,
    sum(type = 'job.queued'), sum(type = 'job.done'), sum(type = 'job.failed'), sum(type = 'job.cancelled'),
    sum(type = 'job.working'), coalesce(sum(data ->> 'waited_s'), 0), coalesce(max(data ->> 'waited_s'), 0),
    sum(max(0, coalesce(data ->> 'prompt_tokens', 0))), sum(max(0, coalesce(data ->> 'generated_tokens', 0))),
    sum(max(0, coalesce(data ->> 'eval_duration', 0)) / 1e9), sum(coalesce(data ->> 'run_s', 0)),
    sum(type = 'model.swapped'), sum(iif(type = 'model.swapped', data ->> 'load_s', 0))
FROM events WHERE number BETWEEN ?2 AND ?3 GROUP BY 1
"""


def over_time(events: Iterable[Recorded], width_s: int, first: int, last: int) -> dict[int, tuple[float, ...]]:
    """The figures of each stretch of time in which one of these events happened, by its number since 1970."""
    with closing(_stored(events)) as connection:
        return {number: tuple(row) for number, *row in connection.execute(OVER_TIME, (width_s, first, last))}


def of_file(path: Path) -> Numbers:
    """The numbers of the log in a database file."""
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    try:
        return of_log(connection)
    finally:
        connection.close()


def of_events(events: Iterable[Recorded]) -> Numbers:
    """The numbers of these events."""
    with closing(_stored(events)) as connection:
        return of_log(connection)


def _stored(events: Iterable[Recorded]) -> sqlite3.Connection:
    connection = sqlite3.connect(":memory:")
    connection.execute(TABLE)
    rows = [
        (item.position, item.stream, item.version, item.event.type, item.at, CODEC.encode(item.event))
        for item in events
    ]
    connection.executemany("INSERT INTO events VALUES (?, ?, ?, ?, ?, ?)", rows)
    return connection


def of_log(connection: sqlite3.Connection) -> Numbers:
    """Run every query."""
    arrivals = "SELECT data ->> 'model' FROM events WHERE type = 'job.queued' ORDER BY position"
    models = list(dict.fromkeys(canonical(name) for (name,) in connection.execute(arrivals)))
    own = models[:40]
    connection.create_function("label", 1, lambda name: canonical(name) if canonical(name) in own else "other")
    found: Numbers = {}
    for measure in FROM_EVENTS:
        rows = connection.execute(JOBS + QUERIES[measure.name]).fetchall()
        if measure.kind is Kind.HISTOGRAM:
            observed = defaultdict(list)
            for *labels, value in rows:
                if value is not None:
                    observed[tuple(labels)].append(value)
            found[measure.name] = {key: _spread(values, measure.buckets) for key, values in observed.items()}
        else:
            found[measure.name] = {tuple(labels): (value,) for *labels, value in rows if value}
    return found


def _spread(values: list[float], bounds: tuple[float, ...]) -> tuple[float, ...]:
    edges = [float("-inf"), *bounds, float("inf")]
    counts = [sum(low < value <= high for value in values) for low, high in pairwise(edges)]
    return (*counts, sum(values))


def of_tally(tally: Tally) -> Numbers:
    """The numbers that a tally holds."""
    found: Numbers = {measure.name: {} for measure in FROM_EVENTS}
    for name, values in tally.series.values.items():
        found[name] = {labels: (value,) for labels, value in values.items() if value}
    for name, spreads in tally.series.spreads.items():
        found[name] = {labels: (*spread.counts, spread.total) for labels, spread in spreads.items()}
    return found


def of_text(text: str) -> Numbers:
    """The numbers that a scrape brought."""
    families = {family.name: family for family in text_string_to_metric_families(text)}
    found: Numbers = {}
    for measure in FROM_EVENTS:
        numbers = defaultdict(list)
        for sample in families[measure.name.removesuffix("_total")].samples:
            if not sample.name.endswith("_count"):
                numbers[tuple(sample.labels[label.name] for label in measure.labels)].append(sample.value)
        if measure.kind is Kind.HISTOGRAM:
            numbers = {key: _apart(values) for key, values in numbers.items()}
        found[measure.name] = {key: tuple(values) for key, values in numbers.items() if any(values)}
    return found


def _apart(values: list[float]) -> list[float]:
    """Buckets as they are written out, each holding those below, without what they have in common; then the sum."""
    *buckets, total = values
    return [*(high - low for low, high in pairwise([0, *buckets])), total]


def assert_equal(found: Numbers, expected: Numbers) -> None:
    """Assert that they are the same, metric by metric; sums of seconds may differ in their last digits."""
    assert found.keys() == expected.keys()
    for name, series in expected.items():
        assert found[name].keys() == series.keys(), name
        for labels, numbers in series.items():
            assert found[name][labels] == pytest.approx(numbers, abs=1e-9), (name, labels)
