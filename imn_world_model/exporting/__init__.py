"""The fast search for the winner, and ONNX."""
