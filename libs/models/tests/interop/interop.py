"""Weights go from PyTorch to vared and back, and both compute the same: `cargo xtask interop` runs this.

    python libs/models/tests/interop/interop.py WORKER FOLDER

WORKER is vared's executable, FOLDER takes what is exchanged. R(2+1)D is torchvision's own; X3D, I3D and Inception-V2 are the
independent implementations in `../golden`. Every check prints its relative error and fails above 1e-5.
"""

import copy
import json
import pathlib
import subprocess
import sys

import torch
import torchvision
from safetensors import safe_open
from safetensors.torch import load_file, save_file

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "golden"))
from exchange import fill  # noqa: E402
from i3d import I3D  # noqa: E402
from inception import Inception  # noqa: E402
from x3d import X3D  # noqa: E402

LIMIT = 1e-5
WORKER, FOLDER = pathlib.Path(sys.argv[1]).resolve(), pathlib.Path(sys.argv[2])
# Every layer at another mix of options; a time option of 1 suits layers that have one option, too.
POLICY = {"*": {"time": 1, "channel": [0.6, 0.8]}}
HALF = {"*": {"time": 1, "channel": 1}}


def worker(*words: object) -> str:
    """Runs vared's executable and gives what it printed."""
    command = [str(word) for word in [WORKER, *words]]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)} failed: {done.stderr.strip()}")
    return done.stdout


def compare(what: str, got: torch.Tensor, expected: torch.Tensor) -> None:
    error = ((got - expected).abs().max() / expected.abs().max()).item()
    print(f"  {what}: {error:.1e}")
    if not error <= LIMIT:
        sys.exit(f"{what}: relative error {error}, at most {LIMIT} is wanted")


def forward(weights: pathlib.Path, policy: object) -> torch.Tensor:
    """Logits of the clips in FOLDER/clips.safetensors by vared."""
    policy = policy if isinstance(policy, str) else json.dumps(policy)
    out = FOLDER / "out.safetensors"
    worker("forward", "--weights", weights, "--input", FOLDER / "clips.safetensors", "--policy", policy, "--output", out)
    return load_file(out)["logits"]


def program(weights: pathlib.Path, policy: object) -> torch.jit.ScriptModule:
    """vared's TorchScript, loaded by PyTorch."""
    policy = policy if isinstance(policy, str) else json.dumps(policy)
    out = FOLDER / "program.pt"
    worker("export", "--weights", weights, "--format", "torchscript", "--policy", policy, "--output", out)
    return torch.jit.load(out)


def exchange(name: str, model: torch.nn.Module, clips: torch.Tensor, files: dict[str, dict]) -> None:
    """Every file becomes the same network; the network goes back into PyTorch, as weights and as a program."""
    print(name)
    model = model.eval()
    with torch.no_grad():
        expected = model(clips)
    save_file({"clips": clips}, FOLDER / "clips.safetensors")
    _, _, frames, crop, _ = clips.shape
    view = ["--frames", frames, "--crop", crop, "--short-side", crop]
    weights, dynamic, plain = (FOLDER / f"{kind}.safetensors" for kind in ["weights", "dynamic", "plain"])
    for kind, options in files.items():
        path = FOLDER / kind
        torch.save(options["content"], path, _use_new_zipfile_serialization=options.get("zip", True))
        said = worker("import", path, "--output", weights, *view)
        if name not in said:
            sys.exit(f"{kind} was taken for something else: {said}")
        compare(f"{kind} → vared", forward(weights, "full"), expected)
    worker("import", FOLDER / next(iter(files)), "--output", dynamic, "--dynamic", *view)
    compare("dynamic, policy full → vared", forward(dynamic, "full"), expected)
    worker("export", "--weights", dynamic, "--backbone-only", "--output", plain)
    back = load_file(plain)
    fresh = copy.deepcopy(model)
    for tensor in fresh.state_dict().values():
        tensor.zero_()
    fresh.load_state_dict(back, strict=True)
    with torch.no_grad():
        compare("vared → PyTorch, load_state_dict(strict=True)", fresh(clips), expected)
        compare("TorchScript, policy full", program(weights, "full")(clips), expected)
        for label, policy in [("mixed", POLICY), ("half", HALF)]:
            ours, theirs = forward(dynamic, policy), program(dynamic, policy)
            compare(f"TorchScript, a forced policy ({label})", theirs(clips), ours)
            compare(f"TorchScript, the same for one clip ({label})", theirs(clips[:1]), ours[:1])
            if torch.allclose(ours, expected, rtol=1e-3):
                sys.exit("the forced policy changed nothing")
    with safe_open(plain, "pt") as file:
        card = json.loads(file.metadata()["vared"])
    assert card["model"]["dynamic"] == "none" and card["view"]["crop"] == crop, card


def variants(state: dict[str, torch.Tensor]) -> dict[str, dict]:
    """A state dict as people save it."""
    module = {f"module.{name}": tensor for name, tensor in state.items()}
    return {
        "plain.pth": {"content": state},
        "legacy.pth": {"content": state, "zip": False},
        "checkpoint.pyth": {"content": {"epoch": 3, "model_state": module, "optimizer_state": {}, "cfg": "A: 1\n"}},
        "lightning.pth": {"content": {"state_dict": {f"model.{name}": tensor for name, tensor in state.items()}}},
    }


def pyslowfast(name: str, is_x3d: bool) -> str:
    """PySlowFast's name of a tensor, from PyTorchVideo's."""
    parts = name.split(".")
    block, rest = int(parts[1]), ".".join(parts[2:])
    if block == 0:
        stem = {"conv.conv_t": "conv_xy", "conv.conv_xy": "conv", "conv": "conv", "norm": "bn"}
        part, parameter = rest.rsplit(".", 1)
        return f"s1.pathway0_stem.{stem[part]}.{parameter}"
    if parts[2] != "res_blocks":
        head = {"pool.pre_conv": "conv_5", "pool.pre_norm": "conv_5_bn", "pool.post_conv": "lin_5", "proj": "projection"}
        part, parameter = rest.rsplit(".", 1)
        return f"head.{head[part]}.{parameter}"
    stage = block + 1 if is_x3d or block == 1 else block
    unit, (part, parameter) = parts[3], ".".join(parts[4:]).rsplit(".", 1)
    units = {"branch1_conv": "branch1", "branch1_norm": "branch1_bn"}
    units |= {f"branch2.conv_{x}": f"branch2.{x}" for x in "abc"} | {f"branch2.norm_{x}": f"branch2.{x}_bn" for x in "abc"}
    units |= {"branch2.norm_b.0": "branch2.b_bn", "branch2.norm_b.1.block.0": "branch2.se.fc1", "branch2.norm_b.1.block.2": "branch2.se.fc2"}
    return f"s{stage}.pathway0_res{unit}.{units[part]}.{parameter}"


def both(state: dict[str, torch.Tensor], is_x3d: bool) -> dict[str, dict]:
    """PyTorchVideo's file and PySlowFast's."""
    theirs = {pyslowfast(name, is_x3d): tensor for name, tensor in state.items()}
    return {
        "pytorchvideo.pyth": {"content": {"model_state": state}},
        "pyslowfast.pyth": {"content": {"epoch": 300, "model_state": theirs, "optimizer_state": {}, "cfg": "A: 1\n"}},
    }


def main() -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    r2plus1d = torchvision.models.video.r2plus1d_18(weights=None)
    fill(r2plus1d)
    exchange("r2plus1d_18", r2plus1d, torch.rand(2, 3, 8, 56, 56) * 2 - 1, variants(r2plus1d.state_dict()))
    clips = torch.rand(2, 3, 4, 64, 64) * 2 - 1
    for norm_always in [False, True]:
        x3d = X3D("x3d_m", norm_always=norm_always)
        fill(x3d)
        exchange("x3d_m", x3d, clips, both(x3d.state_dict(), True))
    i3d = I3D()
    fill(i3d)
    exchange("i3d_r50", i3d, clips, both(i3d.state_dict(), False))
    inception = Inception()
    fill(inception)
    exchange("inception_v2", inception, clips, {"plain.pth": {"content": inception.state_dict()}})
    print(f"all within {LIMIT}")


if __name__ == "__main__":
    main()
