"""`python -m mococxr`, and with several processes `torchrun --nproc-per-node 2 -m mococxr pretrain ...`."""

from __future__ import annotations

from mococxr.cli import main

if __name__ == "__main__":
    main()
