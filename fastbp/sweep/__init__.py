"""Learning-rate sweeps: many trainings side by side, and what they say."""
