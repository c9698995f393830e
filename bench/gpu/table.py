"""The report of bench/gpu/run, from its figures and its log: nothing in it is typed by hand."""

import json
import sys
from datetime import date
from pathlib import Path

figures = [json.loads(line) for line in Path(sys.argv[1]).read_text().splitlines()]
log = Path(sys.argv[2]).read_text().splitlines()


def of(what: str, **wanted) -> list:
    return [f for f in figures if f["what"] == what and all(f.get(k) == v for k, v in wanted.items())]


ceiling = (of("ceilings") or [{}])[0]
peak = ceiling.get("tflops")
print(f"{date.today()}  {ceiling.get('device', 'unknown device')}, PyTorch {ceiling.get('torch')}, cuDNN {ceiling.get('cudnn')}")
if peak:
    print(f"measured ceilings: bf16 product {peak:.0f} TFLOP/s, copy {ceiling['copy_tb_per_s']:.2f} TB/s (read and written)")

checks = [line for line in log if line.startswith(("ok ", "FAIL"))]
print(f"\nchecks: {sum(line.startswith('ok') for line in checks)} passed, {sum(line.startswith('FAIL') for line in checks)} failed")
for line in checks:
    if line.startswith("FAIL") or "50 steps" in line or "stopped" in line or "published" in line:
        print("  " + line)

print("\ntraining, bf16, fed from host memory, one lane; PyTorch: bf16 autocast, channels last, batch on the device")
print(f"{'':12} {'':8} {'':14} {'batch':>5} {'clips/s':>8} {'TFLOP/s':>8} {'of peak':>8} {'GiB':>6} {'/ eager':>8}")
for f in of("train"):
    eager = of("pytorch train", model=f["model"], batch=f["batch"], how="eager")
    ratio = f"{f['clips_per_s'] / eager[0]['clips_per_s']:8.2f}" if eager else "       -"
    kind, order = "dynamic" if f["dynamic"] else "static", "one order" if f["deterministic"] else "fastest"
    share = f"{f['tflops'] / peak:8.1%}" if peak else "       -"
    print(f"{f['model']:12} {kind:8} {order:14} {f['batch']:5} {f['clips_per_s']:8.1f} {f['tflops']:8.1f} {share} {f['gib']:6.1f} {ratio}")
for f in of("pytorch train"):
    print(f"{f['model']:12} {'PyTorch':8} {f['how']:14} {f['batch']:5} {f['clips_per_s']:8.1f} {'':8} {'':8} {f['gib']:6.1f}")

print("\ninference, bf16; faster: than our own backbone at that batch; promised: by multiply-adds, all in; realised: their ratio")
print(f"{'':12} {'':16} {'batch':>5} {'ms':>8} {'clips/s':>8} {'faster':>7} {'promised':>9} {'realised':>9} {'/ eager':>8}")
for f in of("infer"):
    eager = of("pytorch infer", model=f["model"], batch=f["batch"])
    ratio = f"{f['clips_per_s'] / eager[0]['clips_per_s']:8.2f}" if eager else "       -"
    print(
        f"{f['model']:12} {f['policy']:16} {f['batch']:5} {f['ms']:8.2f} {f['clips_per_s']:8.1f} {f['faster']:7.2f} "
        f"{f['promised']:9.2f} {f['realised']:9.2f} {ratio}"
    )
