"""Depthwise convolutions for training in bfloat16 on a CPU: their gradients are taken in float32.

On a CPU that multiplies matrices of bfloat16 convolutions and their gradients are faster in it, but
for one kind: gradients of a depthwise convolution with a stride of two, or a kernel of five, took
three to six times as long as in float32. `benchmarks/precision.py` measures a step both ways.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, autograd, nn


class DepthwiseConv2d(nn.Conv2d):
    """A convolution whose gradients are float32 under autocast on the CPU, if it has groups.

    Everything else is that of its base class, the names of its weights included.
    """

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Convolve; the result is bfloat16 where autocast says so."""
        low = x_BCHW.device.type == "cpu" and torch.is_autocast_enabled("cpu")
        if self.groups == 1 or not (low and torch.is_grad_enabled()):
            return super().forward(x_BCHW)
        result: Tensor = _Low.apply(  # type: ignore[no-untyped-call]
            x_BCHW, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups
        )
        return result


def adopt_depthwise(network: nn.Module) -> None:
    """Turn, in place, all `nn.Conv2d` with groups in a network into `DepthwiseConv2d`."""
    for module in network.modules():
        if type(module) is nn.Conv2d and module.groups > 1:
            module.__class__ = DepthwiseConv2d


class _Low(autograd.Function):
    @staticmethod
    def forward(ctx: Any, x_BCHW: Tensor, weight: Tensor, bias: Tensor | None, *how: Any) -> Tensor:
        x_BCHW = x_BCHW.bfloat16()
        ctx.save_for_backward(x_BCHW, weight)
        ctx.how, ctx.biases = how, None if bias is None else [len(bias)]
        with torch.autocast("cpu", enabled=False):
            low_bias = None if bias is None else bias.bfloat16()
            return F.conv2d(x_BCHW, weight.bfloat16(), low_bias, *how)

    @staticmethod
    def backward(ctx: Any, of_result_BCHW: Tensor) -> tuple[Tensor | None, ...]:
        x_BCHW, weight = ctx.saved_tensors
        stride, padding, dilation, groups = ctx.how
        # torch.nn.grad has functions for each gradient, but makes tensors in whose order of
        # memory they take four times as long.
        of_x_BCHW, of_weight, of_bias = torch.ops.aten.convolution_backward(
            of_result_BCHW.float().contiguous(memory_format=torch.channels_last),
            x_BCHW.float(),
            weight,
            ctx.biases,
            stride,
            padding,
            dilation,
            transposed=False,
            output_padding=[0, 0],
            groups=groups,
            output_mask=ctx.needs_input_grad[:3],
        )
        # Autograd casts to the type of the input.
        return of_x_BCHW, of_weight, of_bias, None, None, None, None
