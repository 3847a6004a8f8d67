"""The vision-language-action model: OpenVLA's architecture in plain PyTorch, any size."""
