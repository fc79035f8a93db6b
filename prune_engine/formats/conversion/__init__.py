"""TorchScript and torch.export archives become ONNX, each in a process of its own."""
