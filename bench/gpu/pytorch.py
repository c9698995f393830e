"""PyTorch on the same card: the static networks as people run them, bf16 autocast, channels last. Lines of JSON.

torchvision's R(2+1)D-18, and X3D-M and I3D-ResNet-50 as written for this repository's golden values. Training: forward, backward and a
fused SGD step on a batch that lies on the device. Inference: eval(), no_grad(). `compile` is torch.compile with its defaults.
"""

import json
import statistics
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "libs/models/tests/golden"))

import torch  # noqa: E402
import torch.nn.functional as F  # noqa: E402
from i3d import I3D  # noqa: E402
from torchvision.models.video import r2plus1d_18  # noqa: E402
from x3d import X3D  # noqa: E402

MODELS = {
    "r2plus1d_18": (lambda: r2plus1d_18(weights=None), (16, 112, 112), (32, 64, 128)),
    "x3d_m": (lambda: X3D("x3d_m"), (16, 224, 224), (32,)),
    "i3d_r50": (I3D, (8, 224, 224), (32,)),
}


def timed(run, warmup: int, repeats: int) -> float:
    """Median seconds, the device waited for each time, as a training step that reports its loss does."""
    seconds = []
    for at in range(warmup + repeats):
        begin = time.perf_counter()
        run()
        torch.cuda.synchronize()
        if at >= warmup:
            seconds.append(time.perf_counter() - begin)
    return statistics.median(seconds)


def say(**figures) -> None:
    print(json.dumps(figures), flush=True)


def train(name: str, batch: int, how: str) -> None:
    build, clip, _ = MODELS[name]
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    model = build().cuda().train().to(memory_format=torch.channels_last_3d)
    run = torch.compile(model) if how == "compile" else model
    optimizer = torch.optim.SGD(model.parameters(), 0.01, momentum=0.9, nesterov=True, fused=True)
    x = torch.randn(batch, 3, *clip, device="cuda").to(memory_format=torch.channels_last_3d)
    labels = torch.randint(0, 400, (batch,), device="cuda")

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cuda", torch.bfloat16):
            loss = F.cross_entropy(run(x), labels)
        loss.backward()
        optimizer.step()

    seconds = timed(step, 4, 10)
    gib = torch.cuda.max_memory_allocated() / 2**30
    say(what="pytorch train", how=how, model=name, batch=batch, clips_per_s=batch / seconds, gib=gib)


def infer(name: str, batch: int) -> None:
    build, clip, _ = MODELS[name]
    model = build().cuda().eval().to(memory_format=torch.channels_last_3d)
    x = torch.randn(batch, 3, *clip, device="cuda").to(memory_format=torch.channels_last_3d)
    with torch.no_grad(), torch.autocast("cuda", torch.bfloat16):
        seconds = timed(lambda: model(x), 5, 15)
    say(what="pytorch infer", how="eager", model=name, batch=batch, ms=seconds * 1e3, clips_per_s=batch / seconds)


def ceilings() -> None:
    a, b = (torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    product = timed(lambda: a @ b, 3, 10)
    big = torch.empty(2**32, device="cuda", dtype=torch.uint8)
    copy = timed(lambda: big[: 2**31].copy_(big[2**31 :]), 3, 10)
    say(
        what="ceilings",
        device=torch.cuda.get_device_name(),
        torch=torch.__version__,
        cudnn=torch.backends.cudnn.version(),
        tflops=2 * 8192**3 / product / 1e12,
        copy_tb_per_s=2 * 2**31 / copy / 1e12,
    )


def main() -> None:
    ceilings()
    for name, (_, _, batches) in MODELS.items():
        for batch in batches:
            train(name, batch, "eager")
        for batch in (1, 8, 32):
            infer(name, batch)
    train("r2plus1d_18", 64, "compile")


if __name__ == "__main__":
    main()
