"""What `MLP.fit` does: the loop over epochs, the feeds of rows, L-BFGS, checkpoints and progress."""
