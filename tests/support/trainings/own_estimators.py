"""Small classifiers as a user brings them to a training."""

from lightgbm import LGBMClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from xgboost import XGBClassifier


def boosting():
    return XGBClassifier(n_estimators=10, max_depth=3, n_jobs=1)


def lightgbm():
    return LGBMClassifier(n_estimators=10, num_leaves=7, n_jobs=1, verbosity=-1, deterministic=True)


def pipeline():
    return make_pipeline(SimpleImputer(keep_empty_features=True), StandardScaler(), LogisticRegression())


def without_imputer():
    return LogisticRegression()


def nothing():
    return None


NOT_A_MAKER = 3
