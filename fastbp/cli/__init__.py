"""The commands of the command line; nothing here is public API."""
