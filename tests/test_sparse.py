"""SciPy sparse matrices: the same results as dense arrays."""

import numpy as np
import pytest

import fastmlp as fm

sparse = pytest.importorskip("scipy.sparse")


def rows():
    X = sparse.random(300, 40, 0.1, "csr", np.float64, random_state=0)
    return X, np.random.default_rng(0).integers(0, 3, 300)


@pytest.mark.parametrize("convert", [sparse.csr_array, sparse.csc_matrix, sparse.coo_array])
def test_training_and_predicting(convert, backend, dtype):
    X, y = rows()
    made = []
    for features in (X.toarray(), convert(X)):
        trainer = fm.Trainer(fm.MLP(40, [16], 3, dtype=dtype, rng=0), fm.CrossEntropyLoss(), fm.SGD(0.1))
        history = trainer.fit(features, y, validation=(features, y), batch_size=64, epochs=2, rng=0)
        outputs = trainer.predict_proba(features)
        made.append((trainer.model.state_dict(), history["train_loss"], history["val_loss"], outputs))
    ref, comp = made
    assert all((ref[0][name] == comp[0][name]).all() for name in ref[0])
    assert ref[1:3] == comp[1:3] and (ref[3] == comp[3]).all()


def test_bad_rows():
    X, y = rows()
    trainer = fm.Trainer(fm.MLP(7, [], 3), fm.CrossEntropyLoss(), fm.SGD(0.1))
    with pytest.raises(ValueError, match=r"X has shape \(300, 40\); expected \(N, 7\)"):
        trainer.fit(X, y)
    X.data[5] = np.nan
    trainer = fm.Trainer(fm.MLP(40, [], 3), fm.CrossEntropyLoss(), fm.SGD(0.1))
    with pytest.raises(ValueError, match="a stored number is nan at index 5; expected finite numbers"):
        trainer.fit(X, y)
