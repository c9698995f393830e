"""X3D by itself, from its published description, under the names of PyTorchVideo; makes the golden files.

    pip install torch==2.11.0 --index-url https://download.pytorch.org/whl/cpu
    python libs/models/tests/golden/x3d.py
"""

import math

import torch
from exchange import macs, write_keys, write_logits
from torch import nn
from torch.nn import functional as F

WIDTHS = [24, 48, 96, 192]
DEPTHS = {"x3d_s": 2.2, "x3d_m": 2.2, "x3d_l": 5.0}
NATIVE = {"x3d_s": [13, 160, 160], "x3d_m": [16, 224, 224], "x3d_l": [16, 312, 312]}
# Small clips for the golden logits, of odd sizes too.
CLIPS = {"x3d_s": [2, 3, 5, 39, 46], "x3d_m": [2, 3, 4, 64, 64], "x3d_l": [1, 3, 4, 48, 48]}


def conv(inputs: int, outputs: int, kernel: tuple, stride: tuple = (1, 1, 1), groups: int = 1) -> nn.Conv3d:
    padding = tuple(k // 2 for k in kernel)
    return nn.Conv3d(inputs, outputs, kernel, stride, padding, groups=groups, bias=False)


def average(window: tuple | None) -> nn.Module:
    """Of windows of this size, at every position."""
    return nn.AdaptiveAvgPool3d(1) if window is None else nn.AvgPool3d(window, 1)


class Stem(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        # The published names are the wrong way round.
        self.conv = nn.ModuleDict({
            "conv_t": conv(3, width, (1, 3, 3), (1, 2, 2)),
            "conv_xy": conv(width, width, (5, 1, 1), groups=width),
        })
        self.norm = nn.BatchNorm3d(width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.relu(self.norm(self.conv["conv_xy"](self.conv["conv_t"](x))))


class SqueezeExcite(nn.Module):
    def __init__(self, channels: int):
        super().__init__()
        hidden = max(8, int(channels / 16 + 4) // 8 * 8)
        if hidden < 0.9 * channels / 16:
            hidden += 8
        self.block = nn.Sequential(
            nn.Conv3d(channels, hidden, 1), nn.ReLU(), nn.Conv3d(hidden, channels, 1), nn.Sigmoid()
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.block(x.mean(dim=(2, 3, 4), keepdim=True))


class Block(nn.Module):
    def __init__(self, inputs: int, outputs: int, index: int, norm_always: bool):
        super().__init__()
        inner, stride = int(2.25 * outputs), 2 if index == 0 else 1
        norm_b = nn.BatchNorm3d(inner)
        self.branch2 = nn.ModuleDict({
            "conv_a": conv(inputs, inner, (1, 1, 1)),
            "norm_a": nn.BatchNorm3d(inner),
            "conv_b": conv(inner, inner, (3, 3, 3), (1, stride, stride), groups=inner),
            "norm_b": nn.Sequential(norm_b, SqueezeExcite(inner) if index % 2 == 0 else nn.Identity()),
            "conv_c": conv(inner, outputs, (1, 1, 1)),
            "norm_c": nn.BatchNorm3d(outputs),
        })
        self.branch1_conv = conv(inputs, outputs, (1, 1, 1), (1, stride, stride)) if index == 0 else None
        has_norm = index == 0 and (norm_always or inputs != outputs)
        self.branch1_norm = nn.BatchNorm3d(outputs) if has_norm else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        b = self.branch2
        y = F.relu(b["norm_a"](b["conv_a"](x)))
        y = F.silu(b["norm_b"](b["conv_b"](y)))
        y = b["norm_c"](b["conv_c"](y))
        if self.branch1_conv is not None:
            x = self.branch1_conv(x)
        if self.branch1_norm is not None:
            x = self.branch1_norm(x)
        return F.relu(y + x)


class Stage(nn.Module):
    def __init__(self, inputs: int, outputs: int, blocks: int, norm_always: bool):
        super().__init__()
        self.res_blocks = nn.Sequential(
            *(Block(inputs if j == 0 else outputs, outputs, j, norm_always) for j in range(blocks))
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.res_blocks(x)


class Head(nn.Module):
    def __init__(self, inputs: int, classes: int, window: tuple | None):
        super().__init__()
        inner = int(2.25 * inputs)
        self.average = average(window)
        self.pool = nn.ModuleDict({
            "pre_conv": conv(inputs, inner, (1, 1, 1)),
            "pre_norm": nn.BatchNorm3d(inner),
            "post_conv": conv(inner, 2048, (1, 1, 1)),
        })
        self.proj = nn.Linear(2048, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        p = self.pool
        x = F.relu(p["pre_norm"](p["pre_conv"](x)))
        x = F.relu(p["post_conv"](self.average(x)))
        return self.proj(x.movedim(1, -1)).mean(dim=(1, 2, 3))


class X3D(nn.Module):
    """`name` of `DEPTHS`; `norm_always` puts the norm on the first stage's shortcut that PySlowFast has; `window` is the size
    of the head's average, by default everything."""

    def __init__(self, name: str, classes: int = 400, norm_always: bool = False, window: tuple | None = None):
        super().__init__()
        depths = [math.ceil(DEPTHS[name] * depth) for depth in (1, 2, 5, 3)]
        inputs = [WIDTHS[0], *WIDTHS[:-1]]
        stages = [Stage(i, o, d, norm_always) for i, o, d in zip(inputs, WIDTHS, depths)]
        self.blocks = nn.Sequential(Stem(WIDTHS[0]), *stages, Head(WIDTHS[-1], classes, window))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.blocks(x)


def main() -> None:
    # Made for 4 × 32², where features are 4 × 1²; given a larger crop, where they are 4 × 2².
    large = X3D("x3d_m", window=(4, 1, 1))
    write_logits("x3d_m_large_crop", large, [1, 3, 4, 64, 64], {"made_for": [4, 32, 32]})
    for name, native in NATIVE.items():
        if name != "x3d_s":
            write_keys(name, X3D(name))
        write_logits(name, X3D(name), CLIPS[name], {"native": native, "macs": macs(X3D(name), native)})


if __name__ == "__main__":
    main()
