"""Short paired trials of how the codec is trained: rate and distortion alone, for the same time.

    python experiments/trials.py PHOTOGRAPHS NAME --seconds 240 --set rate=4e-3 --set optimizer=muon

Every trial sees the same crops in the same order, on one thread, and takes as many steps as its
seconds allow. Its learning rate falls to nothing along a half cosine of time. What counts is the
loss on 64 kept crops of 192 pixels, each at a fixed level, by the moving average of the weights.
One JSON line goes to OUT. Results stand in LOG.md.
"""

import argparse
import json
import math
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from tactic_codec.networks.codec import TacticNetwork
from tactic_codec.networks.residual import ResidualConfig
from tactic_codec.training.shards import Photograph, Shard, crop

BETA, RATIO, SCALE, BALANCE = 4.0, 0.6, 10.0, 0.35
DEFAULTS = dict(
    rate=2e-3,
    fast=10.0,
    batch=8,
    size=128,
    optimizer="adam",
    ema=0.99,
    warmup=50,
    beta2=0.999,
    clip=1.0,
    latent=256,
    sixteenth=192,
    eighth=128,
    quarter=64,
    a8=4,
    a16=4,
    s16=4,
    s8=4,
    s4=4,
    start="",
    seed=1,
    compile=0,
    last=0.0,
)


def crops(shard, first, count, size, seed):
    squares = []
    for i in range(count):
        random = np.random.default_rng((seed, first + i))
        photograph = Photograph(shard, int(random.integers(len(shard))))
        squares.append(torch.from_numpy(np.array(crop(photograph, size, random))))
    return torch.stack(squares).permute(0, 3, 1, 2)


def loss_of(network, x_BCHW, level_B):
    with torch.autocast("cpu", torch.bfloat16):
        coded = network(x_BCHW, "straight", level_B)
    mse_B = (coded.x_hat_BCHW.float() - x_BCHW).square().mean((1, 2, 3))
    bpp_B = coded.bits_B / (x_BCHW.shape[-1] * x_BCHW.shape[-2])
    total_B = SCALE**2 * mse_B + BETA * RATIO**level_B * bpp_B
    return (RATIO ** (-BALANCE * level_B) * total_B), mse_B, bpp_B


class Muon(torch.optim.Optimizer):
    """Momentum whose matrices are orthogonalised by Newton-Schulz (Jordan, 2024)."""

    def __init__(self, params, lr=0.02, momentum=0.95):
        super().__init__(params, dict(lr=lr, momentum=momentum))

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                buf = self.state[p].setdefault("m", torch.zeros_like(p))
                buf.lerp_(p.grad, 1 - group["momentum"])
                g = p.grad.lerp(buf, group["momentum"])
                m = g.reshape(g.shape[0], -1)
                t = m.shape[0] > m.shape[1]
                m = m.T if t else m
                m = m / (m.norm() + 1e-7)
                for _ in range(5):
                    a = m @ m.T
                    m = 3.4445 * m + (-4.7750 * a + 2.0315 * a @ a) @ m
                m = m.T if t else m
                p.add_(m.reshape(p.shape), alpha=-group["lr"] * 0.2 * math.sqrt(max(m.shape)))


def optimizers(network, o):
    fast = [*network.prior.parameters(), *network.gains.parameters()]
    ids = {id(p) for p in fast}
    rest = [(n, p) for n, p in network.named_parameters() if id(p) not in ids]
    betas = (0.9, o["beta2"])
    if o["optimizer"] == "adam":
        return [
            torch.optim.Adam(
                [
                    {"params": [p for _, p in rest], "speed": 1.0},
                    {"params": fast, "speed": o["fast"]},
                ],
                betas=betas,
            )
        ]
    matrices = [p for n, p in rest if p.ndim == 4 and "layers" in n]
    mids = {id(p) for p in matrices}
    others = [p for _, p in rest if id(p) not in mids]
    if o["optimizer"] == "muon":
        return [
            Muon([{"params": matrices, "speed": 1.0}]),
            torch.optim.Adam(
                [
                    {"params": others, "speed": o.get("adam_share", 0.5)},
                    {"params": fast, "speed": o["fast"] * 0.5},
                ],
                betas=betas,
            ),
        ]
    raise SystemExit(f"unknown optimizer {o['optimizer']}")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("photographs", type=Path)
    parser.add_argument("name")
    parser.add_argument("--seconds", type=float, default=240)
    parser.add_argument("--set", action="append", default=[])
    parser.add_argument("--out", type=Path, default=Path("trials.jsonl"))
    a = parser.parse_args()
    o = dict(DEFAULTS)
    for item in a.set:
        key, _, value = item.partition("=")
        kind = type(o.get(key, ""))
        o[key] = kind(float(value)) if kind in (int, float) else kind(value)
    torch.set_num_threads(1)
    train, kept = Shard(a.photographs / "train"), Shard(a.photographs / "kept")
    torch.manual_seed(o["seed"])
    config = ResidualConfig(
        o["latent"],
        o["sixteenth"],
        o["eighth"],
        o["quarter"],
        (o["a8"], o["a16"]),
        (o["s16"], o["s8"], o["s4"]),
    )
    gains = tuple(0.4 * 20 ** (i / 7) for i in range(8))
    network = TacticNetwork(config, None, gains=gains).to(memory_format=torch.channels_last)
    if o["start"]:
        network.load_state_dict(torch.load(o["start"], weights_only=True), strict=False)
    opts = optimizers(network, o)
    average = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(o["ema"]))
    run = torch.compile(network) if o["compile"] else network
    held = crops(kept, 0, 64, 192, 7).float() / 255
    held_levels = torch.arange(64) % 8

    def evaluate():
        average.module.eval()
        with torch.no_grad():
            parts = [
                loss_of(
                    average.module,
                    held[i : i + 16].contiguous(memory_format=torch.channels_last),
                    held_levels[i : i + 16],
                )
                for i in range(0, 64, 16)
            ]
        return [torch.cat(x) for x in zip(*parts, strict=True)]

    steps, losses = 0, []
    began = time.perf_counter()
    while (elapsed := time.perf_counter() - began) < a.seconds:
        share = elapsed / a.seconds
        rate = (
            o["rate"]
            * min(1, (steps + 1) / (o["warmup"] + 1))
            * (o["last"] + (1 - o["last"]) * (1 + math.cos(math.pi * share)) / 2)
        )
        for opt in opts:
            for group in opt.param_groups:
                group["lr"] = rate * group["speed"]
        x = (
            crops(train, steps * o["batch"], o["batch"], o["size"], o["seed"]).float() / 255
        ).contiguous(memory_format=torch.channels_last)
        torch.manual_seed(o["seed"] * 1000003 + steps)
        level = (torch.rand(o["batch"]) * 8).long()
        total = loss_of(run, x, level)[0].mean()
        for opt in opts:
            opt.zero_grad(set_to_none=True)
        total.backward()
        nn.utils.clip_grad_norm_(network.parameters(), o["clip"])
        for opt in opts:
            opt.step()
        average.update_parameters(network)
        steps += 1
        losses.append(total.item())
        if steps % 200 == 0:
            print(a.name, steps, round(float(np.mean(losses[-200:])), 4), flush=True)
    loss, mse, bpp = evaluate()
    psnr = -10 * torch.log10(mse)
    line = dict(
        name=a.name,
        loss=round(loss.mean().item(), 4),
        steps=steps,
        seconds=round(time.perf_counter() - began),
        last=round(float(np.mean(losses[-100:])), 4),
        levels=[
            [
                round(bpp[held_levels == i].mean().item(), 4),
                round(psnr[held_levels == i].mean().item(), 2),
            ]
            for i in range(8)
        ],
        options={k: v for k, v in o.items() if v != DEFAULTS.get(k)},
    )
    print(json.dumps(line), flush=True)
    with a.out.open("a") as out:
        out.write(json.dumps(line) + "\n")
    if o.get("save"):
        torch.save(average.module.state_dict(), o["save"])


if __name__ == "__main__":
    main()
