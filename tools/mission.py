"""Writes the files that tests/mission reads: what people do with `torch.save`, one file or more for each case.

    python tools/mission.py [DIRECTORY]

Needs torch and numpy. Everything is seeded. `expected.pt` holds what PyTorch says of the files: outputs in eval mode,
names, printed trees, the bytes of tensors.
"""

import argparse
import copy
import sys
import warnings
from pathlib import Path

import numpy
import torch
from torch import nn
from torch.nn.utils import parametrizations, prune as pruning

OUT = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parent.parent / "tests/data/mission")
OUT.mkdir(parents=True, exist_ok=True)
warnings.simplefilter("ignore")

expected = {"torch": torch.__version__}


class Net(nn.Module):
    """The `Net` of tests/mission/nets.rs."""

    def __init__(self, outputs=3):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 4, 3, padding=1)
        self.bn1 = nn.BatchNorm2d(4)
        self.pool = nn.MaxPool2d(2)
        self.dropout = nn.Dropout(0.5)
        self.fc1 = nn.Linear(36, 8)
        self.fc2 = nn.Linear(8, outputs)

    def forward(self, x):
        x = self.pool(torch.relu(self.bn1(self.conv1(x))))
        x = self.dropout(torch.relu(self.fc1(x.flatten(1))))
        return self.fc2(x)


class Printed(nn.Module):
    """A net whose tree is printed."""

    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(1, 2, 3, stride=2), nn.BatchNorm2d(2), nn.ReLU(inplace=True))
        self.fc3 = nn.Conv2d(2, 4, 2)
        self.head = nn.Linear(4, 2, bias=False)


class BatchStatistics(nn.Module):
    """Normalizes with the statistics of the batch, also in eval mode."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 3)
        self.norm = nn.BatchNorm2d(2, track_running_stats=False)
        self.dropout = nn.Dropout2d(0.5)

    def forward(self, x):
        return self.dropout(self.norm(self.conv(x)))


class Normed(nn.Module):
    """Layers to be parametrized: the `Normed` of tests/mission/nets.rs."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3, padding=1)
        self.square = nn.Conv2d(4, 4, 1)
        self.fc = nn.Linear(144, 3)

    def forward(self, x):
        return self.fc(torch.relu(self.square(torch.relu(self.conv(x)))).flatten(1))


def seed(case):
    torch.manual_seed(case)
    numpy.random.seed(case)


def save(name, value, **options):
    path = OUT / f"{name}.pt"
    torch.save(value, path, **options)
    print(f"{path.name}: {path.stat().st_size} bytes")


def inputs(count=2):
    return torch.randn(count, 1, 6, 6)


def train(net, optimizer, steps=3):
    net.train()
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = net(inputs(4)).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def trained(outputs=3):
    net = Net(outputs)
    train(net, torch.optim.SGD(net.parameters(), 0.05))
    return net.eval()


def answer(case, net, x=None, **more):
    """What the net gives in eval mode."""
    x = inputs() if x is None else x
    with torch.no_grad():
        expected[case] = {"x": x, "y": net.eval()(x), **more}


def tagged(name, value, tags):
    """Saves with the location tags that a machine with GPUs would write: `tags` gives one for each storage."""
    original = torch.serialization.location_tag
    torch.serialization.location_tag = lambda storage: tags(storage)
    try:
        save(name, value)
    finally:
        torch.serialization.location_tag = original


def plain_files():
    seed(1)
    net = trained()
    save("01_state_dict", net.state_dict())
    answer("1", net)
    expected["2"] = {"names": list(net.state_dict()), "fc2.weight": net.state_dict()["fc2.weight"].flatten().tolist()}
    numpy.save(OUT / "02_fc2_weight.npy", net.state_dict()["fc2.weight"].numpy())
    expected["3"] = {
        "parameters": [[name, list(p.shape)] for name, p in net.named_parameters()],
        "buffers": [[name, list(b.shape)] for name, b in net.named_buffers()],
        "sums": [p.double().sum().item() for p in net.state_dict().values()],
    }
    seed(4)
    net = Printed()
    save("04_printed", net.state_dict())
    expected["4"] = {"printed": str(net), "linear": net.head.weight.detach()}


def whole_models():
    seed(5)
    net = trained()
    save("05_model", net)
    answer("5", net, names=list(net.state_dict()), printed=str(net))
    layers = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU(), nn.Flatten(), nn.Linear(32, 3))
    train(layers, torch.optim.SGD(layers.parameters(), 0.05))
    save("05_sequential", layers.eval())
    answer("5b", layers, printed=str(layers))


def checkpoints():
    seed(6)
    net = Net()
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01, betas=(0.8, 0.95), weight_decay=0.125)
    loss = train(net, optimizer)[-1]
    save(
        "06_checkpoint",
        {
            "epoch": 7,
            "model_state_dict": net.state_dict(),
            "optimizer_state_dict": optimizer.state_dict(),
            "loss": loss,
        },
    )
    state = optimizer.state_dict()["state"]
    answer("6", net, loss=loss, exp_avg=state[2]["exp_avg"], names=[name for name, _ in net.named_parameters()])

    seed(7)
    for name, make in [
        ("sgd", lambda net: torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9, nesterov=True)),
        (
            "adam",
            lambda net: torch.optim.Adam(
                [{"params": net.fc1.parameters()}, {"params": net.fc2.parameters(), "lr": torch.tensor(0.25)}], lr=0.01
            ),
        ),
        ("adamw", lambda net: torch.optim.AdamW(net.named_parameters(), lr=0.001, amsgrad=True)),
    ]:
        net = Net()
        optimizer = make(net)
        train(net, optimizer)
        save(f"07_{name}", optimizer.state_dict())
        last = list(optimizer.state_dict()["state"].items())[-1]
        expected[f"7{name}"] = {"last": last[0], "state": last[1]}

    seed(8)
    nets = [trained(), trained(2)]
    optimizers = [torch.optim.SGD(net.parameters(), 0.1) for net in nets]
    save(
        "08_gan",
        {
            "modelA_state_dict": nets[0].state_dict(),
            "modelB_state_dict": nets[1].state_dict(),
            "optimizerA_state_dict": optimizers[0].state_dict(),
            "optimizerB_state_dict": optimizers[1].state_dict(),
        },
    )
    for name, net in zip("ab", nets):
        answer(f"8{name}", net)

    seed(9)
    net = trained()
    save(
        "09_extras",
        {
            "state_dict": net.state_dict(),
            "best_loss": numpy.float64(0.25),
            "alpha": nn.Parameter(torch.tensor(0.5)),
            "gamma": torch.tensor([1.0, 2.0]),
            "embedding": nn.Embedding(3, 2),
            "history": numpy.arange(6, dtype=numpy.float32).reshape(2, 3),
            "args": argparse.Namespace(lr=0.1, arch="net"),
            "rng": torch.get_rng_state(),
            "classes": {"cat", "dog"},
            "path": Path("runs/1"),
        },
    )
    answer("9", net)


def changed_names():
    seed(10)
    state = trained().state_dict()
    del state["fc2.weight"], state["fc2.bias"]
    state["classifier.weight"] = torch.randn(9, 8)
    save("10_pretrained", state)

    seed(11)
    deep = nn.Sequential(*(nn.Linear(2, 2) for _ in range(31)))
    state = deep.state_dict()
    renamed = {name.replace("30.", "head."): value for name, value in state.items()}
    save("11_pretrained", renamed)
    answer("11", deep, x=torch.randn(3, 2))

    seed(15)
    net = trained()
    save("15_parallel", nn.DataParallel(net).state_dict())
    save("15_compiled", torch.compile(net).state_dict())
    answer("15", net)


def locations():
    seed(12)
    net = trained()
    tagged("12_cuda", net.state_dict(), lambda storage: "cuda:0")
    tagged("13_cuda1", net.state_dict(), lambda storage: "cuda:1")
    answer("12", net)
    seed(14)
    shared = torch.arange(8.0)
    value = {"whole": shared, "half": shared[4:], "own": torch.ones(2), "bytes": torch.zeros(3, dtype=torch.uint8)}
    tags = {shared.data_ptr(): "cuda:1", value["own"].data_ptr(): "cuda:0"}
    tagged("14_tied", value, lambda storage: tags.get(storage.data_ptr(), "cpu"))


def eval_mode():
    seed(16)
    net = BatchStatistics()
    save("16_batch_statistics", net.state_dict())
    answer("16", net)
    seed(17)
    net = Net()
    for parameter in net.conv1.parameters():
        parameter.requires_grad = False
    save("17_frozen", dict(net.named_parameters()))
    expected["17"] = {"frozen": [name for name, p in net.named_parameters() if not p.requires_grad]}


def parametrized():
    def make(name, apply, change=None):
        seed(18)
        net = Normed()
        apply(net)
        net.train()
        for _ in range(3):
            net(inputs())
        with torch.no_grad():
            for parameter in net.parameters():
                parameter.add_(0.05 * torch.randn_like(parameter))
        net.eval()
        state = copy.deepcopy(net.state_dict())
        if change:
            change(net, state)
            with torch.no_grad():
                for parameter in net.parameters():
                    parameter.zero_()
            net.load_state_dict(state)
        save(f"18_{name}", state)
        answer(f"18{name}", net)
        expected[f"18{name}"]["weights"] = {n: getattr(net, n).weight.detach().clone() for n in ["conv", "square", "fc"]}

    def weight_norm(function):
        def apply(net):
            function(net.conv)
            function(net.square, dim=1)
            function(net.fc, dim=None)

        return apply

    def spectral_norm(function):
        def apply(net):
            function(net.conv)
            function(net.square)
            function(net.fc, dim=1)

        return apply

    def before_version_1(net, state):
        net(inputs())
        for name in ["conv", "square", "fc"]:
            state[f"{name}.weight"] = getattr(net, name).weight.detach().clone()
            del state[f"{name}.weight_v"]
            del state._metadata[name]["spectral_norm"]

    def prune(net):
        pruning.l1_unstructured(net.conv, "weight", 0.5)

    make("weight_norm", weight_norm(parametrizations.weight_norm))
    make("weight_norm_old", weight_norm(nn.utils.weight_norm))
    make("spectral_norm", spectral_norm(parametrizations.spectral_norm))
    make("spectral_norm_old", spectral_norm(nn.utils.spectral_norm))
    make("spectral_norm_v0", spectral_norm(nn.utils.spectral_norm), before_version_1)
    make("pruned", prune)
    make("orthogonal", lambda net: parametrizations.orthogonal(net.square))


def every_tensor():
    seed(20)
    base = torch.arange(24.0).reshape(2, 3, 4)
    whole = torch.randn(2, 3, 4, 4)
    value = {
        "tied_a": base,
        "tied_b": base,
        "view": base[1, :, 1:3],
        "transposed": base.mT,
        "expanded": torch.tensor([[1.0], [2.0]]).expand(2, 5),
        "channels_last": whole.to(memory_format=torch.channels_last),
        "conj": torch.randn(3, dtype=torch.complex64).conj(),
        "neg": torch.randn(3, dtype=torch.complex64).conj().imag,
        "zero_dim": torch.tensor(2.5),
        "empty": torch.zeros(0, 3),
    }
    names = "float64 float32 float16 bfloat16 int64 int32 int16 int8 uint8 bool uint16 uint32 uint64 float8_e4m3fn"
    names += " float8_e5m2 float8_e4m3fnuz float8_e5m2fnuz float8_e8m0fnu complex32 complex64 complex128"
    for name in names.split():
        dtype = getattr(torch, name)
        size = torch.empty(0, dtype=dtype).element_size()
        data = torch.randint(0, 256, (6 * size,), dtype=torch.uint8)
        value[name] = data % 2 == 1 if name == "bool" else data.view(dtype)
    save("20_tensors", value)

    def content(x):
        data = x.resolve_conj().resolve_neg().clone(memory_format=torch.contiguous_format).reshape(-1)
        data = data.view(torch.uint8) if data.numel() else data
        return {
            "dtype": str(x.dtype).removeprefix("torch."),
            "shape": list(x.shape),
            "stride": list(x.stride()),
            "data": bytes(data.tolist()).hex(),
        }

    seed(21)
    unusable = {
        "0.weight": torch.eye(3).to_sparse(),
        "0.bias": torch.zeros(3, device="meta"),
        "1.weight": torch.quantize_per_tensor(torch.eye(3), 0.5, 1, torch.qint8),
        "1.bias": torch.zeros(3, dtype=torch.complex64),
    }
    save("20_unusable", unusable)
    expected["20"] = {name: content(x) for name, x in value.items()}


for write in [
    plain_files,
    whole_models,
    checkpoints,
    changed_names,
    locations,
    eval_mode,
    parametrized,
    every_tensor,
]:
    write()
save("expected", expected)
