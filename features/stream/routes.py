"""Which block, trunk and device a caller's calls come from: a route is a caller with the three, and a call has one.

A part of the kernel: compiled, or as it stands. Of most callers all calls come from the same ones. A caller whose calls
come from two blocks (trunks, devices) has a record of its own in each of those from then on, and `homes` says SPLIT.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from callsieve.features.kernel.windows import Ints

from .call_store import CALLER, ROUTE_SIZE, Memory
from .hash_chains import bucket, chain, giver, unchain
from .key_store import Book

if TYPE_CHECKING:  # `engine.py` gives each kind of history its own
    from .group_lists import place_of as group_place_of
    from .key_store import new_pair as group_new_pair
    from .key_store import pair_of_keys as group_pair_of_keys
    from .key_store import release_key as group_release_key
    from .key_store import release_pair as group_release_pair
    from .key_store import use_key as group_use_key
    from .number_lists import own_part as number_own_part

# A route: its caller, its three keys (0 or less for none), the caller's record in each, how many calls use it, and the
# routes of the same caller before and after it.
KEYS_OF, MEMBERS_OF, USES, EARLIER, LATER = 1, 4, 7, 8, 9
GROUPS = 3
SPLIT = -2
LAST_ROUTE, FREE_ROUTE = 0, 1
ROUTE_COUNTS = 2


def hold_route(caller: int, m: Memory) -> int:
    """The route of a call that comes from the keys in `group`."""
    route = 0
    if m.route_counts[LAST_ROUTE] > 0:
        route = m.route_heads[bucket(mixed_keys(caller, m.group, 0), m.route_counts[LAST_ROUTE])]
        while route > 0 and not is_of(route, caller, m):
            route = m.next_route[route]
    if route == 0:
        route = new_route(caller, m)
    m.routes[route * ROUTE_SIZE + USES] += 1
    return int(route)


def mixed_keys(caller: int, keys: Ints, at: int) -> int:
    """What a route is looked for by, in one number."""
    return int(caller ^ keys[at] << 20 ^ keys[at + 1] << 31 ^ keys[at + 2] << 10)


def code_of(route: int, m: Memory) -> int:
    """The same of a route that is held."""
    return mixed_keys(m.routes[route * ROUTE_SIZE + CALLER], m.routes, route * ROUTE_SIZE + KEYS_OF)


def is_of(route: int, caller: int, m: Memory) -> bool:
    """Whether it is the route of a caller from the keys in `group`."""
    own = route * ROUTE_SIZE
    return bool(
        m.routes[own + CALLER] == caller
        and m.routes[own + KEYS_OF] == m.group[0]
        and m.routes[own + KEYS_OF + 1] == m.group[1]
        and m.routes[own + KEYS_OF + 2] == m.group[2]
    )


def new_route(caller: int, m: Memory) -> int:
    """A route that was not heard of."""
    route = m.route_counts[FREE_ROUTE]
    if route > 0:
        m.route_counts[FREE_ROUTE] = m.routes[route * ROUTE_SIZE + LATER]
    else:
        route = m.route_counts[LAST_ROUTE] + 1
        m.route_counts[LAST_ROUTE] = route
        share_routes(route, m)
    own = route * ROUTE_SIZE
    m.routes[own + CALLER] = caller
    m.routes[own + USES] = 0
    for kind in range(GROUPS):
        m.routes[own + KEYS_OF + kind] = m.group[kind]
        m.routes[own + MEMBERS_OF + kind] = 0
    join_group(0, route, m, m.block)
    join_group(1, route, m, m.trunk)
    join_group(2, route, m, m.device)
    first = m.first_route[caller]
    m.routes[own + EARLIER] = 0
    m.routes[own + LATER] = first
    m.routes[first * ROUTE_SIZE + EARLIER] = route
    m.first_route[caller] = route
    chain(route, bucket(code_of(route, m), m.route_counts[LAST_ROUTE]), m.route_heads, m.next_route)
    return int(route)


def share_routes(buckets: int, m: Memory) -> None:
    """Give the last of so many buckets the routes that belong there now."""
    route = m.route_heads[giver(buckets)]
    while route > 0:
        after = m.next_route[route]
        if bucket(code_of(route, m), buckets) == buckets - 1:
            unchain(route, giver(buckets), m.route_heads, m.next_route)
            chain(route, buckets - 1, m.route_heads, m.next_route)
        route = after


def join_group(kind: int, route: int, m: Memory, book: Book) -> None:
    """A new route comes from a block (`kind` 0), a trunk (1) or a device (2)."""
    own = route * ROUTE_SIZE
    caller = m.routes[own + CALLER]
    key = m.routes[own + KEYS_OF + kind]
    home = caller * GROUPS + kind
    if m.first_route[caller] == 0:
        m.homes[home] = key
    elif m.homes[home] != key and m.homes[home] != SPLIT:
        split_home(kind, caller, m, book)
    if key <= 0:
        return
    group_use_key(key, book)
    if m.homes[home] == SPLIT:
        member = group_pair_of_keys(key, caller, book)
        if member == 0:
            member = group_new_pair(key, caller, book)
        book.pair_uses[member] += 1
        m.routes[own + MEMBERS_OF + kind] = member


def split_home(kind: int, caller: int, m: Memory, book: Book) -> None:
    """A caller that was in one group alone gets a record there."""
    home = m.homes[caller * GROUPS + kind]
    m.homes[caller * GROUPS + kind] = SPLIT
    if home <= 0:
        return
    member = group_new_pair(home, caller, book)
    number_own_part(caller, book.pairs, group_place_of(member), m)
    route = m.first_route[caller]
    while route > 0:
        m.routes[route * ROUTE_SIZE + MEMBERS_OF + kind] = member
        book.pair_uses[member] += 1
        route = m.routes[route * ROUTE_SIZE + LATER]


def release_route(route: int, m: Memory) -> None:
    """A call of a route is forgotten."""
    own = route * ROUTE_SIZE
    m.routes[own + USES] -= 1
    if m.routes[own + USES] > 0:
        return
    unchain(route, bucket(code_of(route, m), m.route_counts[LAST_ROUTE]), m.route_heads, m.next_route)
    leave_group(0, route, m, m.block)
    leave_group(1, route, m, m.trunk)
    leave_group(2, route, m, m.device)
    before = m.routes[own + EARLIER]
    after = m.routes[own + LATER]
    if before > 0:
        m.routes[before * ROUTE_SIZE + LATER] = after
    else:
        m.first_route[m.routes[own + CALLER]] = after
    m.routes[after * ROUTE_SIZE + EARLIER] = before
    m.routes[own + LATER] = m.route_counts[FREE_ROUTE]
    m.route_counts[FREE_ROUTE] = route


def leave_group(kind: int, route: int, m: Memory, book: Book) -> None:
    """A route is forgotten."""
    own = route * ROUTE_SIZE
    if m.routes[own + MEMBERS_OF + kind] > 0:
        group_release_pair(m.routes[own + MEMBERS_OF + kind], book)
    if m.routes[own + KEYS_OF + kind] > 0:
        group_release_key(m.routes[own + KEYS_OF + kind], book)


def fill_routes(m: Memory) -> None:
    """Put every route that is used into an empty table."""
    for route in range(1, m.route_counts[LAST_ROUTE] + 1):
        if m.routes[route * ROUTE_SIZE + USES] > 0:
            chain(route, bucket(code_of(route, m), m.route_counts[LAST_ROUTE]), m.route_heads, m.next_route)
