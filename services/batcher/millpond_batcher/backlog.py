"""What waits for a model, in the orders that the plan asks for. No clock, no I/O.

    tier, length ─▶ tenants in a ring ─▶ each tenant's requests, the earliest deadline first

A tenant's turn gives it a quantum of tokens, by its weight; what it does not use is kept while it has requests that
wait, and what it took ahead of its turn is a debt.
Source: deficit round robin, Shreedhar and Varghese 1995.
"""

from __future__ import annotations

import heapq
import itertools
import math
from bisect import bisect_left, bisect_right, insort
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, NamedTuple, TypeVar
from weakref import WeakKeyDictionary

from millpond.v1 import request_pb2

Item = TypeVar("Item", bound=Hashable)

SUM_EVERY_S = 1.0
"""Seconds between two sums over all that waits: ten thousand take 10 ms."""


@dataclass(frozen=True)
class Waiting(Generic[Item]):
    """One request that waits: in memory, or unread and known by its headers alike.

    arrived_s, deadline_s: seconds since 1970. max_tokens: the longest that its answer may be.
    prefix: equal for requests whose prompts begin alike; empty where that is not known.
    """

    item: Item
    tenant: str
    tier: request_pb2.Tier
    arrived_s: float
    deadline_s: float
    prompt_tokens: int
    max_tokens: int
    prefix: bytes = b""

    @property
    def tokens(self) -> int:
        return self.prompt_tokens + self.max_tokens


class Group(NamedTuple):
    """Requests that may share a batch. bucket: of their length, where the engine pads; else 0."""

    tier: request_pb2.Tier
    bucket: int


class Room(NamedTuple):
    """What a batch may take. of_tenant: rows that a tenant may still have of this tier."""

    rows: int
    tokens: int
    of_tenant: Callable[[str], float]


@dataclass(frozen=True)
class Due:
    """until_s: what has a deadline until then must start now. next_s: when that is next to change by itself."""

    until_s: float
    next_s: float


@dataclass(frozen=True)
class Drawn(Generic[Item]):
    """blocked: a request whose turn it was is longer than the tokens that were left."""

    members: Sequence[Waiting[Item]]
    blocked: bool


class _Place(NamedTuple):
    """Where a request stands among its tenant's."""

    slot: float
    prefix: bytes
    deadline_s: float
    number: int


@dataclass
class _Queues:
    """One group's. A tenant is in the ring as long as it is in `tenants`; emptied ones leave it when their turn comes.

    starts: (latest start, number), sorted. arrivals: a heap of (arrival, number), with those that have left.
    turn: the tenant at the ring's head whose turn has begun.
    """

    tenants: dict[str, list[_Place]] = field(default_factory=dict[str, list[_Place]])
    ring: deque[str] = field(default_factory=deque[str])
    starts: list[tuple[float, int]] = field(default_factory=list[tuple[float, int]])
    arrivals: list[tuple[float, int]] = field(default_factory=list[tuple[float, int]])
    rows: int = 0
    tokens: int = 0
    turn: str | None = None


class Backlog(Generic[Item]):
    """bucket_of: tokens → the bucket of their length. latest_start_s: of a request, seconds since 1970.

    work_s: seconds that a full engine is kept busy by a request.
    slot_s: by tier; deadlines within one slot count as equal, so that requests with the same prefix can go together.
    weights: of tenants; 1 where none is given. quantum: tokens of one turn, raised to the longest request.
    """

    def __init__(
        self,
        *,
        bucket_of: Callable[[int], int],
        latest_start_s: Callable[[Waiting[Item]], float],
        work_s: Callable[[Waiting[Item]], float],
        slot_s: Mapping[request_pb2.Tier, float],
        weights: Mapping[str, float],
        quantum: int,
    ) -> None:
        self._bucket_of = bucket_of
        self._latest_start_s = latest_start_s
        self._work_s = work_s
        self._slot_s = slot_s
        self._weights = weights
        # The least weight has one quantum, so that every turn is enough for the longest request.
        self._least = min((*weights.values(), 1.0))
        self._quantum = quantum
        self._groups: dict[Group, _Queues] = {}
        self._deficits: dict[tuple[Group, str], float] = {}
        self._entries: dict[int, tuple[Waiting[Item], float]] = {}
        """By number: what waits, and its latest start."""
        self._numbers: dict[Item, int] = {}
        self._next = itertools.count()
        self._summed_at = -math.inf
        self.next_sum_s = math.inf
        """When the sum over all that waits is to be made anew; never, while nothing has changed."""
        self._starts: Sequence[float] = ()
        """From when on the engine must be kept full for all that is due until a deadline; ascending."""
        self._due_until: Sequence[float] = ()
        """The latest deadline of those starts and all before them."""
        self._expected: WeakKeyDictionary[Hashable, Sequence[tuple[float, float]]] = WeakKeyDictionary()

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, item: Item) -> bool:
        return item in self._numbers

    def __iter__(self) -> Iterator[Waiting[Item]]:
        return (waiting for waiting, _ in self._entries.values())

    def groups(self) -> Sequence[Group]:
        """Those of which something waits."""
        return [group for group, queues in self._groups.items() if queues.rows]

    def rows(self, group: Group) -> int:
        return self._groups[group].rows

    def tokens(self, group: Group) -> int:
        return self._groups[group].tokens

    def first_arrival_s(self, group: Group) -> float:
        arrivals = self._groups[group].arrivals
        while arrivals[0][1] not in self._entries:
            heapq.heappop(arrivals)
        return arrivals[0][0]

    def first_start_s(self, group: Group) -> float:
        """The earliest of all latest starts."""
        return self._groups[group].starts[0][0]

    def first_deadline_s(self, group: Group) -> float:
        """Of the group's most pressed request."""
        return self._entries[self._groups[group].starts[0][1]][0].deadline_s

    def first(self, tier: request_pb2.Tier, most: int) -> Iterator[tuple[str, Sequence[float]]]:
        """Of each tenant that waits: the first deadlines of so many requests, in ascending order."""
        deadlines: dict[str, list[float]] = defaultdict(list)
        for group, queues in self._groups.items():
            if group.tier == tier:
                for tenant, places in queues.tenants.items():
                    deadlines[tenant] += (place.deadline_s for place in places)
        for tenant, those in deadlines.items():
            yield tenant, heapq.nsmallest(most, those)

    def expect(self, source: Hashable, due: Sequence[tuple[float, float]]) -> None:
        """More waits elsewhere: (deadline in seconds since 1970, tokens). It counts as long as its source is there."""
        self._expected[source] = due
        self._changed()

    def due(self, now: float, margin_s: float) -> Due:
        """What must start now for it, and all that is due before it, to be done so long before its deadline.

        What is expected takes as long for each token as what waits here. Summed up once a second at most, since it
        looks at everything; `next_sum_s` says when the next sum is due.
        Source: the processor demand of earliest deadline first, Baruah, Rosier and Howell 1990.
        """
        if self.next_sum_s <= now or now < self._summed_at:
            self._summed_at, self.next_sum_s = now, math.inf
            due = [(waiting.deadline_s, self._work_s(waiting)) for waiting, _ in self._entries.values()]
            tokens = sum(waiting.tokens for waiting, _ in self._entries.values())
            token_s = sum(work for _, work in due) / tokens if tokens else 0.0
            due += ((at_s, count * token_s) for those in self._expected.values() for at_s, count in those)
            due.sort()
            deadlines = [deadline_s for deadline_s, _ in due]
            work_s = itertools.accumulate(work for _, work in due)
            starts = sorted((until - before, until) for until, before in zip(deadlines, work_s, strict=True))
            self._starts = [start_s for start_s, _ in starts]
            self._due_until = list(itertools.accumulate((deadline_s for _, deadline_s in starts), max))
        place = bisect_right(self._starts, now + margin_s)
        until_s = self._due_until[place - 1] if place else -math.inf
        return Due(until_s, self._starts[place] - margin_s if place < len(self._starts) else math.inf)

    def add(self, waiting: Waiting[Item]) -> None:
        """Raises ValueError where the item waits already."""
        if waiting.item in self._numbers:
            raise ValueError(f"{waiting.item} waits already")
        number = next(self._next)
        start_s = self._latest_start_s(waiting)
        self._entries[number] = (waiting, start_s)
        self._numbers[waiting.item] = number
        self._quantum = max(self._quantum, waiting.tokens)
        queues = self._groups.setdefault(self._group(waiting), _Queues())
        if waiting.tenant not in queues.tenants:
            queues.tenants[waiting.tenant] = []
            queues.ring.append(waiting.tenant)
        insort(queues.tenants[waiting.tenant], self._place(waiting, number))
        insort(queues.starts, (start_s, number))
        heapq.heappush(queues.arrivals, (waiting.arrived_s, number))
        queues.rows += 1
        queues.tokens += waiting.tokens
        self._changed()

    def remove(self, item: Item) -> Waiting[Item] | None:
        """What waited under this item, or None."""
        number = self._numbers.pop(item, None)
        if number is None:
            return None
        waiting, start_s = self._entries.pop(number)
        queues = self._groups[self._group(waiting)]
        places = queues.tenants[waiting.tenant]
        del places[bisect_left(places, self._place(waiting, number))]
        del queues.starts[bisect_left(queues.starts, (start_s, number))]
        queues.rows -= 1
        queues.tokens -= waiting.tokens
        self._changed()
        return waiting

    def reprice(self) -> None:
        """Ask anew for every latest start: what they are told by has changed."""
        for queues in self._groups.values():
            queues.starts.clear()
        for number, (waiting, _) in self._entries.items():
            start_s = self._latest_start_s(waiting)
            self._entries[number] = (waiting, start_s)
            self._groups[self._group(waiting)].starts.append((start_s, number))
        for queues in self._groups.values():
            queues.starts.sort()
        self._changed()

    def refund(self, waiting: Waiting[Item], tokens: int) -> None:
        """Give a tenant back what its request was charged and did not use."""
        key = (self._group(waiting), waiting.tenant)
        if key in self._deficits:
            self._deficits[key] += tokens

    def is_pressed(self, group: Group, now: float) -> bool:
        """Whether a tenant that is not in debt has a request that must start now."""
        return any(not self._is_in_debt(group, tenant) for tenant in self._pressed_tenants(group, now))

    def draw_pressed(self, group: Group, room: Room, now: float) -> Drawn[Item]:
        """Take the requests of tenants that must start now, with what is due before them; tenant by tenant in turn.

        Who takes more than one quantum ahead of its turn is in debt, and waits for its turn with the rest.
        """
        left = Counter(self._pressed_tenants(group, now))
        turns = [(self._debt(group, tenant), tenant) for tenant in left if not self._is_in_debt(group, tenant)]
        heapq.heapify(turns)
        members: list[Waiting[Item]] = []
        taken: Counter[str] = Counter()
        tokens = room.tokens
        while turns and len(members) < room.rows:
            _, tenant = turns[0]
            if not left[tenant] or self._is_in_debt(group, tenant) or room.of_tenant(tenant) <= taken[tenant]:
                heapq.heappop(turns)
                continue
            head = self._head(group, tenant)
            if head.tokens > tokens:
                return Drawn(members, True)
            left[tenant] -= self._entries[self._numbers[head.item]][1] <= now
            tokens -= head.tokens
            taken[tenant] += 1
            members.append(self._take(group, head))
            heapq.heapreplace(turns, (self._debt(group, tenant), tenant))
        return Drawn(members, False)

    def draw(self, group: Group, room: Room) -> Drawn[Item]:
        """Take the next requests, tenant after tenant: deficit round robin."""
        queues = self._groups[group]
        members: list[Waiting[Item]] = []
        taken: Counter[str] = Counter()
        tokens = room.tokens
        in_vain = 0
        # A tenant in debt needs two turns, so nobody is passed over for more than two rounds.
        while queues.rows and len(members) < room.rows and in_vain <= 2 * len(queues.ring):
            tenant = queues.ring[0]
            if not queues.tenants[tenant]:
                queues.ring.popleft()
                del queues.tenants[tenant]
                self._deficits.pop((group, tenant), None)
                queues.turn = None
                continue
            if queues.turn != tenant:
                queues.turn = tenant
                deficit = self._turn_tokens(tenant) - self._debt(group, tenant) * self._weight(tenant)
                # Whom a quota holds back saves up no more than a turn.
                self._deficits[group, tenant] = min(deficit, 2 * self._turn_tokens(tenant))
            head = self._head(group, tenant)
            if head.tokens > self._deficits[group, tenant] or room.of_tenant(tenant) <= taken[tenant]:
                queues.ring.rotate(-1)
                queues.turn = None
                in_vain += 1
                continue
            if head.tokens > tokens:
                return Drawn(members, True)
            tokens -= head.tokens
            taken[tenant] += 1
            members.append(self._take(group, head))
            in_vain = 0
        return Drawn(members, False)

    def _changed(self) -> None:
        self.next_sum_s = min(self.next_sum_s, self._summed_at + SUM_EVERY_S)

    def _group(self, waiting: Waiting[Item]) -> Group:
        return Group(waiting.tier, self._bucket_of(waiting.tokens))

    def _place(self, waiting: Waiting[Item], number: int) -> _Place:
        slot_s = self._slot_s.get(waiting.tier, 0)
        slot = waiting.deadline_s // slot_s if slot_s else waiting.deadline_s
        return _Place(slot, waiting.prefix if slot_s else b"", waiting.deadline_s, number)

    def _head(self, group: Group, tenant: str) -> Waiting[Item]:
        """Of a tenant that has something waiting."""
        return self._entries[self._groups[group].tenants[tenant][0].number][0]

    def _take(self, group: Group, head: Waiting[Item]) -> Waiting[Item]:
        key = (group, head.tenant)
        self._deficits[key] = self._deficits.get(key, 0.0) - head.tokens
        self.remove(head.item)
        return head

    def _pressed_tenants(self, group: Group, now: float) -> Iterator[str]:
        """The tenant of each request that must start now."""
        for start_s, number in self._groups[group].starts:
            if start_s > now:
                return
            yield self._entries[number][0].tenant

    def _debt(self, group: Group, tenant: str) -> float:
        """Tokens that a tenant took ahead of its turn, by its weight; less than 0 where it has saved some."""
        return -self._deficits.get((group, tenant), 0.0) / self._weight(tenant)

    def _is_in_debt(self, group: Group, tenant: str) -> bool:
        return self._debt(group, tenant) >= self._quantum / self._least

    def _weight(self, tenant: str) -> float:
        return self._weights.get(tenant, 1.0)

    def _turn_tokens(self, tenant: str) -> float:
        return self._quantum * self._weight(tenant) / self._least
