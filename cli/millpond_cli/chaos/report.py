"""From findings to figures and words. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from millpond_cli.chaos.verify import Findings

NAMED = 10
"""Of many lost or doubled requests."""


@dataclass(frozen=True)
class Course:
    """How the run went.

    kills: victim → how often. in_flight_at_kills: requests in the hands of the stages that call models, whenever one
    of these ended, or what they need was harmed, and again when it came back: its partitions move both times.
    asked_again: requests that a client of the sync tier had to send again. longest_stall_s: stage → seconds.
    """

    kills: Mapping[str, int]
    model_calls: int
    in_flight_at_kills: int
    asked_again: int
    longest_stall_s: Mapping[str, float]
    wall_s: float


def figures(found: Findings, course: Course) -> dict[str, Any]:
    return {
        "requests": found.requests,
        "results": found.results,
        "lost": len(found.lost),
        "duplicates": len(found.duplicates),
        "dead_letters": found.dead_letters,
        "errors": sum(found.errors.values()),
        "expired": found.expired,
        "model_calls": course.model_calls,
        "model_served": found.model_served,
        "in_flight_at_kills": course.in_flight_at_kills,
        "retries": retries(found, course),
        "kills": dict(sorted(course.kills.items())),
        "longest_stall_s": dict(course.longest_stall_s),
        "wall_s": round(course.wall_s, 1),
        "targets": targets(found, course),
    }


def retries(found: Findings, course: Course) -> int:
    return found.retries + course.asked_again


def targets(found: Findings, course: Course) -> list[dict[str, Any]]:
    needless = course.model_calls - found.model_served - course.in_flight_at_kills - retries(found, course)
    return [
        _target("lost", len(found.lost), "requests", 0),
        _target("duplicates", len(found.duplicates), "results", 0),
        _target("results of requests that nobody sent", len(found.strangers), "results", 0),
        _target("answers to another request", len(found.wrong), "results", 0),
        _target("conflicts and unreadable records without a dead letter", len(found.unburied), "records", 0),
        _target("dead letters of sound requests", len(found.buried), "records", 0),
        _target(
            "model calls beyond those served, in flight at a kill, and declared retries", max(needless, 0), "calls", 0
        ),
    ]


def _target(name: str, value: float, unit: str, bound: float) -> dict[str, Any]:
    return {"name": name, "value": value, "unit": unit, "bound": bound, "better": "lower"}


def broken(figures: Mapping[str, Any]) -> list[str]:
    """The targets that were missed, a line each."""
    return [
        f"{each['name']}: {each['value']} {each['unit']}"
        for each in figures["targets"]
        if each["value"] > each["bound"]
    ]


def words(found: Findings, course: Course) -> str:
    """What a person reads at the end."""
    lines = [
        f"{found.requests} requests, {found.results} results in {course.wall_s:.0f} s: "
        f"{len(found.lost)} lost, {len(found.duplicates)} twice",
        f"{sum(course.kills.values())} faults: " + ", ".join(f"{n} {v}" for v, n in sorted(course.kills.items())),
        f"errors {dict(found.errors) or 'none'}, expired {found.expired}, dead letters {found.dead_letters}",
        f"{course.model_calls} model calls for {found.model_served} requests; "
        f"{course.in_flight_at_kills} in flight at faults, {retries(found, course)} declared retries",
        "longest stall: " + ", ".join(f"{stage} {seconds:.1f} s" for stage, seconds in course.longest_stall_s.items()),
    ]
    for name, who in (
        ("lost", found.lost),
        ("twice", found.duplicates),
        ("never sent", found.strangers),
        ("wrong answer", found.wrong),
        ("no dead letter", found.unburied),
        ("dead letter for no reason", found.buried),
    ):
        if who:
            more = f" and {len(who) - NAMED} more" if len(who) > NAMED else ""
            lines.append(f"{name}: {', '.join(map(str, who[:NAMED]))}{more}")
    return "\n".join(lines)
