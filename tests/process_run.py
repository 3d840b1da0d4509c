"""A tiny run in a process of its own, or in several: `python process_run.py STORE OUT {settings as JSON}`.

Writes, as every rank sees them, hashes of its queue after each step, OUT-queue-<rank>.json; the precisions that its
queries left the head in, OUT-kinds-<rank>.json; and at its start its process, OUT-pid-<rank>.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from pathlib import Path
from typing import Any

import torch

from mococxr.pretraining.pretrain import METHODS
from small_run import tiny_run


def main(store: str, out: str, settings: str) -> None:
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    rank = os.environ.get("RANK", "0")
    Path(f"{out}-pid-{rank}").write_text(str(os.getpid()))
    hashes: list[str] = []
    kinds: set[str] = set()
    how = json.loads(settings)
    kind = METHODS[how.get("method", "moco")]
    step = kind.step

    def watched(method: Any, views: torch.Tensor, *given: Any) -> Any:
        head = method.network.head if hasattr(method.network, "head") else method.network.projector
        hook = head.register_forward_hook(lambda _, __, output: kinds.add(str(output.dtype)))
        result = step(method, views, *given)
        hook.remove()
        keys = method.queue.keys_KC if hasattr(method, "queue") else result.embeddings
        hashes.append(hashlib.sha256(keys.numpy().tobytes()).hexdigest())
        return result

    kind.step = watched
    tiny_run(Path(store), Path(out), **how)
    Path(f"{out}-queue-{rank}.json").write_text(json.dumps(hashes))
    Path(f"{out}-kinds-{rank}.json").write_text(json.dumps(sorted(kinds)))


if __name__ == "__main__":
    main(*sys.argv[1:])
