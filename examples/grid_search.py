"""scikit-learn's pipelines, grids and cross-validation, with fastbp's estimators (extra `sklearn`)."""

from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from fastbp.sklearn import LearningRateSearchCV, MLPClassifier

X, y = load_breast_cancer(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=0.3, stratify=y, random_state=0)

# fastbp's estimator takes the place of scikit-learn's: same parameters, same attributes, same random draws.
pipe = make_pipeline(StandardScaler(), MLPClassifier(max_iter=500, random_state=0))
grid = {
    "mlpclassifier__hidden_layer_sizes": [(8,), (32,), (32, 16)],
    "mlpclassifier__alpha": [1e-4, 1.0],
    "mlpclassifier__learning_rate_init": [0.003, 0.03],
}
search = GridSearchCV(pipe, grid, cv=5, scoring="neg_log_loss").fit(X_train, y_train)
print(f"{len(search.cv_results_['params'])} settings x 5 folds; the best:")
for name, value in search.best_params_.items():
    print(f"  {name.partition('__')[2]:20} {value}")
accuracy = search.best_estimator_.score(X_test, y_test)
print(f"log loss in the folds {-search.best_score_:.3f}, on the test rows {-search.score(X_test, y_test):.3f}")
print(f"right on {accuracy:.1%} of the test rows")

# The learning rate alone has a search of its own, which trains all rates and folds side by side.
scaled = StandardScaler().fit(X_train)
plain = MLPClassifier((32,), max_iter=500, random_state=0)
rates = LearningRateSearchCV(plain, [0.001, 0.003, 0.01, 0.03, 0.1], cv=5, scoring="neg_log_loss")
rates.fit(scaled.transform(X_train), y_train)
print("and by learning rate alone, log loss in the folds:")
for lr, score in zip(rates.cv_results_["param_learning_rate_init"], rates.cv_results_["mean_test_score"], strict=True):
    print(f"  {lr:<6g} {-score:.3f}" + ("  the best" if lr == rates.best_params_["learning_rate_init"] else ""))

assert accuracy > 0.95
