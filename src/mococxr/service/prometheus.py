"""The numbers of `/metrics`: how much is asked, how long it takes, how much waits. Nothing in them is about a patient."""

from __future__ import annotations

from prometheus_client import (
    CONTENT_TYPE_PLAIN_0_0_4,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Info,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)

from mococxr.classifier.graph import BATCH
from mococxr.service.answers import ModelName

disable_created_metrics()  # a series of times beside each counter, which nobody asks for
SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10, 30)
MEDIA_TYPE = CONTENT_TYPE_PLAIN_0_0_4


class Counters:
    """The counters of one service.

    Args:
        model: that is served.
    """

    def __init__(self, model: ModelName) -> None:
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        Info("mococxr_model", "Model that is served.", registry=registry).info(
            {"name": model.name, "sha256": model.sha256, "version": model.version}
        )
        self.requests = Counter("mococxr_requests", "Requests answered.", ["path", "status"], registry=registry)
        self.seconds = Histogram(
            "mococxr_request_seconds", "Time of a request.", ["path"], buckets=SECONDS, registry=registry
        )
        self.images = Counter("mococxr_images", "Images, scored or refused.", ["outcome"], registry=registry)
        self.waiting = Gauge("mococxr_images_waiting", "Images that are read or wait.", registry=registry)
        self.batches = Histogram(
            "mococxr_batch_images", "Images scored together.", buckets=(1, 2, 4, 8, 16, 32, BATCH), registry=registry
        )
        self.decoders = Counter("mococxr_decoders_replaced", "Processes that died on an image.", registry=registry)

    def text(self) -> bytes:
        """All of them, in the exposition format."""
        return generate_latest(self.registry)
