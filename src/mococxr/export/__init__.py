"""What enters and leaves: the authors' checkpoints in; timm, torchvision and ONNX out, with a model card."""

from mococxr.export.exporting import run
from mococxr.export.importing import run_import

__all__ = ["run", "run_import"]
