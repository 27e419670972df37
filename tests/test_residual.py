"""The residual transforms, their levels, and the density that knows contexts."""

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from plain_tables import latent
from torch import nn

from tactic_codec.codec import quantise
from tactic_codec.entropy.order import Seen
from tactic_codec.entropy.symbols import known_parts
from tactic_codec.networks.codec import TacticNetwork
from tactic_codec.networks.prior import ContextPrior
from tactic_codec.networks.residual import (
    STRIDE,
    ResidualAnalysis,
    ResidualConfig,
    ResidualSynthesis,
    cosine_basis,
)
from tactic_codec.networks.transforms import macs_per_pixel
from tactic_codec.training.contexts import MAGNITUDE_LOGITS, SIGN_LOGITS, _Network

pytestmark = pytest.mark.usefixtures("one_torch_thread")

SMALL = ResidualConfig(6, 8, 6, 4, analysis_blocks=(1, 2), synthesis_blocks=(2, 1, 1))
GAINS = (1.0, 2.0, 4.0)


def shaken(module: nn.Module) -> nn.Module:
    """Weights that are not zero anywhere, as after training."""
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return module.eval()


def test_training_starts_as_a_cosine_transform() -> None:
    basis = cosine_basis(256).reshape(256, -1)
    torch.testing.assert_close(basis @ basis.T, torch.eye(256), rtol=0, atol=1e-5)
    whole = cosine_basis(768).reshape(768, -1)
    torch.testing.assert_close(whole @ whole.T, torch.eye(768), rtol=0, atol=1e-5)
    # The first is the block's mean brightness: constant, and the same for red, green and blue.
    assert basis[0].std() < 1e-6


def test_untrained_transforms_give_smooth_pictures_back() -> None:
    config = dataclasses.replace(SMALL, latent=256)
    analysis, synthesis = ResidualAnalysis(config).eval(), ResidualSynthesis(config).eval()
    places = torch.linspace(0, 1, 32)
    x_BCHW = torch.stack(
        [places[:, None] * places, places.expand(32, 32), 1 - places * places[:, None]]
    )[None]
    with torch.no_grad():
        x_hat_BCHW = synthesis(analysis(x_BCHW))
    assert (x_hat_BCHW - x_BCHW).abs().max() < 0.02


def test_the_default_model_s_operations_a_pixel_are_within_their_bounds() -> None:
    default = ResidualConfig()
    analysis, synthesis = ResidualAnalysis(default), ResidualSynthesis(default)
    assert macs_per_pixel(analysis, stride=STRIDE) < 10_000
    assert macs_per_pixel(synthesis, latent=default.latent, stride=STRIDE) < 40_000


@pytest.mark.parametrize("config", [SMALL, ResidualConfig()], ids=["small", "default"])
@pytest.mark.parametrize("side", ["analysis", "synthesis"])
def test_nothing_beyond_the_halo_reaches_a_place(side: str, config: ResidualConfig) -> None:
    halo = config.halo
    rows = 2 * halo + 5
    middle = rows // 2
    transform: nn.Module
    if side == "analysis":
        transform, unit = shaken(ResidualAnalysis(config)), STRIDE
        given = torch.rand(1, 3, rows * STRIDE, rows * STRIDE)
    else:
        transform, unit = shaken(ResidualSynthesis(config)), 1
        given = torch.rand(1, config.latent, rows, rows)
    core = slice((middle - halo) * unit, (middle + halo + 1) * unit)
    elsewhere = torch.full_like(given, 0.123)
    elsewhere[:, :, core, core] = given[:, :, core, core]
    scale = rows if side == "analysis" else rows * STRIDE
    out = slice(middle * scale // rows, (middle + 1) * scale // rows)
    with torch.no_grad():
        whole, near = transform(given), transform(elsewhere)
    torch.testing.assert_close(whole[..., out, out], near[..., out, out])
    assert not torch.allclose(whole, near)


@pytest.mark.parametrize("quantisation", ["noise", "mixed", "straight", "rounded"])
def test_a_batch_may_mix_levels(quantisation: Any) -> None:
    """An image's rate and reconstruction are those of its own level, whoever is beside it."""
    torch.manual_seed(1)
    network = shaken(TacticNetwork(SMALL, gains=GAINS))
    assert isinstance(network, TacticNetwork)
    assert network.levels == 3
    x_BCHW = torch.rand(1, 3, 32, 48).expand(3, -1, -1, -1)
    with torch.no_grad():
        torch.manual_seed(2)
        mixed = network(x_BCHW, quantisation, torch.tensor([0, 1, 2]))
        if quantisation in ("straight", "rounded"):
            for level in range(3):
                alone = network(x_BCHW[:1], quantisation, torch.tensor([level]))
                torch.testing.assert_close(alone.x_hat_BCHW[0], mixed.x_hat_BCHW[level])
                torch.testing.assert_close(alone.bits_B[0], mixed.bits_B[level])
    assert (mixed.bits_B.diff() > 0).all()


@pytest.mark.parametrize("offset", [0.5, 0.35])
def test_training_rounds_as_the_coder_does(offset: float) -> None:
    """Symbols are what synthesis and density are given, so its answer to them tells of them."""
    torch.manual_seed(1)
    network = shaken(TacticNetwork(SMALL, gains=GAINS))
    assert isinstance(network, TacticNetwork)
    assert network.gains is not None
    x_BCHW = torch.rand(1, 3, 32, 48)
    given = []
    network.synthesis.register_forward_pre_hook(lambda module, inputs: given.append(inputs[0]))
    with torch.no_grad():
        for level, gain in enumerate(network.gains.gain.numpy()):
            latent = network.analysis(x_BCHW)[0].numpy()
            symbols = torch.from_numpy(quantise(latent, gain, offset)).float()
            inverse_gain = network.gains.inverse_gain[level][:, None, None]
            for quantisation in ("straight", "rounded"):
                network(x_BCHW, quantisation, torch.tensor([level]), offset)
                torch.testing.assert_close(given.pop()[0], symbols * inverse_gain)


@pytest.mark.parametrize("channels", [5, 12, 40])
def test_training_knows_what_the_format_knows(channels: int) -> None:
    """A and S of training are, in whole numbers, those by which files choose their tables."""
    torch.manual_seed(1)
    v = latent(1, (channels, 7, 6), 1.5)
    learned = _Network([torch.from_numpy(v.transpose(1, 2, 0)[np.newaxis].astype(np.int8))] * 2)
    with torch.no_grad():
        for weights in (*learned.weights, *learned.unit_bias, learned.log_scale):
            weights += 0.5 * torch.randn(weights.shape)
        sums = learned(torch.from_numpy(v).permute(1, 2, 0)[np.newaxis].float(), torch.tensor([1]))
        sums = sums[0][0] + learned.magnitude_bias[1], sums[1][0] + learned.sign_bias
    contexts = learned.contexts()[1]
    a, s, seen = np.empty(v.shape), np.empty(v.shape), Seen(v.shape)
    for part, _ in known_parts(v, contexts, seen):
        y, x = np.divmod(part.where, v.shape[2] + 2)
        (_, a[part.group, y - 1, x - 1]), (_, s[part.group, y - 1, x - 1]) = (
            (units, found.T) for units, found in contexts.sums(seen, part)
        )
    logits = (contexts.magnitude, MAGNITUDE_LOGITS), (contexts.sign, SIGN_LOGITS)
    for found, expected, (thresholds, of) in zip((a, s), sums, logits, strict=True):
        unit = thresholds[-1] / of[-1]
        error = found / unit - expected.permute(2, 0, 1).numpy()
        assert np.sqrt(np.mean(error**2)) < 0.05 * np.std(found / unit)


def test_the_density_with_contexts_is_a_distribution_and_teaches_them() -> None:
    torch.manual_seed(1)
    prior = ContextPrior(torch.tensor(GAINS), 2)
    values = torch.arange(-400.0, 401.0).expand(1, 2, 1, -1)
    for level in range(3):
        total = prior.likelihood(values, level).sum(dim=-1)
        torch.testing.assert_close(total, torch.ones_like(total), rtol=1e-3, atol=0)
    # Large values come in company, and the last channel repeats the first: it learns both.
    loud = torch.randn(64, 9, 8, 8) * torch.tensor([0.3, 6.0]).repeat(32)[:, None, None, None]
    symbols = torch.cat([loud[:, :8], loud[:, :1]], dim=1).round()
    level_B = torch.zeros(64, dtype=torch.int64)
    prior = ContextPrior(torch.tensor(GAINS), 9)
    optimizer = torch.optim.Adam(prior.parameters(), 0.05)
    for _ in range(80):
        bits = prior.bits(symbols, symbols, level_B).sum()
        optimizer.zero_grad()
        (bits / symbols.numel()).backward()
        optimizer.step()
    # In any other order the same symbols tell each other nothing.
    mixed = symbols.transpose(0, 1).flatten(1)[:, torch.randperm(64 * 64)]
    mixed = mixed.reshape(9, 64, 8, 8).transpose(0, 1)
    assert bits < 0.9 * prior.bits(mixed, mixed, level_B).sum()
    turned = symbols * torch.tensor([1.0] * 8 + [-1.0])[:, None, None]
    assert bits < 0.9 * prior.bits(turned, turned, level_B).sum()


def stirred_prior(channels: int) -> ContextPrior:
    """A density whose contexts count."""
    torch.manual_seed(1)
    prior = ContextPrior(torch.tensor([1.0]), channels)
    with torch.no_grad():
        for weights in prior.contexts.weights:
            weights += 0.3 * torch.randn(weights.shape)
    return prior


@pytest.mark.parametrize("magnitude", [0, 1, 4])
@pytest.mark.parametrize("sign", [1, -1])
def test_a_latent_learns_what_a_whole_step_costs(magnitude: int, sign: int) -> None:
    prior, level_B = stirred_prior(1), torch.tensor([0])

    def bits_of(symbol: float) -> float:
        """The last symbol of the picture, which no other symbol's context knows."""
        symbols_BCHW = torch.tensor([[[[2.0, symbol]]]])
        return prior.bits(symbols_BCHW, symbols_BCHW, level_B).item()

    step = bits_of(sign * (magnitude + 1)) - bits_of(sign * magnitude)
    for part in (0.1, 0.4, 0.9):
        y_BCHW = torch.tensor([[[[2.0, sign * (magnitude + part)]]]], requires_grad=True)
        symbols_BCHW = y_BCHW.detach().round()
        bits = prior.bits(y_BCHW, symbols_BCHW, level_B)
        assert bits.item() == pytest.approx(bits_of(symbols_BCHW[..., 1].item()))
        bits.sum().backward()
        assert y_BCHW.grad is not None
        assert y_BCHW.grad[..., 1].item() == pytest.approx(sign * step, rel=1e-4)


def test_the_likelihood_is_that_of_a_symbol_beside_zeros() -> None:
    """Tables with few counts lean on it."""
    prior, level_B = stirred_prior(3), torch.tensor([0])
    with torch.no_grad():
        for bias in prior.contexts.unit_bias:
            bias += 1
    for channel in range(3):
        for value in (0.0, 2.0):
            found = []
            for sign in (1, -1):
                symbols_BCHW = torch.zeros(1, 3, 1, 1)
                without = prior.bits(symbols_BCHW, symbols_BCHW, level_B)
                symbols_BCHW[0, channel] = sign * value
                bits = prior.bits(symbols_BCHW, symbols_BCHW, level_B) - without
                found.append(2 ** -bits.item())
            zero, said = (
                prior.likelihood(torch.full((1, 3, 1, 1), at), 0)[0, channel].item()
                for at in (0.0, value)
            )
            assert said / zero == pytest.approx(sum(found) / 2, rel=1e-3)


def test_a_symbol_that_never_came_keeps_a_probability_and_a_gradient() -> None:
    prior = ContextPrior(torch.tensor([1.0]), 1)
    with torch.no_grad():
        prior.scale -= 20
    y_BCHW = torch.tensor([[[[3.0]]]], requires_grad=True)
    bits = prior.bits(y_BCHW, y_BCHW.detach(), torch.tensor([0])).sum()
    bits.backward()
    assert bits.item() < 24
    assert y_BCHW.grad is not None
    assert y_BCHW.grad.item() > 0.1


def test_channels_without_a_use_can_be_left_out() -> None:
    network = shaken(TacticNetwork(SMALL, gains=GAINS))
    assert isinstance(network, TacticNetwork)
    with torch.no_grad():
        for layer in (network.analysis.linear, network.analysis.layers[-1]):
            layer.weight[[1, 4]] = 0
        network.analysis.layers[-1].bias[[1, 4]] = 0
        x_BCHW, level_B = torch.rand(2, 3, 32, 32), torch.tensor([0, 2])
        narrow = network.pruned([0, 2, 3, 5]).eval()
        assert narrow.transforms.latent == 4
        torch.testing.assert_close(
            narrow(x_BCHW, "rounded", level_B).x_hat_BCHW,
            network(x_BCHW, "rounded", level_B).x_hat_BCHW,
        )


def test_channels_can_be_put_in_another_order() -> None:
    """Also where none is left out, and no width tells any more which axis counts channels."""
    network = shaken(TacticNetwork(SMALL, gains=GAINS))
    assert isinstance(network, TacticNetwork)
    network.eval()
    x_BCHW, level_B = torch.rand(2, 3, 32, 32), torch.tensor([0, 2])
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    with torch.no_grad():
        sorted_network = network.pruned(order.tolist()).eval()
        torch.testing.assert_close(
            sorted_network.analysis(x_BCHW), network.analysis(x_BCHW)[:, order]
        )
        torch.testing.assert_close(
            sorted_network(x_BCHW, "rounded", level_B).x_hat_BCHW,
            network(x_BCHW, "rounded", level_B).x_hat_BCHW,
        )
