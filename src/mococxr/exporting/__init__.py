"""What enters and leaves: the authors' checkpoints in; timm, torchvision and ONNX out, with a model card."""
