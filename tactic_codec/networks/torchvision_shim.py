"""Import torchvision beside a torch that lacks its compiled operators.

torchvision's wheel is built against one build of torch. Beside another (the CPU build, say) its
extension does not load, and the import of the package then fails because two operators that it
describes are missing. None of the networks used here calls them, so declaring their signatures is
enough. Where the extension did load, nothing is declared.

Import torchvision through this module only::

    from tactic_codec.networks.torchvision_shim import torchvision
"""

import torch

_SIGNATURES = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)

try:
    import torchvision
except RuntimeError:
    # The library must stay referenced: its declarations go when it is collected.
    _LIBRARY = torch.library.Library("torchvision", "DEF")  # type: ignore[no-untyped-call]
    for _signature in _SIGNATURES:
        _LIBRARY.define(_signature)  # type: ignore[no-untyped-call]
    import torchvision

__all__ = ["torchvision"]
