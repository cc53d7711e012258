"""A table from a CSV file: numbers, categories, dates and holes are learned as they are."""

import csv
import datetime

import numpy as np

import fastbp

# A table as one gets it: towns are texts, dates are texts too, some areas are missing.
rng = np.random.default_rng(0)
with open("homes.csv", "w", newline="", encoding="utf-8") as file:
    table = csv.writer(file)
    table.writerow(["town", "area", "built", "sold", "price"])
    for _ in range(2000):
        town, area, built = rng.choice(["Aix", "Bonn", "Cork"]), rng.uniform(30, 200), int(rng.integers(1900, 2024))
        sold = datetime.date(2020, 1, 1) + datetime.timedelta(days=int(rng.integers(0, 1500)))
        price = 3.0 * area * {"Aix": 1.0, "Bonn": 1.4, "Cork": 0.8}[town] + 0.5 * (built - 1900) + rng.normal(0, 15)
        table.writerow([town, f"{area:.1f}" if rng.random() > 0.1 else "", built, sold, f"{price:.1f}"])

# Kinds of columns, scaling, the network's size and its epochs are found; a fifth of the rows is held out to test on.
model = fastbp.TableModel(seed=0)
model.fit("homes.csv", target="price", test_fraction=0.2)
found = model.scores["test"]
print(f"off by {found['mae']:.0f} on average; who always says the mean is off by {found['baseline']['mae']:.0f}")

# How much worse it gets when a column is shuffled: what the prices hang on.
print("what matters, by the error that it adds:")
for name, worse in model.importance("homes.csv").items():
    print(f"  {name:6} {worse:6.1f} {' #' * round(worse / 8)}")

# The file holds columns, categories and scaling: all that predictions need.
model.save("homes.safetensors")
again = fastbp.TableModel.load("homes.safetensors")
rows = [{"town": town, "area": 100, "built": 2000, "sold": "2023-05-01"} for town in ("Aix", "Bonn", "Cork")]
prices = again.predict({name: [row[name] for row in rows] for name in rows[0]})
print("100 square metres of 2000: " + ", ".join(f"{r['town']} {p:.0f}" for r, p in zip(rows, prices, strict=True)))

assert found["mae"] < found["baseline"]["mae"] / 3
assert prices[1] > prices[0] > prices[2]
