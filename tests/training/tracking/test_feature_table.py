"""Training on an external feature table: reading, excluded columns, and figures."""

from functools import partial

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit
from sklearn.metrics import balanced_accuracy_score, f1_score, roc_auc_score

from callsieve.serving.bundle.model_text import check_structure
from callsieve.serving.custody.purposes import declare
from callsieve.training.tracking.feature_table import classifier_figures, read_table, train_ready_made
from tests.support.paths import DATA

read = partial(read_table, purpose="training")
SICHUAN = DATA / "sichuan_eight_months.parquet"


def declare_folder(folder):
    declare(folder, "table of the test", "contract", ["training"], "2999-12-31")
    return folder


@pytest.fixture(scope="module")
def frame():
    rng = np.random.default_rng(7)
    score = rng.normal(size=1500)
    return pd.DataFrame(
        {
            "subscriber": rng.permutation(1500) + 10**6,  # a distinct whole number in every row
            "city": rng.choice(["north", "south"], 1500),
            "calls": np.round(40 + 20 * score + rng.normal(size=1500)),
            "share": np.where(rng.random(1500) < 0.1, np.nan, rng.random(1500)),
            "weekend": rng.random(1500) < 0.5,
            "label": (rng.random(1500) < expit(2 * score - 0.5)).astype(int),
        }
    )


@pytest.fixture(params=["table.parquet", "table.csv"])
def path(frame, tmp_path, request):
    path = declare_folder(tmp_path) / request.param
    frame.to_csv(path, index=False) if path.suffix == ".csv" else frame.to_parquet(path)
    return path


def test_identifiers_and_text_columns_are_left_out(path, frame):
    table = read(path, "label")
    assert table.names == ("calls", "share", "weekend")
    assert table.left_out == ("subscriber", "city")
    assert table.y.tolist() == frame["label"].tolist()
    np.testing.assert_array_equal(table.X, frame[["calls", "share", "weekend"]].to_numpy(dtype=float))


def test_where_selects_rows(path, frame):
    table = read(path, "label", "calls >= 50 and city == 'north'")
    selected = frame[(frame["calls"] >= 50) & (frame["city"] == "north")]
    assert len(table.y) == len(selected)
    np.testing.assert_array_equal(table.X[:, 0], selected["calls"])


@pytest.mark.parametrize(
    ("label", "where", "says"),
    [
        ("fraud", None, "no column 'fraud'; it has subscriber, city, calls"),
        ("calls", None, "column 'calls' must hold 0 and 1, got"),
        ("city", None, "column 'city' must hold 0 and 1, got"),
        ("share", None, "column 'share' must hold 0 and 1, got"),
        ("label", "label == 1", "column 'label' must hold 0 and 1, got [1]"),
        ("label", "calls > 10**9", "column 'label' must hold 0 and 1, got []"),
        ("label", "nothing > 3", "--where 'nothing > 3': expected a condition on columns"),
        ("label", "calls >", "--where 'calls >': expected a condition on columns"),
        ("label", "calls + 1", "--where 'calls + 1': expected a condition on columns"),
    ],
)
def test_invalid_options_are_refused(path, label, where, says):
    with pytest.raises(ValueError) as error:
        read(path, label, where)
    assert says in str(error.value)


def test_a_file_that_is_no_table_for_training_is_refused(tmp_path):
    (declare_folder(tmp_path) / "broken.parquet").write_bytes(b"PAR1 but not really")
    pd.DataFrame({"x": [1.0, 2.0, 3.0], "label": ["1", None, "0"]}).to_parquet(tmp_path / "mixed.parquet")
    for name, says in (
        ("missing.parquet", "not found"),
        ("missing.csv", "not found"),
        ("broken.parquet", "expected a Parquet or CSV table"),
        ("mixed.parquet", "column 'label' must hold 0 and 1, got"),
    ):
        with pytest.raises(ValueError, match=says):
            read(tmp_path / name, "label")
    (tmp_path / "table.csv").write_text("calls,label\n1,0\n")
    declare(tmp_path, "table of the test", "contract", ["statistics"], "2999-12-31", change=True)
    with pytest.raises(ValueError, match="declared for statistics, not for training"):
        read(tmp_path / "table.csv", "label")


@pytest.mark.system
def test_a_whole_training_gives_the_same_result_on_two_threads(path):
    table = read(path, "label")
    text, result = train_ready_made(table, threads=1)
    assert result["rows"] == {"all": 1500, "train": 900, "valid": 300, "test": 300}
    assert result["positive_share"] == pytest.approx(table.y.mean())
    assert result["left_out"] == ["subscriber", "city"]
    assert result["test"]["auc"] > 0.8  # the best possible score gets 0.88
    check_structure(text, table.names, classes=1, levels={})
    assert train_ready_made(table, threads=2) == (text, result)


def test_figures_equal_their_definitions():
    rng = np.random.default_rng(1)
    y = rng.integers(0, 2, 400)
    raw = np.round(rng.normal(size=400) + y, 1)
    figures = classifier_figures(y, raw)
    above, below = raw[y == 1][:, None], raw[y == 0][None, :]
    assert figures["auc"] == pytest.approx((above > below).mean() + (above == below).mean() / 2)
    assert figures["auc"] == pytest.approx(roc_auc_score(y, raw))
    flagged = raw >= 0
    recalls = [(flagged[y == kind] == kind).mean() for kind in (0, 1)]
    assert figures["macro_recall"] == pytest.approx(np.mean(recalls)) == balanced_accuracy_score(y, flagged)
    assert figures["g_mean"] == pytest.approx(np.sqrt(recalls[0] * recalls[1]))
    assert figures["macro_f1"] == pytest.approx((f1_score(y, flagged) + f1_score(1 - y, ~flagged)) / 2)


@pytest.mark.system
@pytest.mark.skipif(not SICHUAN.exists(), reason="the Sichuan table is not beside the project")
def test_sichuan_figures_are_high(tmp_path):
    (declare_folder(tmp_path) / SICHUAN.name).symlink_to(SICHUAN.resolve())
    _, result = train_ready_made(read(tmp_path / SICHUAN.name, "label"), threads=2)
    assert result["test"]["auc"] >= 0.94
    assert result["test"]["macro_f1"] >= 0.88
    assert result["rows"]["all"] == sum(result["rows"][side] for side in ("train", "valid", "test"))
