"""Names of types that all modules share."""

from typing import Any

import numpy.typing as npt

Array = npt.NDArray[Any]
