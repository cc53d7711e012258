"""What users hand in, checked and brought into the form that kernels read: samples, targets, weights, tables."""
