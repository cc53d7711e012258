"""Write the `.keras` files beside this script, and what their models predict: KERAS_BACKEND=jax python make_keras.py

By Keras 3 on JAX; the tests read them without Keras.
"""

from __future__ import annotations

import json
import os
import zipfile
from pathlib import Path
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "jax")
import keras
import numpy as np
from keras import layers

HERE = Path(__file__).parent


def classifier() -> Any:
    """Normalization, Dropout, and activations as layers and by name."""
    normalization = layers.Normalization()
    normalization.adapt(np.random.default_rng(0).normal(5.0, 2.0, (60, 4)))
    dense = [layers.Dense(8, "relu"), layers.Dropout(0.25), layers.Dense(6, use_bias=False), layers.LeakyReLU(0.01)]
    return keras.Sequential([keras.Input((4,)), normalization, *dense, layers.Dense(3), layers.Softmax()])


def regression() -> Any:
    """A functional model, with another inside."""
    inputs = keras.Input((4,))
    inner = keras.Sequential([keras.Input((4,)), layers.Dense(7), layers.Activation("gelu")])
    hidden = layers.ELU()(layers.Dense(5)(inner(layers.Rescaling(0.5, -1.0)(inputs))))
    model = keras.Model(inputs, layers.Dense(2)(hidden))
    model.compile("sgd", "mae")
    return model


def packed(path: Path) -> None:
    """The same archive, compressed: Keras stores it as it is."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)


if __name__ == "__main__":
    keras.utils.set_random_seed(0)
    X = np.random.default_rng(1).normal(5.0, 2.0, (10, 4)).astype("f")
    told: dict[str, Any] = {"keras": keras.version(), "X": X.tolist()}
    for make in (classifier, regression):
        model = make()
        model.set_weights([one + 0.1 * (k % 3) for k, one in enumerate(model.get_weights())])
        model.save(path := HERE / f"{make.__name__}.keras")
        told[make.__name__] = np.asarray(keras.models.load_model(path)(X)).tolist()
    packed(HERE / "regression.keras")
    (HERE / "keras_predictions.json").write_text(json.dumps(told, indent=1) + "\n")
