"""Only flagged, certified or confirmed numbers are shared, under a key of their own, and cleared ones are withdrawn."""

import json
from datetime import UTC, datetime

import pandas as pd
import pytest

from callsieve.features.files.dates import DAY, now_ms
from callsieve.features.keys.tokens import Key
from callsieve.serving.bundle.signing import generate_signing_key
from callsieve.serving.lists.following import open_lists
from callsieve.training.oversight.governance.sharing import Chosen, Flagged, candidates_among, choose, read_excluded
from tests.support import real_bundle
from tests.support.errors import refused
from tests.support.lists import SHARED, token_of, write_toml

STORE = Key("e1", bytes(range(32)))
NAMES = ("certified", "flagged", "few", "gentle", "listed", "confirmed", "cleared", "off", "none")
NUMBERS = {name: f"138{n:08d}" for n, name in enumerate(NAMES)}
BLOCKED, LABELLED = ("block", "certified", "", "illegal"), ("label", "certified", "", "")
FOLLOWED = ("block", "watch", "listed_confirmed", "")  # only because other lists have the number
REMEMBERED = ("label", "watch", "ring_once,flagged", "marketing")


def token(name):
    return STORE.token("number", "+86" + NUMBERS[name])


@pytest.fixture
def input_files(tmp_path):
    """Files of verdicts and findings, of yesterday; every number has a history of its own kind."""
    calls = {"certified": [BLOCKED] * 12, "flagged": [REMEMBERED], "few": [BLOCKED] * 9, "gentle": [LABELLED] * 50,
             "listed": [FOLLOWED] * 50, "cleared": [BLOCKED] * 20, "off": [BLOCKED] * 30}  # fmt: skip
    begin = now_ms() - DAY
    rows = [(begin + n, token(name), f"e1.{n:032d}".translate(str.maketrans("0123456789", "abcdefghij")), *how)
            for name, drawn in calls.items() for n, how in enumerate(drawn)]  # fmt: skip
    columns = ["start", "caller", "callee", "action", "band", "rules", "plan_class"]
    pd.DataFrame(rows, columns=columns).to_parquet(tmp_path / "verdicts.parquet")
    findings = [("confirmed", False, -1), ("confirmed", True, 0), ("cleared", True, -1), ("cleared", False, 0),
                ("none", True, 36_000)]  # fmt: skip
    start, columns = pd.Timestamp(begin, unit="ms", tz="UTC"), ["number", "nuisance", "known_at"]
    frame = pd.DataFrame([(token(n), w, start + pd.Timedelta(days=day)) for n, w, day in findings], columns=columns)
    frame.to_parquet(tmp_path / "findings.parquet")
    return tmp_path / "verdicts.parquet", tmp_path / "findings.parquet", begin


@pytest.mark.source("L18", by="training/oversight/governance/sharing.py")
def test_only_flagged_certified_and_confirmed_numbers_are_chosen(input_files):
    *files, begin = input_files
    chosen = choose(*files, excluded={token("off"), token("none")})
    assert chosen.listed == {
        token("certified"): Flagged("illegal", begin, begin + 11),
        token("flagged"): Flagged("marketing", begin, begin),
        token("confirmed"): Flagged("nuisance", begin, begin),
    }
    assert chosen.withdrawn == {token("off"), token("none"), token("cleared")}
    assert (chosen.certified, chosen.confirmed, chosen.cleared, chosen.excluded) == (4, 1, 1, 1)
    assert choose(None, None).listed == {}
    early = choose(*files, until=datetime.fromtimestamp(begin / 1000 + 0.0105, UTC))
    assert early.listed[token("certified")].last == begin + 10


@pytest.mark.usefixtures("input_files")
def test_lists_are_published_under_the_sharing_key_and_cleared_numbers_are_withdrawn(
    run_command, command_error, tmp_path, monkeypatch
):
    STORE.write(tmp_path / "store.key")
    generate_signing_key(tmp_path / "list.key", tmp_path / "issuer.pub")
    write_toml(tmp_path, "own")
    (tmp_path / "off").write_text(token("off") + "\n")
    (tmp_path / "numbers").write_text("\n".join([*NUMBERS.values(), "+86 138 0000 0000", "", "110"]) + "\n")
    real_bundle.write_signed(tmp_path)
    monkeypatch.chdir(tmp_path)
    publish = ["govern", "token-list", "publish", "numbers", "--out", "own", "--issuer", "own", "--json",
             "--key", "sharing.key", "--signing-key", "list.key"]  # fmt: skip
    reasons = ["--store-key", "store.key", "--issued", "issued", "--verdicts", "verdicts.parquet", "--exclude", "off"]
    code, out, _ = run_command(*publish, *reasons, "--findings", "findings.parquet")
    facts = json.loads(out)
    assert code == 0 and (facts["listed"], facts["new"], facts["withdrawn"], facts["repeated"]) == (3, 3, 0, 1)
    assert 86_000 < facts["flagged_to_published_seconds"] < 90_000 and facts["error_bound"] is None
    lists = open_lists(tmp_path / "lists.toml")

    def listed():
        lists.refresh()
        at = now_ms() + 1000
        return {name for name, number in NUMBERS.items() if lists.listed.at(lists.listed.token(number), at)}

    assert listed() == {"certified", "flagged", "confirmed"}
    assert b"e1." not in b"".join(file.read_bytes() for file in (tmp_path / "own").iterdir())
    # The number is cleared, and no record has it any longer.
    (tmp_path / "numbers").write_text(NUMBERS["flagged"] + "\n")
    (tmp_path / "off").write_text(token("certified") + "\n")
    code, out, _ = run_command(*publish, *reasons, "--bundle", "bundle")
    facts = json.loads(out)
    assert code == 0 and (facts["listed"], facts["new"], facts["withdrawn"]) == (2, 0, 1)
    assert listed() == {"flagged", "confirmed"}
    assert "--store-key needs --issued" in command_error(*publish, "--store-key", "store.key", code=2)
    publish[publish.index("sharing.key")] = "store.key"
    assert "holds a key for records, expected one for sharing" in command_error(*publish)


def test_exclusions_are_read_and_an_error_does_not_show_a_line_that_is_no_token(tmp_path):
    pd.DataFrame({"number": [token("off")], "why": ["cleared"]}).to_parquet(tmp_path / "exclusions.parquet")
    assert read_excluded(tmp_path / "exclusions.parquet") == {token("off")}
    (tmp_path / "off").write_text(f"{token('off')}\n13812345679\n")
    with pytest.raises(ValueError, match="line 2: expected a token") as error:
        read_excluded(tmp_path / "off")
    assert "138" not in str(error.value).removeprefix(str(tmp_path))


def test_numbers_of_the_store_are_matched_in_any_notation_under_a_sharing_key_alone(tmp_path):
    now = 20_000 * DAY
    chosen = Chosen({token("certified"): Flagged("illegal", now, now)})
    numbers = ["+86 138-0000-0000", "13800000001", "x"]
    (entry,) = candidates_among(numbers, chosen, STORE, SHARED, tmp_path / "issued", now).entries
    assert entry == (token_of(NUMBERS["certified"]), "illegal", now, now)
    for wrong in (STORE, Key("share1", STORE.secret, None, "sharing"), Key("e2", bytes(range(33)))):
        with pytest.raises(ValueError, match="a sharing key with another secret"):
            candidates_among(["13800000000"], chosen, STORE, wrong, tmp_path / "issued", now)


def test_an_invalid_table_of_findings_is_refused_in_one_line(tmp_path):
    (tmp_path / "findings.parquet").write_bytes(b"PAR1")
    with refused("expected a Parquet file with columns number, nuisance, known_at"):
        choose(None, tmp_path / "findings.parquet")
