"""A depthwise convolution for training in bfloat16 on a CPU: its gradients are taken in float32.

A CPU that multiplies matrices of bfloat16 makes every part of a training step faster by it, but
for one: the gradients of a depthwise convolution with a stride of two, or a kernel of five, take
three to six times as long as in float32, for which oneDNN has kernels that it lacks in bfloat16.
`benchmarks/precision.py` measures a step both ways.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, autograd


def convolve_low(x_BCHW: Tensor, weight: Tensor, bias: Tensor, stride: int) -> Tensor:
    """Filter each channel by itself, in bfloat16, without padding; gradients are those of float32.

    Args:
        x_BCHW: any floating type.
        weight: float32 [C, 1, k, k],
        bias: float32 [C].
        stride: in both directions.

    Returns:
        bfloat16 [B, C, (H - k) / stride + 1, (W - k) / stride + 1].
    """
    result: Tensor = _Low.apply(x_BCHW, weight, bias, stride)  # type: ignore[no-untyped-call]
    return result


class _Low(autograd.Function):
    @staticmethod
    def forward(ctx: Any, x_BCHW: Tensor, weight: Tensor, bias: Tensor, stride: int) -> Tensor:
        ctx.stride, ctx.dtype = stride, x_BCHW.dtype
        x_BCHW = x_BCHW.bfloat16()
        ctx.save_for_backward(x_BCHW, weight)
        with torch.autocast("cpu", enabled=False):
            return F.conv2d(
                x_BCHW, weight.bfloat16(), bias.bfloat16(), stride, groups=weight.shape[0]
            )

    @staticmethod
    def backward(ctx: Any, of_result_BCHW: Tensor) -> tuple[Tensor | None, ...]:
        x_BCHW, weight = ctx.saved_tensors
        channels = weight.shape[0]
        # torch.nn.grad has functions for each gradient, but makes tensors in whose order of
        # memory they take four times as long.
        of_x_BCHW, of_weight, of_bias = torch.ops.aten.convolution_backward(
            of_result_BCHW.float().contiguous(memory_format=torch.channels_last),
            x_BCHW.float(),
            weight,
            bias_sizes=[channels],
            stride=[ctx.stride] * 2,
            padding=[0, 0],
            dilation=[1, 1],
            transposed=False,
            output_padding=[0, 0],
            groups=channels,
            output_mask=ctx.needs_input_grad[:3],
        )
        return of_x_BCHW if of_x_BCHW is None else of_x_BCHW.to(ctx.dtype), of_weight, of_bias, None
