"""The works of many networks: all contestants of a sweep of rates do the same work, and shares are accounted for."""

from __future__ import annotations

from peers import needs

from fastbp.bench import many


@needs("torch", "jax")
def test_a_sweep_beside_its_rivals() -> None:
    work = many.rates(3, (4, 8, 3), 256, 2)
    work.round()
    assert set(work.seconds) == {"lr_sweep", "lr_sweep, 1 thread", "fit_many", "jax, vmap", "torch, loop"}
    assert all(len(times) == 1 and times[0] > 0 for times in work.seconds.values())
    assert work.shares == {"torch, loop": many.LOOPED / 3}
    found = work.make["lr_sweep"]()()
    assert found.status.shape == (3, 1)
    assert found.epochs_done.min() == 5
