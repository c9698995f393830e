"""What torch.optim makes of two tensors in five steps, for src/optim/tests.rs: `python optimizers.py > optimizers.json`.

Element i (from 1) of a tensor starts at sin(i); its gradient in step t (from 0) is cos(0.7 i + t). `fc.weight` has decay,
`fc.bias` has none. LARS is not in torch: it is written out here, in float64.
"""

import json

import torch

SIZES = {"fc.weight": 12, "fc.bias": 3}
DECAY = {"fc.weight": 0.05, "fc.bias": 0.0}
RATE, STEPS = 0.01, 5


def start(size):
    return torch.sin(torch.arange(1, size + 1, dtype=torch.float64))


def gradient(size, step):
    return torch.cos(0.7 * torch.arange(1, size + 1, dtype=torch.float64) + step)


def by_torch(make):
    params = {name: torch.nn.Parameter(start(size)) for name, size in SIZES.items()}
    optimizer = make([{"params": [params[name]], "weight_decay": DECAY[name]} for name in SIZES])
    for step in range(STEPS):
        for param in params.values():
            param.grad = gradient(len(param), step)
        optimizer.step()
    return {name: param.tolist() for name, param in params.items()}


def by_lars(trust=0.02, momentum=0.9):
    found = {}
    for name, size in SIZES.items():
        p, v = start(size), torch.zeros(size, dtype=torch.float64)
        for step in range(STEPS):
            g, decay = gradient(size, step), DECAY[name]
            if name == "fc.weight":
                g = trust * p.norm() / (g.norm() + decay * p.norm()) * (g + decay * p)
            v = momentum * v + g
            p = p - RATE * (g + momentum * v)
        found[name] = p.tolist()
    return found


print(json.dumps({
    "torch": torch.__version__.split("+")[0],
    "sgd": by_torch(lambda groups: torch.optim.SGD(groups, lr=RATE, momentum=0.9)),
    "nesterov": by_torch(lambda groups: torch.optim.SGD(groups, lr=RATE, momentum=0.9, nesterov=True)),
    "adamw": by_torch(lambda groups: torch.optim.AdamW(groups, lr=RATE, betas=(0.9, 0.95), eps=1e-8)),
    "lars": by_lars(),
}, indent=1))
