"""The neural networks as ``torch.nn`` modules: transforms, learned prior, task networks. No I/O."""
