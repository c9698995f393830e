"""Makes the golden files of R(2+1)D-18 from torchvision.

    pip install torch==2.11.0 torchvision==0.26.0 --index-url https://download.pytorch.org/whl/cpu
    python libs/models/tests/golden/torchvision_r2plus1d.py

Weights and clips come from `uniform`, a pure function of a tensor's name and of the index of its element. The test in
Rust has the same function, so only names, shapes and logits are kept here.
"""

import json
import pathlib

import numpy as np
import torch
import torchvision

HERE = pathlib.Path(__file__).parent
CLIPS = [2, 3, 8, 56, 56]


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
    """Convolutions and the head keep the size of what goes through; norms are near their neutral values."""
    values = uniform(name, shape)
    if len(shape) >= 2:
        return values * np.sqrt(6.0 / np.prod(shape[1:]))
    if name.endswith((".running_var", ".weight")):
        return 1.0 + 0.2 * values
    return 0.1 * values


def main() -> None:
    model = torchvision.models.video.r2plus1d_18(weights=None).eval()
    state = model.state_dict()
    with open(HERE / "torchvision_r2plus1d_18.keys.txt", "w") as keys:
        for name in sorted(state):
            keys.write(f"{name} {list(state[name].shape)}\n")
    for name, tensor in state.items():
        if not name.endswith("num_batches_tracked"):
            tensor.copy_(torch.from_numpy(weight(name, list(tensor.shape)).astype(np.float32)))
    clips = torch.from_numpy(uniform("clips", CLIPS).astype(np.float32))
    with torch.no_grad():
        logits = model(clips)
    golden = {
        "torch": torch.__version__.split("+")[0],
        "torchvision": torchvision.__version__.split("+")[0],
        "parameters": sum(p.numel() for p in model.parameters()),
        "clips": CLIPS,
        "logits": [[float(f"{value:.9g}") for value in row] for row in logits.tolist()],
    }
    text = json.dumps(golden)
    (HERE / "torchvision_r2plus1d_18.json").write_text(text.replace("[[", "[\n[").replace("], [", "],\n[") + "\n")


if __name__ == "__main__":
    main()
