"""How long a run stands still when workers are killed: from SIGKILL to the next step that is done.

    cargo build -p worker -p coordinator -p dataloader
    python bench/recovery.py [--kills 20] [--bin target/debug] [--json FILE]

Two workers and a small network, on clips of a few kilobytes that the ffmpeg program renders. Three ways, one after the other:

    one may go on     --min-workers 1, one worker is killed: the survivor goes on with what it holds
    both must be there --min-workers 2, one worker is killed: the survivor waits for the process that takes its place
    nobody survives   both workers are killed at once: the last checkpoint is read, what came after it is trained again

Times are those of metrics.jsonl, written where the coordinator hears of a step. Each kill waits until both workers train again.
"""

import argparse
import json
import os
import signal
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# Waits are for events; on a busy machine they may take this long.
LIMIT_SECONDS = 120
STEPS_BETWEEN_KILLS = 7

RECIPE = """
name = "recovery"
[run]
seed = 3
lanes = 2
batch_clips = 16
checkpoint_every_steps = 5
threads = 1
[data]
train = "data/train"
val = "data/val"
frames = 4
stride = 2
short_side = [34, 40]
crop = 32
flip = false
mean = [0.45, 0.45, 0.45]
std = [0.25, 0.25, 0.25]
[model]
backbone = "r2plus1d"
blocks = [1, 1, 1, 1]
widths = [8, 8, 8, 8]
stem = 4
classes = 2
[optim]
ema_decay = 0.9
[[stages]]
name = "accuracy"
epochs = 10000
lr = 0.01
"""


def make_data(folder: Path, programs: Path) -> None:
    (folder / "recovery.toml").write_text(RECIPE)
    sources = {"bars": "testsrc2=size=64x48:rate=15", "zoom": "mandelbrot=size=64x48:rate=15"}
    for name, source in sources.items():
        video = folder / f"{name}.mp4"
        command = ["ffmpeg", "-v", "error", "-f", "lavfi", "-t", "0.8", "-i", source, "-c:v", "libx264"]
        subprocess.run([*command, "-preset", "ultrafast", "-pix_fmt", "yuv420p", video], check=True)
        for split, count in {"train": 160, "val": 1}.items():
            kind = folder / "videos" / split / name
            kind.mkdir(parents=True)
            for i in range(count):
                (kind / f"{i}.mp4").write_bytes(video.read_bytes())
    pack = [programs / "dataloader", "pack", "--from", "videos/train", "--to", "store/data/train"]
    subprocess.run([*pack, "--val-from", "videos/val", "--val-to", "store/data/val"], cwd=folder, check=True, stdout=subprocess.DEVNULL)


class Run:
    """A coordinator with two workers, and what it writes into metrics.jsonl."""

    def __init__(self, folder: Path, programs: Path, name: str, min_workers: int) -> None:
        arguments = ["--recipe", "recovery.toml", "--store", "store", "--log-dir", "logs", "--run", name]
        arguments += ["--workers", "2", "--min-workers", str(min_workers)]
        output = (folder / f"{name}.log").open("w")
        self.process = subprocess.Popen([programs / "coordinator", *arguments], cwd=folder, stdout=output, stderr=output)
        self.metrics = folder / "logs" / name / "metrics.jsonl"
        self.read_bytes = 0
        self.workers: list[str] = []

    def lines(self) -> list[dict]:
        """What is new."""
        if not self.metrics.exists():
            return []
        with self.metrics.open("rb") as file:
            file.seek(self.read_bytes)
            whole = file.read().rpartition(b"\n")[0]
        self.read_bytes += len(whole) + 1 if whole else 0
        lines = [json.loads(line) for line in whole.splitlines()]
        for line in lines:
            if line["event"] == "generation":
                self.workers = line["workers"]
        return lines

    def wait(self, what: str, is_it) -> dict:
        deadline = time.time() + LIMIT_SECONDS
        while time.time() < deadline:
            for line in self.lines():
                if is_it(line):
                    return line
            if self.process.poll() is not None:
                raise SystemExit(f"the coordinator ended while {what} was waited for; see its log")
            time.sleep(0.01)
        raise SystemExit(f"no {what} within {LIMIT_SECONDS} s")

    def kill(self, names: list[str]) -> float:
        """Kills the launched workers of these names, and says when."""
        ids = subprocess.run(["pgrep", "-P", str(self.process.pid)], capture_output=True, text=True).stdout.split()
        commands = {i: Path(f"/proc/{i}/cmdline").read_text().split("\0") for i in ids if Path(f"/proc/{i}").exists()}
        chosen = [int(i) for i, command in commands.items() if any(name in command for name in names)]
        assert len(chosen) == len(names), (names, commands)
        moment = time.time()
        for process in chosen:
            os.kill(process, signal.SIGKILL)
        return moment


def measure(run: Run, victims, kills: int) -> dict:
    stood, again, repeated = [], [], []
    for number in range(kills):
        reached = run.wait("a step of both workers", lambda line: line["event"] == "step" and len(run.workers) == 2)
        target = reached["step"] + STEPS_BETWEEN_KILLS
        last = run.wait("some steps", lambda line: line["event"] == "step" and line["step"] >= target)
        names, generation = victims(number), last["generation"]
        moment = run.kill(names)
        following = lambda line: line["event"] == "step" and line["generation"] > generation  # noqa: E731
        first = run.wait("a step after the kill", following)
        stood.append(first["time"] - moment)
        repeated.append(max(0, last["step"] + 1 - first["step"]))
        both = first
        while len(run.workers) < 2 or both["generation"] <= generation:
            both = run.wait("a step of both", lambda line: line["event"] == "step" and len(run.workers) == 2)
        again.append(both["time"] - moment)
    return {"next_step_seconds": stood, "both_again_seconds": again, "steps_repeated": repeated}


def show(title: str, figures: dict) -> None:
    stood, again = figures["next_step_seconds"], figures["both_again_seconds"]
    print(
        f"{title:<19} {len(stood)} kills: next step after {statistics.median(stood):.2f} s (worst {max(stood):.2f}); "
        f"both again after {statistics.median(again):.2f} s (worst {max(again):.2f}); "
        f"steps trained again: {statistics.median(figures['steps_repeated']):.0f} (most {max(figures['steps_repeated'])})",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20, help="of each kind")
    parser.add_argument("--bin", type=Path, default=ROOT / "target/debug", help="where the programs are")
    parser.add_argument("--json", type=Path, help="write every figure there")
    arguments = parser.parse_args()
    one = lambda number: [f"worker-{number % 2}"]  # noqa: E731
    both = lambda _: ["worker-0", "worker-1"]  # noqa: E731
    ways = [("one may go on", 1, one), ("both must be there", 2, one), ("nobody survives", 2, both)]
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        make_data(Path(folder), arguments.bin.resolve())
        for index, (title, min_workers, victims) in enumerate(ways):
            run = Run(Path(folder), arguments.bin.resolve(), f"r{index}", min_workers)
            try:
                results[title] = measure(run, victims, arguments.kills)
            finally:
                run.process.kill()
                run.process.wait()
            show(title, results[title])
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
