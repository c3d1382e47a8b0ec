"""Replace scikit-learn's MLP in a pipeline and a grid search.

`MLPClassifier` and `MLPRegressor` have scikit-learn's parameters, attributes and defaults; the import is the change.

    python examples/scikit_learn.py
"""

import time
import warnings

from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import fastmlp as fm

X, y = load_digits(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(X, y, random_state=0, stratify=y)
warnings.simplefilter("ignore", ConvergenceWarning)  # 30 epochs are few for some settings of the grid

# ## The same pipeline with both classes


def fit(kind):
    net = kind((64,), max_iter=30, random_state=0)
    began = time.perf_counter()
    pipeline = make_pipeline(StandardScaler(), net).fit(X_train, y_train)
    return pipeline.score(X_test, y_test), time.perf_counter() - began


fit(fm.MLPClassifier)  # the first fit of a process loads the kernels
for name, kind in {"scikit-learn": MLPClassifier, "fastmlp": fm.MLPClassifier}.items():
    score, seconds = fit(kind)
    print(f"{name:12} accuracy {score:.3f} in {seconds:.2f} s")

# ## A grid search
#
# Parameters that scikit-learn does not have, such as dropout, are searched in the same way.

grid = {"mlpclassifier__hidden_layer_sizes": [(32,), (64, 32)], "mlpclassifier__dropout": [0.0, 0.2]}
search = GridSearchCV(make_pipeline(StandardScaler(), fm.MLPClassifier(max_iter=30, random_state=0)), grid, cv=3)
search.fit(X_train, y_train)
print("best:", {name.partition("__")[2]: value for name, value in search.best_params_.items()})
print(f"accuracy {search.score(X_test, y_test):.3f}")

# ## Serve the result
#
# `compiled_predict` returns a function that needs microseconds for a row. Its labels are the same.

net = search.best_estimator_[-1]
scaled = search.best_estimator_[0].transform(X_test)
predict = net.compiled_predict()
print("same labels:", bool((predict(scaled) == net.predict(scaled)).all()))
