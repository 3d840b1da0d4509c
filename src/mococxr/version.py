"""The package's version, read by the build and written into every output."""

VERSION = "0.1.0"
