"""Only certified or confirmed numbers are shared, under a key of their own."""

import json
from datetime import UTC, datetime, timedelta

import pandas as pd
import pytest

from callsieve.features.keys.tokens import Key
from callsieve.serving.bundle.signing import generate_signing_key, read_public_key
from callsieve.serving.lists.token_list import TokenList
from callsieve.training.oversight.governance.sharing import choose, only, read_excluded
from tests.support.errors import refused

STORE, SHARED = Key("e1", bytes(range(32))), Key("share1", bytes(range(40)), purpose="sharing")
UNTIL = (datetime.now(UTC) + timedelta(days=7)).strftime("%Y-%m-%dT%H:%M:%SZ")


def mobiles(count, first=0):
    return [f"138{first + n:08d}" for n in range(count)]


NUMBERS = dict(zip(("certified", "few", "gentle", "confirmed", "cleared", "off", "none"), mobiles(7), strict=True))


def token(name):
    return STORE.token("number", "+86" + NUMBERS[name])


@pytest.fixture
def input_files(tmp_path):
    """Files of verdicts and findings; every number has a history of its own kind."""
    calls = {"certified": ("block", 12), "few": ("block", 9), "gentle": ("label", 50), "cleared": ("screen", 20),
             "off": ("block", 30)}  # fmt: skip
    rows = [(n, token(name), f"e1.{n:032d}".translate(str.maketrans("0123456789", "abcdefghij")), action)
            for name, (action, count) in calls.items() for n in range(count)]  # fmt: skip
    pd.DataFrame(rows, columns=["start", "caller", "callee", "action"]).to_parquet(tmp_path / "verdicts.parquet")
    findings = [("confirmed", False, 1), ("confirmed", True, 2), ("cleared", True, 1), ("cleared", False, 2),
                ("none", True, 36_000)]  # fmt: skip
    start, columns = pd.Timestamp("2026-01-01", tz="UTC"), ["number", "nuisance", "known_at"]
    frame = pd.DataFrame([(token(n), w, start + pd.Timedelta(days=day)) for n, w, day in findings], columns=columns)
    frame.to_parquet(tmp_path / "findings.parquet")
    return tmp_path / "verdicts.parquet", tmp_path / "findings.parquet"


@pytest.mark.source("L18", by="training/oversight/governance/sharing.py")
def test_only_certified_and_confirmed_numbers_are_chosen(input_files):
    chosen = choose(*input_files, excluded={token("off"), token("none")}, until=datetime(2026, 6, 1, tzinfo=UTC))
    assert chosen.tokens == {token("certified"), token("confirmed")}
    assert (chosen.certified, chosen.confirmed, chosen.cleared, chosen.excluded) == (3, 1, 1, 1)
    assert choose(None, None).tokens == frozenset()


@pytest.mark.usefixtures("input_files")
def test_the_shared_list_is_written_under_the_sharing_key(run_command, tmp_path, monkeypatch):
    STORE.write(tmp_path / "store.key")
    SHARED.write(tmp_path / "sharing.key")
    generate_signing_key(tmp_path / "list.key", tmp_path / "list.pub")
    (tmp_path / "off").write_text(token("off") + "\n")
    (tmp_path / "numbers").write_text("\n".join([*NUMBERS.values(), "+86 138 0000 0000", "", "110"]) + "\n")
    keys = ["--key", "sharing.key", "--signing-key", "list.key"]
    monkeypatch.chdir(tmp_path)
    arguments = ["share", "numbers", "--out", "tokens", "--store-key", "store.key", *keys, "--list-epoch", "3",
             "--verdicts", "verdicts.parquet", "--findings", "findings.parquet", "--exclude", "off",
             "--json"]  # fmt: skip
    code, out, _ = run_command("govern", "token-list", *arguments)
    facts = json.loads(out)
    assert code == 0 and facts["tokens"] == 2 and facts["excluded"] == 1 and facts["not_found"] == 0
    shared_list = TokenList.open(tmp_path / "tokens", SHARED, [read_public_key(tmp_path / "list.pub")])
    assert {name for name, number in NUMBERS.items() if shared_list.lists(number)} == {"certified", "confirmed"}
    assert b"e1." not in (tmp_path / "tokens").read_bytes()
    code, out, _ = run_command("govern", "token-list", *arguments[:2], "--out", "plain", *arguments[4:-1])
    cells = [cell.strip() for cell in out.split("│")]
    assert {name: cells[cells.index(name) + 1] for name in ("tokens", "excluded", "not_found")} == {
        "tokens": "2", "excluded": "1", "not_found": "0"}  # fmt: skip
    arguments[arguments.index("sharing.key")] = "store.key"
    code, _, error = run_command("govern", "token-list", *arguments[:3], "again", *arguments[4:])
    assert code == 1 and "holds a key for records, expected one for sharing" in error


def test_exclusions_are_read_and_an_error_does_not_show_a_line_that_is_no_token(tmp_path):
    pd.DataFrame({"number": [token("off")], "why": ["cleared"]}).to_parquet(tmp_path / "exclusions.parquet")
    assert read_excluded(tmp_path / "exclusions.parquet") == {token("off")}
    (tmp_path / "off").write_text(f"{token('off')}\n13812345679\n")
    with pytest.raises(ValueError, match="line 2: expected a token") as error:
        read_excluded(tmp_path / "off")
    assert "138" not in str(error.value).removeprefix(str(tmp_path))


def test_numbers_of_the_store_are_matched_in_any_notation_under_a_sharing_key_alone():
    numbers = ["+86 138-0000-0000", "13800000001", "x"]
    assert list(only(numbers, {token("certified")}, STORE, SHARED)) == numbers[:1]
    for wrong in (STORE, Key("share1", STORE.secret, None, "sharing"), Key("e2", bytes(range(33)))):
        with pytest.raises(ValueError, match="a sharing key with another secret"):
            list(only(["13800000000"], {token("certified")}, STORE, wrong))


def test_an_invalid_table_of_findings_is_refused_in_one_line(tmp_path):
    (tmp_path / "findings.parquet").write_bytes(b"PAR1")
    with refused("expected a Parquet file with columns number, nuisance, known_at"):
        choose(None, tmp_path / "findings.parquet")
