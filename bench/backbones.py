"""The static backbones against the same networks in PyTorch: one machine, the same threads, in turns.

    cargo build -p worker
    python bench/backbones.py [--threads 1] [--json FILE]

Needs torch 2.11.0, torchvision and numpy; `cargo xtask interop` leaves such a Python in target/interop/venv. PyTorch runs as most
people run it: eval(), no_grad(), eager, float32. Ratios above 1: vared is faster.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "libs/models/tests/golden"))

import torch  # noqa: E402
from i3d import I3D  # noqa: E402
from torchvision.models.video import r2plus1d_18  # noqa: E402
from x3d import X3D  # noqa: E402

CASES = [
    ("r2plus1d_18", lambda: r2plus1d_18(weights=None), (8, 112, 112)),
    ("r2plus1d_18", lambda: r2plus1d_18(weights=None), (16, 112, 112)),
    ("x3d_m", lambda: X3D("x3d_m"), (16, 224, 224)),
    ("i3d_r50", I3D, (8, 224, 224)),
]


def pytorch(model: torch.nn.Module, clips: torch.Tensor, repeats: int) -> list[float]:
    seconds = []
    with torch.no_grad():
        model(clips)
        for _ in range(repeats):
            begin = time.perf_counter()
            model(clips)
            seconds.append(time.perf_counter() - begin)
    return seconds


def vared(name: str, clip: tuple, batch: int, threads: int, repeats: int) -> float:
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "profile.json"
        command = [ROOT / "target/debug/worker", "profile", "--model", name, "--policy", "full", "--json", report]
        command += ["--clip", "x".join(map(str, clip)), "--batch", str(batch), "--threads", str(threads)]
        subprocess.run([*command, "--repeats", str(repeats)], check=True, stdout=subprocess.DEVNULL)
        return json.loads(report.read_text())["backbone"]["seconds"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--rounds", type=int, default=2, help="times that both are measured in turn")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    rows = []
    for name, build, clip in CASES:
        model = build().eval()
        for batch in args.batches:
            clips, repeats = torch.randn(batch, 3, *clip), 7 if batch == 1 else 3
            theirs, ours = [], []
            for _ in range(args.rounds):
                theirs += pytorch(model, clips, repeats)
                ours.append(vared(name, clip, batch, args.threads, repeats))
            row = {"model": name, "clip": clip, "batch": batch, "threads": args.threads}
            row |= {"pytorch_ms": 1e3 * statistics.median(theirs), "vared_ms": 1e3 * statistics.median(ours)}
            row["ratio"] = row["pytorch_ms"] / row["vared_ms"]
            rows.append(row)
            shape = "x".join(map(str, clip))
            print(f"{name:12} {batch} x {shape:10} PyTorch {row['pytorch_ms']:8.1f} ms  vared {row['vared_ms']:8.1f} ms  {row['ratio']:.2f} x", flush=True)
    if args.json:
        args.json.write_text(json.dumps({"torch": torch.__version__, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
