"""Makes a small checkpoint as others leave them: R(2+1)D in torchvision's layout, two channels wide, saved by torch.

    pip install torch==2.11.0 --index-url https://download.pytorch.org/whl/cpu
    python libs/models/tests/golden/tiny.py

It is a legacy file, with a wrapper and a prefix, in half precision: what published files have one by one.
"""

import pathlib

import torch
from exchange import weight

HERE = pathlib.Path(__file__).parent
WIDTHS, STEM, CLASSES = [2, 3, 4, 5], 3, 4


def middle(inputs: int, outputs: int) -> int:
    return inputs * outputs * 27 // (inputs * 9 + 3 * outputs)


def shapes() -> dict[str, list[int]]:
    """Names and shapes of the state dict."""
    all: dict[str, list[int]] = {"stem.0.weight": [STEM, 3, 1, 7, 7], "stem.3.weight": [WIDTHS[0], STEM, 3, 1, 1]}
    norms = {"stem.1": STEM, "stem.4": WIDTHS[0]}
    inputs = WIDTHS[0]
    for stage, outputs in enumerate(WIDTHS, 1):
        block = f"layer{stage}.0"
        mid = middle(inputs, outputs)
        for conv, channels in [("conv1", inputs), ("conv2", outputs)]:
            all[f"{block}.{conv}.0.0.weight"] = [mid, channels, 1, 3, 3]
            all[f"{block}.{conv}.0.3.weight"] = [outputs, mid, 3, 1, 1]
            norms |= {f"{block}.{conv}.0.1": mid, f"{block}.{conv}.1": outputs}
        if stage > 1:
            all[f"{block}.downsample.0.weight"] = [outputs, inputs, 1, 1, 1]
            norms[f"{block}.downsample.1"] = outputs
        inputs = outputs
    for norm, channels in norms.items():
        all |= {f"{norm}.{part}": [channels] for part in ["weight", "bias", "running_mean", "running_var"]}
    return all | {"fc.weight": [CLASSES, inputs], "fc.bias": [CLASSES]}


def main() -> None:
    state = {f"module.{name}": torch.from_numpy(weight(name, shape)).half() for name, shape in shapes().items()}
    checkpoint = {"epoch": 7, "state_dict": state, "arch": "r2plus1d"}
    torch.save(checkpoint, HERE / "tiny_r2plus1d.pth", _use_new_zipfile_serialization=False)


if __name__ == "__main__":
    main()
