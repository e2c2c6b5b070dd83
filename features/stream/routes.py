"""Routes: a route is a caller with a block, a trunk and a device, and each call has one. A part of the kernel.

All calls of most callers have the same three. A caller with calls from two blocks (trunks, devices) gets a member
record in each of them from then on, and its entry in `homes` is SPLIT.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from callsieve.features.kernel.windows import Ints

from .call_store import CALLER, ROUTE_SIZE, Memory
from .hash_chains import bucket, bucket_to_split, insert_entry, remove_entry
from .key_store import KeyStore

if TYPE_CHECKING:  # `assemble.py` supplies them for each kind of history
    from .compact_numbers import refresh as number_refresh
    from .group_lists import pair_offset as group_pair_offset
    from .key_store import allocate_pair as group_allocate_pair
    from .key_store import find_pair as group_find_pair
    from .key_store import release_key as group_release_key
    from .key_store import release_pair as group_release_pair
    from .key_store import use_key as group_use_key
    from .number_lists import copy_member as number_copy_member

# Fields of a route: the caller, its three keys (0 or less for none), the caller's member record in each, the number of
# calls, and the previous and next route of the same caller.
KEYS_OF, MEMBERS_OF, USES, EARLIER, LATER = 1, 4, 7, 8, 9
GROUPS = 3
SPLIT = -2
LAST_ROUTE, FREE_ROUTE = 0, 1
ROUTE_COUNTS = 2


def acquire_route(caller: int, keys: Ints, m: Memory) -> int:
    """Returns the route of a caller with three keys, and counts one more call of it."""
    route = 0
    if m.route_counts[LAST_ROUTE] > 0:
        route = m.route_heads[bucket(hash_keys(caller, keys, 0), m.route_counts[LAST_ROUTE])]
        while route > 0 and not route_matches(route, caller, keys, m):
            route = m.next_route[route]
    if route == 0:
        route = allocate_route(caller, keys, m)
    m.routes[route * ROUTE_SIZE + USES] += 1
    return int(route)


def hash_keys(caller: int, keys: Ints, at: int) -> int:
    """Returns the hash key of a caller and three keys."""
    return int(caller ^ keys[at] << 20 ^ keys[at + 1] << 31 ^ keys[at + 2] << 10)


def route_hash(route: int, m: Memory) -> int:
    """Returns the hash key of a stored route."""
    return hash_keys(m.routes[route * ROUTE_SIZE + CALLER], m.routes, route * ROUTE_SIZE + KEYS_OF)


def route_matches(route: int, caller: int, keys: Ints, m: Memory) -> bool:
    """Returns whether a route belongs to a caller with three keys."""
    own = route * ROUTE_SIZE
    return bool(
        m.routes[own + CALLER] == caller
        and m.routes[own + KEYS_OF] == keys[0]
        and m.routes[own + KEYS_OF + 1] == keys[1]
        and m.routes[own + KEYS_OF + 2] == keys[2]
    )


def allocate_route(caller: int, keys: Ints, m: Memory) -> int:
    """Creates a route of a caller with three keys."""
    route = m.route_counts[FREE_ROUTE]
    if route > 0:
        m.route_counts[FREE_ROUTE] = m.routes[route * ROUTE_SIZE + LATER]
    else:
        route = m.route_counts[LAST_ROUTE] + 1
        m.route_counts[LAST_ROUTE] = route
        fill_new_route_bucket(route, m)
    own = route * ROUTE_SIZE
    m.routes[own + CALLER] = caller
    m.routes[own + USES] = 0
    for kind in range(GROUPS):
        m.routes[own + KEYS_OF + kind] = keys[kind]
        m.routes[own + MEMBERS_OF + kind] = 0
    join_group(0, route, m, m.block)
    join_group(1, route, m, m.trunk)
    join_group(2, route, m, m.device)
    first = m.first_route[caller]
    m.routes[own + EARLIER] = 0
    m.routes[own + LATER] = first
    m.routes[first * ROUTE_SIZE + EARLIER] = route
    m.first_route[caller] = route
    insert_entry(route, bucket(route_hash(route, m), m.route_counts[LAST_ROUTE]), m.route_heads, m.next_route)
    return int(route)


def fill_new_route_bucket(buckets: int, m: Memory) -> None:
    """Moves the routes that belong into the newest bucket there."""
    route = m.route_heads[bucket_to_split(buckets)]
    while route > 0:
        after = m.next_route[route]
        if bucket(route_hash(route, m), buckets) == buckets - 1:
            remove_entry(route, bucket_to_split(buckets), m.route_heads, m.next_route)
            insert_entry(route, buckets - 1, m.route_heads, m.next_route)
        route = after


def join_group(kind: int, route: int, m: Memory, store: KeyStore) -> None:
    """Adds a new route to a block (`kind` 0), a trunk (1) or a device (2)."""
    own = route * ROUTE_SIZE
    caller = m.routes[own + CALLER]
    key = m.routes[own + KEYS_OF + kind]
    home = caller * GROUPS + kind
    if m.first_route[caller] == 0:
        m.homes[home] = key
    elif m.homes[home] != key and m.homes[home] != SPLIT:
        split_home(kind, caller, m, store)
    if key <= 0:
        return
    group_use_key(key, store)
    if m.homes[home] == SPLIT:
        member = group_find_pair(key, caller, store)
        if member == 0:
            member = group_allocate_pair(key, caller, store)
        store.pair_uses[member] += 1
        m.routes[own + MEMBERS_OF + kind] = member


def split_home(kind: int, caller: int, m: Memory, store: KeyStore) -> None:
    """Gives a caller that was in one group alone a member record there."""
    home = m.homes[caller * GROUPS + kind]
    m.homes[caller * GROUPS + kind] = SPLIT
    if home <= 0:
        return
    member = group_allocate_pair(home, caller, store)
    number_refresh(caller, m)
    number_copy_member(caller, store.pairs, group_pair_offset(member), m)
    route = m.first_route[caller]
    while route > 0:
        m.routes[route * ROUTE_SIZE + MEMBERS_OF + kind] = member
        store.pair_uses[member] += 1
        route = m.routes[route * ROUTE_SIZE + LATER]


def release_route(route: int, m: Memory) -> None:
    """Counts one call less of a route, and frees the route with its last call."""
    own = route * ROUTE_SIZE
    m.routes[own + USES] -= 1
    if m.routes[own + USES] > 0:
        return
    remove_entry(route, bucket(route_hash(route, m), m.route_counts[LAST_ROUTE]), m.route_heads, m.next_route)
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


def leave_group(kind: int, route: int, m: Memory, store: KeyStore) -> None:
    """Removes a freed route from its block (`kind` 0), trunk (1) or device (2)."""
    own = route * ROUTE_SIZE
    if m.routes[own + MEMBERS_OF + kind] > 0:
        group_release_pair(m.routes[own + MEMBERS_OF + kind], store)
    if m.routes[own + KEYS_OF + kind] > 0:
        group_release_key(m.routes[own + KEYS_OF + kind], store)


def rebuild_routes(m: Memory) -> None:
    """Adds every route in use to an empty table."""
    for route in range(1, m.route_counts[LAST_ROUTE] + 1):
        if m.routes[route * ROUTE_SIZE + USES] > 0:
            insert_entry(route, bucket(route_hash(route, m), m.route_counts[LAST_ROUTE]), m.route_heads, m.next_route)
