"""Tables of mixed columns: what they hold is decided, encoded as numbers, learned, and kept in the model's file."""
