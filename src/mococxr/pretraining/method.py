"""What a self-supervised method is to the training loop, and what all of them share: head, optimiser, learning rate.

One more method is a file with one class, a line of `pretrain.METHODS`, and its settings: see `simclr.py`.

    N  images in a batch      n  of them on this process      S  side of a view      D  encoder feature      C  embedding
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from copy import deepcopy
from typing import Any, ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from mococxr.encoders import Encoder
from mococxr.errors import InputError
from mococxr.pretraining.auxiliary import Auxiliary, AuxiliaryHead
from mococxr.pretraining.diagnostics import Log, Verdict
from mococxr.settings import PRESETS, PretrainSettings, flag


class StepResult(NamedTuple):
    """What a step leaves for the log, detached and on the device.

    Args:
        loss: scalar, the mean over this process's images.
        logits: (n, 1 + K), the positive first, of a method that contrasts.
        embeddings: (N, C) unit vectors of all processes, of a method without a queue of them.
        auxiliary: scalar, the loss of predicting metadata (`--auxiliary`).
    """

    loss: Tensor
    logits: Tensor = torch.empty(0)
    embeddings: Tensor = torch.empty(0)
    auxiliary: Tensor = torch.zeros(())


class Words(NamedTuple):
    """How reports and model cards name a method."""

    name: str
    source: str


class OneProcess:
    """An accelerator's face for a process that computes alone: for trials, which others need not share."""

    scaler = None
    process_index, num_processes = 0, 1

    def __init__(self, accelerator: Accelerator) -> None:
        self.device, self._accelerator = accelerator.device, accelerator

    def prepare(self, network: nn.Module, optimizer: Optimizer) -> tuple[Callable[[Tensor], Any], Optimizer]:
        """The network under the accelerator's precision, which keeps no record of it."""

        def forward(images: Tensor) -> Any:
            with self._accelerator.autocast():
                return network(images)

        return forward, optimizer

    def autocast(self) -> AbstractContextManager[Any]:
        """The accelerator's precision."""
        return self._accelerator.autocast()

    def no_sync(self, _: object) -> AbstractContextManager[Any]:
        """Nothing is added up over processes anyway."""
        return nullcontext()

    def backward(self, loss: Tensor) -> None:
        """Gradients of a loss."""
        loss.backward()


class Method(ABC):
    """A self-supervised method: the loop knows a loss, a dict of measures, and a state.

    Base class of all: one network under one optimiser, over all processes. A method adds the class constants and the
    abstract members.

    Args:
        network: what gradient descent moves: its weights are checked, its gradients measured, its `encoder` is the run's.
        settings: of the run.
        accelerator: device, precision, processes.
    """

    words: ClassVar[Words]
    UNUSED: ClassVar[tuple[str, ...]] = ()
    """Settings that the method does not read: given with it, they are refused."""
    RUNNING: ClassVar[tuple[str, ...]]
    """Columns of the log that are means over the steps since the last line; the first is the loss."""
    MEASURES: ClassVar[tuple[str, ...]]
    """Columns of the log that are measured at the line."""
    chance: float | None = None
    """Loss of guessing; None where a loss has no such value."""
    trained = False
    """Whether a run before has pretrained the encoder that this one starts from: verdicts then expect no fresh start."""

    def __init__(self, network: nn.Module, settings: PretrainSettings, accelerator: Accelerator | OneProcess) -> None:
        s = settings
        self.settings, self.device = s, accelerator.device
        self.rank, self.world = accelerator.process_index, accelerator.num_processes
        self.network = network.train().to(accelerator.device)
        self.networks = [self.network]  # all that have weights: a method may add more
        if s.compile:
            # In place: the names of the weights, and so the checkpoints, are those of a run without.
            compile_for(s, self.encoder)
        self.optimizer: Optimizer = make_optimizer(s.optimizer, self.network, s.lr, s.weight_decay)
        if self.world > 1:
            leave_out_unused(self.network, s.size)
        self.wrapped: Any
        # DDP reads that list as it wraps the network
        self.wrapped, self.optimizer = accelerator.prepare(self.network, self.optimizer)
        self.average = Average(self.encoder, s.ema) if s.ema else None
        self.auxiliary: Auxiliary | None = None
        self.scaler = accelerator.scaler  # of fp16 alone
        self.backward, self.autocast = accelerator.backward, accelerator.autocast
        self.no_sync: Callable[[], AbstractContextManager[Any]] = lambda: accelerator.no_sync(self.wrapped)
        # Tensor of this process -> those of all, concatenated by rank.
        self.gather: Callable[[Tensor], Tensor] = lambda tensor: tensor
        if isinstance(accelerator, Accelerator) and self.world > 1:
            self.gather = lambda tensor: accelerator.gather(tensor.contiguous())  # NCCL sends nothing that is strided

    @classmethod
    def settle(cls, settings: PretrainSettings, images: int, world: int = 1) -> PretrainSettings:
        """Settings checked against the number of images, what depends on it filled in.

        Args:
            world: processes that share a batch.

        Raises:
            InputError: they do not fit.
        """
        refuse_too_few(settings, images, 1, world)
        return settings

    @abstractmethod
    def step(
        self, views: Tensor, lr: float, groups: Tensor | None = None, metadata_2nA: Tensor | None = None
    ) -> StepResult:
        """One update from two views of each image, (2, n, 1, S, S) uint8.

        Args:
            groups: a number for each image of all processes, (N,): images of one number are no negatives of each
                other. None: no two have one.
            metadata_2nA: values of this process's images on both sides for the auxiliary head, where there is one.
        """

    @abstractmethod
    def running(self, result: StepResult) -> Tensor:
        """The values of `RUNNING` for a step, (len(RUNNING),), without waiting for the device."""

    @abstractmethod
    def measures(self, result: StepResult) -> dict[str, float | None]:
        """The values of `MEASURES` now; every process calls it at the same step."""

    @abstractmethod
    def judge(self, log: Log, steps: int) -> Verdict:
        """One of `diagnostics.WORDS` on a run of `steps` steps from its log so far."""

    def facts(self) -> dict[str, Any]:
        """What `run.json` keeps of the method, for readers of its measures."""
        return {"guessing": self.chance}

    def remarks(self) -> list[str]:
        """What the user is told before the first step."""
        return []

    def pass_once(self, images: Tensor) -> None:
        """Every kind of pass that a step makes, over black images, for the compiler."""
        output = self.wrapped(torch.cat([images, images]))  # SimCLR's and SimSiam's step passes both views at once
        self.backward(sum(part.sum() for part in (output if isinstance(output, tuple) else (output,))))

    @property
    def encoder(self) -> Encoder:
        """The encoder that gradient descent moves."""
        return self.network.encoder  # type: ignore[return-value]

    @property
    def kept(self) -> Encoder:
        """The encoder that the run is for: the average of its steps (`--ema`), or as it is."""
        return self.average.encoder if self.average else self.encoder

    def predict(self, words: Sequence[int], accelerator: Accelerator) -> None:
        """Have an auxiliary head predict metadata columns from the encoder's features, from the next step on.

        Args:
            words: of each column how many words it has; 0 for numbers.
        """
        with seeded(self.settings.seed):
            head = AuxiliaryHead(words, self.encoder.spec.feature_dim).to(self.device)
        self.optimizer.add_param_group({"params": list(head.parameters())})
        self.auxiliary = Auxiliary(self.encoder, head, accelerator.prepare(head) if self.world > 1 else head)

    def auxiliary_loss(self, metadata: Tensor | None) -> Tensor:
        """The loss of the auxiliary head on the passes since the last one: (n, A) of one side, or (2, n, A) of both."""
        if self.auxiliary is None or metadata is None:
            return torch.zeros((), device=self.device)
        return self.auxiliary.loss(sent(metadata.flatten(0, -2), self.device))

    def update_average(self) -> None:
        """Have the average of the weights follow a step, where there is one."""
        if self.average:
            self.average.follow(self.encoder)

    def set_rate(self, lr: float) -> None:
        """The learning rate of the next update."""
        for group in self.optimizer.param_groups:
            group["lr"] = lr

    def shared_mean(self, value: float | None) -> float | None:
        """A number of each process -> their mean, where all have one."""
        # a process without the number gathers too, or the others wait
        values = torch.tensor([math.nan if value is None else value], device=self.device)
        mean = float(self.gather(values).mean())
        return None if math.isnan(mean) else mean

    def parts(self) -> dict[str, Any]:
        """What has a state: name in a checkpoint -> object with `state_dict` and `load_state_dict`."""
        parts = {"network": self.network, "optimizer": self.optimizer}
        head = self.auxiliary.head if self.auxiliary else None
        optional = {"scaler": self.scaler, "average": self.average, "auxiliary": head}
        return parts | {name: part for name, part in optional.items() if part}

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next step depends on and that is no function of seed and step."""
        return {name: part.state_dict() for name, part in self.parts().items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` gave."""
        for name, part in self.parts().items():
            part.load_state_dict(state[name])


class Average(nn.Module):
    """The exponential moving average of an encoder, batch norm's statistics included; at first the encoder itself.

    Args:
        encoder: what is averaged.
        decay: d of average <- d average + (1 - d) encoder, a step.
    """

    encoder: Encoder

    def __init__(self, encoder: Encoder, decay: float) -> None:
        super().__init__()
        self.encoder, self.decay = deepcopy(encoder).requires_grad_(False), decay

    @torch.no_grad()
    def follow(self, encoder: Encoder) -> None:
        """Move a step towards the encoder; whole numbers, which batch norm counts steps in, are taken over."""
        pairs = list(zip(self.encoder.state_dict().values(), encoder.state_dict().values(), strict=True))
        # state_dict gives the tensors themselves: they are moved in place
        averaged, current = zip(*(pair for pair in pairs if pair[0].is_floating_point()), strict=True)
        torch._foreach_lerp_(averaged, current, 1 - self.decay)
        for count, newest in (pair for pair in pairs if not pair[0].is_floating_point()):
            count.copy_(newest)


class Projector(nn.Module):
    """An encoder with its projection head: images (N, ...) -> unit embeddings (N, C).

    Args:
        encoder: images -> (N, D).
        width: D.
        dim: C.
        mlp: head D-D-C with ReLU (MoCo v2, SimCLR) or one linear layer (MoCo v1).
    """

    def __init__(self, encoder: nn.Module, width: int, dim: int, mlp: bool = True) -> None:
        super().__init__()
        self.encoder = encoder
        hidden = [nn.Linear(width, width), nn.ReLU()] if mlp else []
        self.head = nn.Sequential(*hidden, nn.Linear(width, dim))

    def forward(self, images: Tensor) -> Tensor:
        """Project and put on the unit sphere, in float32 whatever the precision of the encoder."""
        return F.normalize(self.head(self.encoder(images)).float(), dim=1)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Heads are drawn from the seed of the run, and no generator outside is moved."""
    with torch.random.fork_rng(devices=[]):  # heads are drawn on the CPU; by default every GPU's state is copied, too
        torch.manual_seed(seed % 2**63)
        yield


def sent(numbers: Tensor, device: torch.device) -> Tensor:
    """Numbers on a device; the program does not wait for a GPU that is still at work on earlier steps."""
    if device.type != "cuda":
        return numbers.to(device)
    return numbers.pin_memory().to(device, non_blocking=True)  # from pageable memory CUDA copies only after a wait


def learning_rate(
    step: int, steps: int, lr: float, schedule: str, milestones: Sequence[float] = (), warmup: float = 0.0
) -> float:
    """The learning rate of a step: constant, falling to a tenth at each milestone, or along half a cosine to 0.

    Args:
        step: from 0.
        milestones: shares of the run, for the schedule `step`.
        warmup: share of the run in which the rate rises from 0 in a line.
    """
    share = step / steps
    factor = 1.0
    if schedule == "cosine":
        factor = 0.5 * (1 + math.cos(math.pi * share))
    elif schedule == "step":
        factor = 0.1 ** sum(share >= milestone for milestone in milestones)
    rise = warmup * steps
    # step + 1: at rate 0 the first step would be lost
    return lr * factor * min(1.0, (step + 1) / rise if rise else 1.0)


def make_optimizer(name: str, network: nn.Module, lr: float, weight_decay: float) -> Optimizer:
    """Adam and SGD with L2 weight decay, AdamW with decoupled; betas 0.9 and 0.999, SGD momentum 0.9."""
    parameters = [p for p in network.parameters() if p.requires_grad]
    if name == "sgd":
        return torch.optim.SGD(parameters, lr=lr, momentum=0.9, weight_decay=weight_decay, fused=True)
    kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[name]
    return kind(parameters, lr=lr, betas=(0.9, 0.999), weight_decay=weight_decay, fused=True)


def compile_for(settings: PretrainSettings, encoder: nn.Module) -> None:
    """Have an encoder compiled in place, by its first passes."""
    # for each size alone: by itself torch takes the second for a sign that any may come
    encoder.compile(dynamic=False if settings.sizes else None)


def leave_out_unused(network: nn.Module, size: int) -> None:
    """Tell DistributedDataParallel of the weights that no image reaches, such as a mask token: it waits for all others.

    They stay with the optimiser, which leaves weights without gradient alone, so checkpoints fit any number of
    processes.

    Args:
        network: in train mode, as it is afterwards; no gradient, buffer or random number is changed.
        size: side of a view, px.
    """
    named = {name: weight for name, weight in network.named_parameters() if weight.requires_grad}
    device = next(network.parameters()).device
    network.eval()  # so that no running average moves and no dropout draws
    output = network(torch.zeros(2, 1, size, size, dtype=torch.uint8, device=device))
    total = sum(part.sum() for part in (output if isinstance(output, tuple) else (output,)))
    # fills no `.grad`, as backward would
    gradients = torch.autograd.grad(total, list(named.values()), allow_unused=True)
    network.train()
    unused = [name for name, gradient in zip(named, gradients, strict=True) if gradient is None]
    # In place of find_unused_parameters, which walks the graph of every step. Private, but torch has no other.
    DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(network, unused)


def refuse_too_few(settings: PretrainSettings, images: int, batches: int, world: int) -> None:
    """Refuse images that do not make so many batches.

    Args:
        world: processes that share a batch.

    Raises:
        InputError: with a batch that the other settings allow, or the number of images that it takes.
    """
    s = settings
    if images // s.batch >= batches:
        return
    least = 2 * max(s.key_groups, s.accumulate) * world  # two images a pass; multiples of it can be shared, too
    needs = "" if batches == 1 else f": an epoch needs {batches} of them"
    way_out = f"Give at least {batches * least} images."
    if images >= batches * least:
        way_out = f"Give --batch {max(least, images // 4 // least * least)}, or more images."
    raise InputError(f"{images} images are too few for batches of {s.batch}{needs}.", way_out)


def refuse_unused(settings: PretrainSettings, unused: Sequence[str]) -> None:
    """Refuse settings that a method does not read, where they are not the preset's: they would change nothing.

    Raises:
        InputError: the first of them.
    """
    usual = {"queue": None, "accumulate": 1, **vars(PRESETS[settings.preset])}  # these two stand in no preset
    for name in unused:
        if getattr(settings, name) != usual[name]:
            raise InputError(f"{flag(name)} is not used by --method {settings.method}.", f"Leave {flag(name)} out.")
