"""I3D on Inception-V2 by itself: BN-Inception under its published names, inflated as `docs/backbones.md` says; makes the
golden files.

    pip install torch==2.11.0 --index-url https://download.pytorch.org/whl/cpu
    python libs/models/tests/golden/inception.py
"""

import torch
from exchange import macs, write_keys, write_logits
from torch import nn
from torch.nn import functional as F

NATIVE = [8, 224, 224]
# Sizes whose halves stay even down to the last pool over space, as at 224; an odd number of frames.
CLIPS = [2, 3, 7, 64, 96]
# 1x1, 3x3 (reduce, out), double 3x3 (reduce, out), what is pooled, its projection.
BLOCKS = {
    "3a": (64, (64, 64), (64, 96), "avg", 32),
    "3b": (64, (64, 96), (64, 96), "avg", 64),
    "3c": (None, (128, 160), (64, 96), "max", None),
    "4a": (224, (64, 96), (96, 128), "avg", 128),
    "4b": (192, (96, 128), (96, 128), "avg", 128),
    "4c": (160, (128, 160), (128, 160), "avg", 128),
    "4d": (96, (128, 192), (160, 192), "avg", 128),
    "4e": (None, (128, 192), (192, 256), "max", None),
    "5a": (352, (192, 320), (160, 224), "avg", 128),
    "5b": (352, (192, 320), (192, 224), "max", 128),
}


def reduce_pool(x: torch.Tensor, time: bool) -> torch.Tensor:
    """3×3 windows at every second position, cut at the far end; over frames too if asked. Caffe's rounding up leaves out the
    window that begins at the last of an odd number: there the frames are filled up first."""
    if not time:
        return F.max_pool3d(x, (1, 3, 3), (1, 2, 2), ceil_mode=True)
    if x.shape[2] % 2 == 1:
        x = torch.cat([x, torch.full_like(x[:, :, :1], -torch.inf)], dim=2)
    return F.max_pool3d(x, 3, 2, ceil_mode=True)


class Inception(nn.Module):
    def __init__(self, classes: int = 400):
        super().__init__()
        self.add("conv1_7x7_s2", 3, 64, (3, 7, 7), (1, 2, 2))
        self.add("conv2_3x3_reduce", 64, 64, 1)
        self.add("conv2_3x3", 64, 192, 3)
        channels = 192
        for name, (one, three, double, _, projection) in BLOCKS.items():
            stride = 2 if one is None else 1
            prefix = f"inception_{name}_"
            if one is not None:
                self.add(prefix + "1x1", channels, one, 1)
            self.add(prefix + "3x3_reduce", channels, three[0], 1)
            self.add(prefix + "3x3", three[0], three[1], 3, stride)
            self.add(prefix + "double_3x3_reduce", channels, double[0], 1)
            self.add(prefix + "double_3x3_1", double[0], double[1], 3)
            self.add(prefix + "double_3x3_2", double[1], double[1], 3, stride)
            if projection is not None:
                self.add(prefix + "pool_proj", channels, projection, 1)
            channels = three[1] + double[1] + (channels if one is None else one + projection)
        self.last_linear = nn.Linear(channels, classes)

    def add(self, name: str, inputs: int, outputs: int, kernel, stride=1) -> None:
        padding = tuple(k // 2 for k in kernel) if isinstance(kernel, tuple) else kernel // 2
        self.add_module(name, nn.Conv3d(inputs, outputs, kernel, stride, padding, bias=False))
        self.add_module(name + "_bn", nn.BatchNorm3d(outputs))

    def unit(self, x: torch.Tensor, *names: str) -> torch.Tensor:
        for name in names:
            x = F.relu(self.get_submodule(name + "_bn")(self.get_submodule(name)(x)))
        return x

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = reduce_pool(self.unit(x, "conv1_7x7_s2"), time=False)
        x = reduce_pool(self.unit(x, "conv2_3x3_reduce", "conv2_3x3"), time=False)
        for name, (one, _, _, pool, projection) in BLOCKS.items():
            prefix = f"inception_{name}_"
            branches = [
                self.unit(x, prefix + "3x3_reduce", prefix + "3x3"),
                self.unit(x, prefix + "double_3x3_reduce", prefix + "double_3x3_1", prefix + "double_3x3_2"),
            ]
            if one is None:
                branches.append(reduce_pool(x, time=True))
            else:
                # Padded by hand: torch refuses to average features that are smaller than the kernel.
                pooled = F.avg_pool3d(F.pad(x, [1] * 6), 3, 1) if pool == "avg" else F.max_pool3d(x, 3, 1, 1)
                branches = [self.unit(x, prefix + "1x1"), *branches, self.unit(pooled, prefix + "pool_proj")]
            x = torch.cat(branches, dim=1)
        return self.last_linear(x.mean(dim=(2, 3, 4)))


def main() -> None:
    write_keys("inception_v2", Inception())
    write_logits("inception_v2", Inception(), CLIPS, {"native": NATIVE, "macs": macs(Inception(), NATIVE)})


if __name__ == "__main__":
    main()
