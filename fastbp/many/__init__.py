"""Which learning rate, how stable, how long: range tests, sweeps, and the line where descent becomes unstable."""
