"""I3D on ResNet-50 by itself, from its published description, under the names of PyTorchVideo; makes the golden files.

    pip install torch==2.11.0 --index-url https://download.pytorch.org/whl/cpu
    python libs/models/tests/golden/i3d.py
"""

import torch
from exchange import macs, write_keys, write_logits
from torch import nn
from torch.nn import functional as F

NATIVE = [8, 224, 224]
CLIPS = [2, 3, 5, 48, 57]
# Temporal kernels of conv_a, block by block.
TEMPORAL = [[3, 3, 3], [3, 1, 3, 1], [3, 1, 3, 1, 3, 1], [1, 3, 1]]


def conv(inputs: int, outputs: int, kernel: tuple, stride: int = 1) -> nn.Conv3d:
    padding = tuple(k // 2 for k in kernel)
    return nn.Conv3d(inputs, outputs, kernel, (1, stride, stride), padding, bias=False)


class Stem(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = conv(3, 64, (5, 7, 7), 2)
        self.norm = nn.BatchNorm3d(64)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.max_pool3d(F.relu(self.norm(self.conv(x))), (1, 3, 3), (1, 2, 2), (0, 1, 1))


class Block(nn.Module):
    def __init__(self, inputs: int, inner: int, temporal: int, stride: int, first: bool):
        super().__init__()
        outputs = 4 * inner
        self.branch2 = nn.ModuleDict({
            "conv_a": conv(inputs, inner, (temporal, 1, 1)),
            "norm_a": nn.BatchNorm3d(inner),
            "conv_b": conv(inner, inner, (1, 3, 3), stride),
            "norm_b": nn.BatchNorm3d(inner),
            "conv_c": conv(inner, outputs, (1, 1, 1)),
            "norm_c": nn.BatchNorm3d(outputs),
        })
        if first:
            self.branch1_conv = conv(inputs, outputs, (1, 1, 1), stride)
            self.branch1_norm = nn.BatchNorm3d(outputs)
        self.first = first

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        b = self.branch2
        y = F.relu(b["norm_a"](b["conv_a"](x)))
        y = F.relu(b["norm_b"](b["conv_b"](y)))
        y = b["norm_c"](b["conv_c"](y))
        return F.relu(y + (self.branch1_norm(self.branch1_conv(x)) if self.first else x))


class Stage(nn.Module):
    def __init__(self, inputs: int, inner: int, temporal: list[int], stride: int):
        super().__init__()
        self.res_blocks = nn.Sequential(*(
            Block(inputs if j == 0 else 4 * inner, inner, kernel, stride if j == 0 else 1, j == 0)
            for j, kernel in enumerate(temporal)
        ))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.res_blocks(x)


class Head(nn.Module):
    def __init__(self, inputs: int, classes: int, window: tuple | None):
        super().__init__()
        self.average = nn.AdaptiveAvgPool3d(1) if window is None else nn.AvgPool3d(window, 1)
        self.proj = nn.Linear(inputs, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.proj(self.average(x).movedim(1, -1)).mean(dim=(1, 2, 3))


class I3D(nn.Module):
    """`window` is the size of the head's average, by default everything."""

    def __init__(self, classes: int = 400, window: tuple | None = None):
        super().__init__()
        res2, res3, res4, res5 = TEMPORAL
        self.blocks = nn.Sequential(
            Stem(),
            Stage(64, 64, res2, 1),
            nn.MaxPool3d((2, 1, 1), (2, 1, 1)),
            Stage(256, 128, res3, 2),
            Stage(512, 256, res4, 2),
            Stage(1024, 512, res5, 2),
            Head(2048, classes, window),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.blocks(x)


def main() -> None:
    # Made for 4 × 32², where features are 2 × 1²; given a larger crop, where they are 2 × 3².
    write_logits("i3d_r50_large_crop", I3D(window=(2, 1, 1)), [1, 3, 4, 72, 72], {"made_for": [4, 32, 32]})
    write_keys("i3d_r50", I3D())
    write_logits("i3d_r50", I3D(), CLIPS, {"native": NATIVE, "macs": macs(I3D(), NATIVE)})


if __name__ == "__main__":
    main()
