"""The version number, in the one place that the build, the cache folder and the command line read."""

__version__ = "0.1.0"
