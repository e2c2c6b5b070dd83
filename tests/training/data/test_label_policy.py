"""The label policy: reading, checking and writing its file."""

import json
import tomllib
from importlib.resources import files

import pytest
from msgspec.structs import replace

from callsieve.training.data.label_policy import policy_of, read_label_policy

SHIPPED = files("callsieve.training.data").joinpath("labels.toml").read_text()


@pytest.mark.source("L1", by="training/data/label_policy.py")
def test_a_policy_is_read_from_its_file_and_survives_a_round_trip_through_json(tmp_path):
    policy = read_label_policy()
    data = json.loads(json.dumps(policy.to_json()))
    assert policy_of(data) == policy
    assert data | {"effective": policy.effective} == tomllib.loads(SHIPPED)
    assert "courier" not in data["complaints"]["against"]
    (tmp_path / "own.toml").write_text(SHIPPED.replace(f'version = "{policy.version}"', 'version = "own 7"'))
    assert read_label_policy(tmp_path / "own.toml") == replace(policy, version="own 7")


@pytest.mark.parametrize(
    "text",
    [
        "version = ",
        'version = "1"',
        "\x00",
        'version = "1"\neffective = "soon"\n',
        'version = "1"\neffective = 2026-01-01\nfindings = 3\n',
        SHIPPED.replace("half_life_days = 30.0", "half_life_days = 0.0"),
        SHIPPED.replace("half_life_days = 30.0", "half_life_days = -1.0"),
        SHIPPED.replace("half_life_days = 30.0", "half_life_days = nan"),
        SHIPPED.replace("half_life_days = 30.0", "half_lives = 30.0"),
        SHIPPED.replace("minimum_share = 0.6", "minimum_share = 0.5"),
        SHIPPED.replace("confidence = 0.7", "confidence = 1.7"),
        SHIPPED.replace("nuisance = false", 'nuisance = "false"', 1),
        'version = "1"\neffective = 2026-01-01\nlists = "none"\nfindings.confidence = 1.0\ncomplaints.against = []\n',
    ],
)
def test_an_invalid_policy_file_is_an_error_of_one_line(tmp_path, text):
    assert text != SHIPPED
    path = tmp_path / "labels.toml"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"expected |invalid RFC3339|missing|unknown") as caught:
        read_label_policy(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_a_policy_file_that_is_not_text_is_an_error_of_one_line(tmp_path):
    path = tmp_path / "labels.toml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match="expected a TOML file"):
        read_label_policy(path)
