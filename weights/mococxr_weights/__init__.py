"""The encoder mococxr-lite0 as files, which the package mococxr reads; there is nothing to import."""
