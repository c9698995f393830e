"""What the golden scripts share: weights and clips by formula, and how golden files are written.

Weights and clips come from `uniform`, a pure function of a tensor's name and of the index of its element. The tests in
Rust have the same function, so only names, shapes and logits are kept here.
"""

import json
import pathlib

import numpy as np
import torch
from torch import nn

HERE = pathlib.Path(__file__).parent


def uniform(name: str, shape: list[int]) -> np.ndarray:
    """Float64 values in [-1, 1): FNV-1a over the name, SplitMix64 over the index, 24 bits of it."""
    key = 0xCBF29CE484222325
    for byte in name.encode():
        key = (key ^ byte) * 0x100000001B3 % 2**64
    with np.errstate(over="ignore"):
        z = np.uint64(key) + np.arange(int(np.prod(shape, dtype=np.int64)), dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z = z ^ (z >> np.uint64(31))
    return ((z >> np.uint64(40)).astype(np.float64) / 2.0**23 - 1.0).reshape(shape)


def weight(name: str, shape: list[int]) -> np.ndarray:
    """Convolutions and the head keep the size of what goes through; norms are near their neutral values, and those that end a
    residual branch of a bottleneck are small: a sum of fifty branches stays finite."""
    values = uniform(name, shape)
    if len(shape) >= 2:
        return values * np.sqrt(6.0 / np.prod(shape[1:]))
    if name.endswith((".running_var", ".weight")):
        return (1.0 + 0.2 * values) * (0.25 if name.endswith("norm_c.weight") else 1.0)
    return 0.1 * values


def fill(model: nn.Module) -> None:
    """Gives every tensor its weights."""
    for name, tensor in model.state_dict().items():
        if not name.endswith("num_batches_tracked"):
            tensor.copy_(torch.from_numpy(weight(name, list(tensor.shape)).astype(np.float32)))


def macs(model: nn.Module, shape: list[int]) -> int:
    """Multiply-adds of convolutions and linear layers for one clip, by hooks, without computing anything."""
    counted = []

    def count(module: nn.Module, _: tuple, output: torch.Tensor) -> None:
        per_value = module.weight[0].numel()
        counted.append(output.numel() * per_value)

    model = model.to("meta").eval()
    hooks = [m.register_forward_hook(count) for m in model.modules() if isinstance(m, (nn.Conv3d, nn.Linear))]
    model(torch.zeros([1, 3, *shape], device="meta"))
    for hook in hooks:
        hook.remove()
    return sum(counted)


def write_keys(name: str, model: nn.Module) -> None:
    """Sorted names and shapes."""
    state = model.state_dict()
    lines = (f"{key} {list(state[key].shape)}\n" for key in sorted(state))
    (HERE / f"{name}.keys.txt").write_text("".join(lines))


def write_logits(name: str, model: nn.Module, clips: list[int], facts: dict) -> None:
    """Logits of clips by formula under weights by formula, computed in double precision."""
    model = model.eval()
    fill(model)
    with torch.no_grad():
        logits = model.double()(torch.from_numpy(uniform("clips", clips).astype(np.float32)).double())
    golden = {
        "torch": torch.__version__.split("+")[0],
        **facts,
        "parameters": sum(p.numel() for p in model.parameters()),
        "clips": clips,
        "logits": [[float(f"{value:.9g}") for value in row] for row in logits.tolist()],
    }
    text = json.dumps(golden)
    (HERE / f"{name}.json").write_text(text.replace("[[", "[\n[").replace("], [", "],\n[") + "\n")
