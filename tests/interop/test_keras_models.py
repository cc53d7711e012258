"""Models of Keras 3 itself, in memory and saved: needs keras, of the extra `heavy`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from exported import close
from peers import keras, needs

import fastbp
from fastbp.interop import keras_layers

layers = keras.layers
X = np.random.default_rng(0).normal(2.0, 3.0, (30, 4)).astype("f")
# NumPy's word on Keras's own arrays.
pytestmark = [needs("keras"), pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")]


def random(model: Any) -> Any:
    """With weights that are not those of a start."""
    rng = np.random.default_rng(1)
    model.set_weights([rng.standard_normal(one.shape) for one in model.get_weights()])
    return model


def functional() -> Any:
    inputs = keras.Input((4,))
    return keras.Model(inputs, layers.Dense(2)(layers.Dropout(0.1)(layers.ReLU()(layers.Dense(5)(inputs)))))


MODELS = {
    **{
        name: lambda name=name: keras.Sequential([keras.Input((4,)), layers.Dense(6, name), layers.Dense(2)])
        for name in keras_layers.ACTIVATIONS
        if keras_layers.ACTIVATIONS[name] not in ("softmax", "exponential")
    },
    "softmax": lambda: keras.Sequential([keras.Input((4,)), layers.Dense(6, "tanh"), layers.Dense(3, "softmax")]),
    "exponential": lambda: keras.Sequential([keras.Input((4,)), layers.Dense(2, "exponential")]),
    "sigmoid at the end": lambda: keras.Sequential([keras.Input((4,)), layers.Dense(2, "sigmoid")]),
    "functional": functional,
    "images": lambda: keras.Sequential([keras.Input((2, 2)), layers.Rescaling(0.1), layers.Flatten(), layers.Dense(3)]),
    "rescaling": lambda: keras.Sequential([keras.Input((4,)), layers.Rescaling(0.1), layers.Dense(3)]),
}


@pytest.mark.parametrize("name", MODELS)
def test_models_in_memory_and_in_files(name: str, tmp_path: Path) -> None:
    model = random(MODELS[name]())
    model.save(tmp_path / "model.keras")
    expected = np.asarray(model(X.reshape(-1, *model.input_shape[1:])))
    for source in (model, tmp_path / "model.keras"):
        net = fastbp.from_keras(source)
        found = net.predict_proba(X) if net.loss.link.classifies else net.predict(X)
        assert close(np.reshape(found, expected.shape), expected), name


def test_normalization_loss_and_training_that_goes_on(tmp_path: Path) -> None:
    normalization = layers.Normalization()
    normalization.adapt(X)
    model = keras.Sequential([keras.Input((4,)), normalization, layers.Dense(8, "relu"), layers.Dense(3)])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("adam", loss)
    y = np.arange(30) % 3
    model.save(tmp_path / "model.keras")
    net = fastbp.from_keras(tmp_path / "model.keras")
    assert net.loss.name == "cross_entropy"
    assert close(net.forward(X), np.asarray(model(X)))
    assert abs(net.evaluate(X, y)["loss"] - float(loss(y, model(X)))) < 1e-5
    assert net.fit(X, y, epochs=20).loss[-1] < float(loss(y, model(X)))
    for loss, expected in [("mae", "mae"), ("huber", "huber"), (keras.losses.Huber(2.0), "mse")]:
        model.compile("adam", loss)
        assert fastbp.from_keras(model).loss.name == expected


def test_the_refusal_of_what_keras_has_more() -> None:
    for layer, says in [
        (layers.BatchNormalization(), "batch_normalization"),
        (layers.PReLU(), "PReLU"),
        (layers.Dense(3, "relu6"), "relu6"),
        (layers.LeakyReLU(), "negative_slope=0.3"),
        (layers.ReLU(6.0), "max_value=6.0"),
        (layers.GaussianNoise(0.1), "GaussianNoise"),
    ]:
        with pytest.raises(ValueError, match=says):
            fastbp.from_keras(keras.Sequential([keras.Input((4,)), layers.Dense(3), layer]))
    deep = keras.Sequential([keras.Input((3, 4)), layers.Dense(2)])
    with pytest.raises(ValueError, match=r"takes inputs of shape .* put a Flatten before it"):
        fastbp.from_keras(deep)
