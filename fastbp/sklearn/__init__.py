"""Estimators for scikit-learn (extra `sklearn`): its own multi-layer perceptrons, trained by fastbp."""

try:
    import sklearn as _  # noqa: F401
except ImportError as error:
    raise ImportError("the estimators need scikit-learn: pip install 'fastbp[sklearn]'") from error

from fastbp.sklearn.classifier import MLPClassifier
from fastbp.sklearn.regressor import MLPRegressor

__all__ = ["MLPClassifier", "MLPRegressor"]
