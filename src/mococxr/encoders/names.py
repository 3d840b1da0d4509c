"""How an encoder that the user named is called in tables."""

from __future__ import annotations

from pathlib import Path

PLAIN = ("imagenet", "random")


def short_name(encoder: str) -> str:
    """What an encoder is called in tables: the last part of its name, without a weights file's ending."""
    last = Path(encoder.rpartition(":")[2].partition("@")[0]).name
    for suffix in (".safetensors", ".pth", ".pt", ".bin"):
        last = last.removesuffix(suffix)
    return last


def shown_name(encoder: str) -> str:
    """An encoder as the user named it, without the place of a folder or file on this machine."""
    if encoder in PLAIN or not Path(encoder.rpartition(":")[2]).exists():
        return encoder
    kind, colon, rest = encoder.rpartition(":")
    return f"{kind}{colon}{Path(rest).name}"
