"""Compiled kernels on disk: stale code is impossible, damaged code is noticed, a lost race costs nothing.

Numba's own cache does not see edits in other files, nor changed intrinsics or flags. Here the directory is named by a
hash of everything that the code depends on, and holds one checksummed file a function and signature, written whole.
"""

from __future__ import annotations

import hashlib
import os
import pickle
import platform
import sys
import tempfile
import warnings
from functools import cache
from pathlib import Path

import llvmlite
import numba
import numpy as np
from numba.core.compiler import CompileResult
from numba.core.serialize import dumps

_DIGEST_BYTES = 32


def cpu_name_and_features() -> tuple[str, str]:
    """The CPU that Numba compiles for, honouring NUMBA_CPU_NAME and NUMBA_CPU_FEATURES.

    As in Numba, a name alone brings no features: they are those of this machine, but for "generic", which has none.
    """
    import llvmlite.binding as llvm

    name, features = numba.config.CPU_NAME, numba.config.CPU_FEATURES
    if features is None:
        features = llvm.get_host_cpu_features().flatten()
    return name or llvm.get_host_cpu_name(), features


@cache
def fingerprint() -> str:
    """Hash of the kernels' sources, the versions, the CPU and Numba's settings: the name of the directory."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    config = numba.config
    settings = (config.OPT, config.LOOP_VECTORIZE, config.SLP_VECTORIZE, config.ENABLE_AVX, config.DEBUGINFO_DEFAULT)
    about = (
        sys.version, numba.__version__, llvmlite.__version__, np.__version__, platform.machine(), sys.platform,
        *cpu_name_and_features(), *(str(setting) for setting in settings),
    )  # fmt: skip
    digest.update("\0".join(about).encode())
    return digest.hexdigest()[:24]


def user_cache_folder() -> Path:
    """Where this user's caches live, by the custom of the system; FASTBP_CACHE_DIR overrides it."""
    chosen = os.environ.get("FASTBP_CACHE_DIR")
    if chosen:
        return Path(chosen)
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local")) / "fastbp" / "Cache"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "fastbp"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fastbp"


@cache
def cache_folder() -> Path:
    """The folder of this build's machine code; where it cannot be written, a temporary one, with a warning."""
    folder = user_cache_folder() / fingerprint()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError as error:
        problem = error.strerror or str(error)
    if any(folder.glob("*.bin")):  # read-only, but filled: what `fastbp warmup` left in an image
        return folder
    warnings.warn(
        f"fastbp cannot keep compiled kernels in {user_cache_folder()} ({problem}): every new process compiles anew. "
        "Set FASTBP_CACHE_DIR to a folder that can be written.",
        RuntimeWarning,
        stacklevel=2,
    )
    return Path(tempfile.mkdtemp(prefix="fastbp-"))


class KernelCache:
    """The cache of one function, as a Numba dispatcher wants it: load_overload and save_overload."""

    def __init__(self, name: str):
        self.name = name

    def path(self, signature) -> Path:
        return self.path_of(signature[-1].name)

    def path_of(self, dtype: str) -> Path:
        """Where the code of a dtype is kept."""
        return cache_folder() / f"{self.name}-{dtype}.bin"

    def load_overload(self, signature, target_context):
        """The compile result of a signature, or None where there is none that can be trusted."""
        path = self.path(signature)
        try:
            content = path.read_bytes()
        except OSError:
            return None
        if hashlib.sha256(content[_DIGEST_BYTES:]).digest() != content[:_DIGEST_BYTES]:
            warnings.warn(f"{path} is damaged: it is compiled anew.", RuntimeWarning, stacklevel=2)
            return None
        return CompileResult._rebuild(target_context, *pickle.loads(content[_DIGEST_BYTES:]))

    def save_overload(self, signature, result) -> None:
        """Write the file whole or not at all: of two processes, the later one wins with the same code."""
        payload = dumps(result._reduce())
        path = self.path(signature)
        try:
            with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
                file.write(hashlib.sha256(payload).digest() + payload)
            os.replace(file.name, path)
        except OSError as error:
            warnings.warn(f"{path} could not be written ({error}): it is compiled anew.", RuntimeWarning, stacklevel=2)
