"""Lists of issuers on disk, with the keys of tests, and the TOML file that names them."""

import dataclasses

from callsieve.features.files.dates import DAY
from callsieve.features.keys.tokens import Key
from callsieve.serving.bundle.signing import write_public_key
from callsieve.serving.lists.exchange import Entry, Issuer, publish
from callsieve.serving.scorer.listed import shared_token
from tests.support import small_bundle as small

SHARED = Key("share1", bytes(range(40)), purpose="sharing")
ISSUER = Issuer("carrier-a", SHARED, small.KEY)


def token_of(number):
    return shared_token(SHARED, number).to_bytes(5, "big")


def entries(numbers, at, behaviour="illegal"):
    """Returns entries of numbers that were first flagged a day before `at`, and last then."""
    return [Entry(token_of(number), behaviour, at - DAY, at) for number in numbers]


def list_numbers(folder, issuer, numbers, *, now, withdrawn=(), at=None, bound=None, **options):
    """Publishes the next list of an issuer in its folder."""
    by = dataclasses.replace(ISSUER, name=issuer, error_bound=bound)
    removed = [token_of(number) for number in withdrawn]
    options = {"valid_days": 60.0} | options
    return publish(folder / issuer, by, entries(numbers, at or now), removed, now=now, **options)


def write_toml(folder, *issuers, **places):
    """Writes lists.toml with the keys that it names; the place of an issuer is its folder, or in `places`."""
    if not (folder / "sharing.key").exists():
        SHARED.write(folder / "sharing.key")
    if not (folder / "issuer.pub").exists():
        write_public_key(small.KEY.public_key(), folder / "issuer.pub")
    lines = ['key = "sharing.key"']
    for name in issuers:
        lines += [f"[issuers.{name}]", 'signer = "issuer.pub"', f'lists = "{places.get(name, name)}"']
    (folder / "lists.toml").write_text("\n".join(lines) + "\n")
    return folder / "lists.toml"
