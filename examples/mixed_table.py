"""A table with categories, dates and missing values.

`TabularClassifier` takes a data frame as it is, encodes its columns, and trains an ensemble of small networks.

    python examples/mixed_table.py
"""

import numpy as np
import pandas as pd

import fastmlp as fm

# Customers of a shop, made up: numbers with missing values, texts, a yes or no, and a date.
rng = np.random.default_rng(0)
rows = 1500
table = pd.DataFrame(
    {
        "age": np.where(rng.random(rows) < 0.1, np.nan, rng.integers(18, 90, rows)),
        "income": rng.lognormal(10, 0.6, rows),
        "city": rng.choice(["Rome", "Oslo", "Lima", None], rows, p=[0.4, 0.3, 0.2, 0.1]),
        "member": rng.random(rows) < 0.3,
        "since": pd.Timestamp("2020-01-01") + pd.to_timedelta(rng.integers(0, 2000, rows), unit="D"),
    }
)
interest = np.log(table["income"]) - 10 + table["member"] + (table["city"] == "Oslo") - 0.01 * table["age"].fillna(50)
bought = np.where(interest + 0.4 * rng.standard_normal(rows) > 0.1, "yes", "no")

# ## Fit
#
# The first 1,200 rows are for training. The preset "fast" trains two networks, "balanced", the default, eight.

train, test = table[:1200], table[1200:]
model = fm.TabularClassifier("fast", random_state=0).fit(train, bought[:1200])
print(f"accuracy on new rows: {model.score(test, bought[1200:]):.3f}")
print(model.encoder_.summary())

# ## New rows
#
# Columns may come in another order, categories may be new, and values may be missing.

new = pd.DataFrame({"city": ["Cairo", None], "income": [52_000.0, np.nan], "age": [31, 64], "member": [True, False]})
new["since"] = pd.Timestamp("2025-06-01")
for probability in model.predict_proba(new)[:, 1]:
    print(f"probability of a purchase: {probability:.2f}")

# ## Rows that a network did not train on
#
# Each network holds out a part of the rows; their predictions judge the model without a test set.

held_out = model.oof_predict_proba_
seen = ~np.isnan(held_out).any(axis=1)
accuracy = (model.classes_[held_out[seen].argmax(axis=1)] == bought[:1200][seen]).mean()
print(f"accuracy on held-out rows: {accuracy:.3f}")

# Saved files contain no pickle.

model.save("shop.safetensors")
same = fm.TabularClassifier.load("shop.safetensors").predict_proba(new) == model.predict_proba(new)
print("the loaded model predicts the same:", bool(same.all()))
