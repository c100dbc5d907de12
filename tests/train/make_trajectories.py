#!/usr/bin/env python3
"""Writes trajectories.h5: the losses of 20 steps of every model with sgd, adam and lamb, computed by PyTorch in float64.

    /MODEL/OPTIMIZER/losses    float64 [20], of the batch before each update

Start weights and batches are no part of the file: both sides draw them from the counter-based generator Philox4x32-10
(Salmon et al., SC 2011), number i of the stream whose key is the FNV-1a hash of its name, with the seed 1. With u the upper
24 bits of the first word, over 2^24:
    weights of 2 and more dimensions   sqrt(3 / f) (2u - 1), f = elements / length of the last dimension; stream: their name
    scales of normalisations           1 + 0.2 (2u - 1)
    biases and offsets                 0.2 (2u - 1)
    pixels                             2u - 1; stream "image", i counts through all samples
    labels, symbols                    (first word * bound) >> 32; streams "label", "input"; i as for pixels
    targets of language models         (3 * symbol + the symbol before it) mod symbols; before the first is 0
Step t takes batch t mod 4. Every case is run again from weights that differ by 1e-7: where a relu or a maximum then takes
another branch and the losses go apart, as they would through rounding, the case is no use and the script says so.

Tensors are laid out as in Cohort: images [n, h, w, c], dense weights [in, out], filters [h, w, in, out].
Needs python3-torch and python3-h5py.
"""
import math
import sys

import h5py
import numpy as np
import torch
import torch.nn.functional as F

SEED, STEPS, BATCHES = 1, 20, 4
MASK = np.uint64(0xFFFFFFFF)


def stream_of(name):
    value = 14695981039346656037
    for byte in name.encode():
        value = ((value ^ byte) * 1099511628211) % 2**64
    return value


def words(name, n):
    """The first word of numbers 0 ... n - 1 of a stream, as uint64."""
    index, stream, shift = np.arange(n, dtype=np.uint64), stream_of(name), np.uint64(32)
    c = [index & MASK, index >> shift, np.full(n, stream % 2**32, np.uint64), np.full(n, stream >> 32, np.uint64)]
    k = [SEED, 0]
    for _ in range(10):
        p, q = np.uint64(0xD2511F53) * c[0], np.uint64(0xCD9E8D57) * c[2]
        c = [(q >> shift) ^ c[1] ^ np.uint64(k[0]), q & MASK, (p >> shift) ^ c[3] ^ np.uint64(k[1]), p & MASK]
        k = [(k[0] + 0x9E3779B9) % 2**32, (k[1] + 0xBB67AE85) % 2**32]
    return c[0]


def uniform(name, n):
    return (words(name, n) >> np.uint64(8)).astype(np.float64) * 2.0**-24


def below(bound, name, n):
    return ((words(name, n) * np.uint64(bound)) >> np.uint64(32)).astype(np.int64)


class Weights:
    """Makes each parameter when a model first names it."""

    def __init__(self):
        self.all = {}

    def __call__(self, name, *shape):
        if name not in self.all:
            n = math.prod(shape)
            noise = 2 * uniform(name, n) - 1
            if len(shape) > 1:
                noise *= np.sqrt(3 * shape[-1] / n)
            else:
                noise = 0.2 * noise + (1 if name.endswith("/scale") else 0)
            self.all[name] = torch.tensor(noise.astype(np.float32).astype(np.float64).reshape(shape), requires_grad=True)
        return self.all[name]


def dense(w, x, units, name, bias=True):
    y = x @ w(name + "/weight", x.shape[-1], units)
    return y + w(name + "/bias", units) if bias else y


def same(x, size, stride, value=0.0):
    """Pads [n, c, h, w] so that there are ceil(h / stride) windows; the odd one goes to the end."""
    pads = []
    for length in (x.shape[3], x.shape[2]):
        missing = max((math.ceil(length / stride) - 1) * stride + size - length, 0)
        pads += [missing // 2, missing - missing // 2]
    return F.pad(x, pads, value=value)


def conv(w, x, filters, size, name, stride=1, padding="same", bias=True):
    weight = w(name + "/weight", size, size, x.shape[1], filters).permute(3, 2, 0, 1)
    x = same(x, size, stride) if padding == "same" else x
    return F.conv2d(x, weight, w(name + "/bias", filters) if bias else None, stride)


def channels_first(image):
    return image.permute(0, 3, 1, 2)


def layer_norm(w, x, name):
    width = x.shape[-1]
    return F.layer_norm(x, (width,), w(name + "/scale", width), w(name + "/offset", width), 1e-5)


def classify(logits, batch, smoothing=0.0):
    return F.cross_entropy(logits, batch["label"], label_smoothing=smoothing)


def mlp(w, batch):
    h = batch["image"].flatten(1)
    for i, units in enumerate((24, 17), 1):
        h = torch.relu(dense(w, h, units, f"hidden_{i}"))
    return classify(dense(w, h, 10, "output"), batch, 0.1)


def lenet(w, batch):
    h = F.max_pool2d(torch.relu(conv(w, channels_first(batch["image"]), 4, 5, "conv_1")), 2)
    h = F.max_pool2d(torch.relu(conv(w, h, 6, 5, "conv_2", padding="valid")), 2)
    h = h.permute(0, 2, 3, 1).flatten(1)
    for i, units in enumerate((20, 12), 1):
        h = torch.relu(dense(w, h, units, f"hidden_{i}"))
    return classify(dense(w, h, 10, "output"), batch)


def resnet(stages, width, norm, large):
    def normalised(w, x, name, relu, add=None):
        if norm != "none":
            scale, offset = w(name + "/scale", x.shape[1]), w(name + "/offset", x.shape[1])
            if norm == "batch":
                x = F.batch_norm(x, None, None, scale, offset, True, 0.0, 1e-5)
            else:
                x = F.group_norm(x, 2, scale, offset, 1e-5)
        if add is not None:
            x = x + add
        return torch.relu(x) if relu else x

    def model(w, batch):
        bias = norm == "none"
        x = conv(w, channels_first(batch["image"]), width, 7 if large else 3, "stem", 2 if large else 1, bias=bias)
        x = normalised(w, x, "stem_norm", not large)
        if large:
            x = F.max_pool2d(same(x, 3, 2, -math.inf), 3, 2)
        for s, blocks in enumerate(stages):
            for b in range(blocks):
                name, filters, shortcut = f"stage_{s + 1}/block_{b + 1}/", width << s, x
                stride = 2 if s > 0 and b == 0 else 1
                if stride != 1 or x.shape[1] != filters:
                    shortcut = conv(w, x, filters, 1, name + "shortcut", stride, bias=bias)
                    shortcut = normalised(w, shortcut, name + "shortcut_norm", False)
                h = normalised(w, conv(w, x, filters, 3, name + "conv_1", stride, bias=bias), name + "norm_1", True)
                x = normalised(w, conv(w, h, filters, 3, name + "conv_2", bias=bias), name + "norm_2", True, shortcut)
        return classify(dense(w, x.mean((2, 3)), 10, "output"), batch)

    return model


def predict(logits, batch):
    return F.cross_entropy(logits.flatten(0, 1), batch["target"].flatten())


def gpt(w, batch, layers=2, width=12, heads=3, symbols=11):
    n, t = batch["input"].shape
    x = F.embedding(batch["input"], w("embedding/weight", symbols, width)) + w("position", t, width)
    mask = torch.full((t, t), -math.inf, dtype=torch.float64).triu(1)
    for i in range(1, layers + 1):
        block = f"block_{i}/"
        qkv = dense(w, layer_norm(w, x, block + "attention_norm"), 3 * width, block + "attention/qkv")
        q, k, v = (part.reshape(n, t, heads, -1).transpose(1, 2) for part in qkv.chunk(3, -1))
        mixed = torch.softmax(q @ k.transpose(-1, -2) / math.sqrt(width // heads) + mask, -1) @ v
        x = x + dense(w, mixed.transpose(1, 2).reshape(n, t, width), width, block + "attention/output")
        h = F.gelu(dense(w, layer_norm(w, x, block + "mlp_norm"), 4 * width, block + "expand"))
        x = x + dense(w, h, width, block + "contract")
    return predict(dense(w, layer_norm(w, x, "output_norm"), symbols, "output", bias=False), batch)


def lstm(w, batch, units=10, width=6, symbols=11):
    h = F.embedding(batch["input"], w("embedding/weight", symbols, width))
    for i in (1, 2):
        name = f"lstm_{i}/"
        weights = [w(name + "input/weight", h.shape[-1], 4 * units).T.contiguous(),
                   w(name + "recurrent", units, 4 * units).T.contiguous(),
                   w(name + "input/bias", 4 * units), torch.zeros(4 * units, dtype=torch.float64)]
        zeros = torch.zeros(1, h.shape[0], units, dtype=torch.float64)
        h = torch.lstm(h, (zeros, zeros), weights, True, 1, 0.0, True, False, True)[0]
    return predict(dense(w, h, symbols, "output"), batch)


class Lamb:
    """You et al. 2020, "Large batch optimization for deep learning", algorithm 2, with bias correction and phi(z) = z; no
    decay and no trust ratio for parameters of one dimension."""

    def __init__(self, groups, rate):
        self.parameters = [(p, group["weight_decay"]) for group in groups for p in group["params"]]
        self.rate, self.t, self.state = rate, 0, {}

    def step(self):
        self.t += 1
        with torch.no_grad():
            for p, decay in self.parameters:
                m, v = self.state.get(p, (torch.zeros_like(p), torch.zeros_like(p)))
                m, v = 0.9 * m + 0.1 * p.grad, 0.999 * v + 0.001 * p.grad**2
                self.state[p] = m, v
                r = (m / (1 - 0.9**self.t)) / ((v / (1 - 0.999**self.t)).sqrt() + 1e-6)
                update = r + decay * p
                trust = (p.norm() / update.norm()).item() if p.dim() > 1 else 1.0
                p -= self.rate * trust * update


OPTIMIZERS = {  # learning rate, weight decay for matrices and filters, constructor
    "sgd": (0.05, 0.01, lambda groups, rate: torch.optim.SGD(groups, lr=rate, momentum=0.9)),
    "adam": (0.01, 0.0, lambda groups, rate: torch.optim.Adam(groups, lr=rate)),
    "lamb": (0.02, 0.01, Lamb),
}
MODELS = {  # the model, samples of a batch, image or positions of a sequence, factor of the learning rate
    "mlp": (mlp, 7, (6, 5, 1), 1),
    "lenet": (lenet, 6, (16, 16, 1), 1),
    "resnet": (resnet((1, 1, 1), 4, "batch", False), 6, (8, 8, 3), 1),
    "resnet_group": (resnet((2, 2, 2), 4, "group", False), 5, (9, 7, 3), 1),
    "resnet_none": (resnet((1, 1, 1), 4, "none", False), 5, (8, 8, 3), 1),
    "resnet_large": (resnet((2, 2, 2, 2), 2, "group", True), 8, (64, 64, 3), 0.1),
    "gpt": (gpt, 4, (9,), 1),
    "lstm": (lstm, 5, (7,), 4),
}


def batches_of(samples, shape):
    total = BATCHES * samples
    if len(shape) == 1:
        symbols = torch.tensor(below(11, "input", total * shape[0]).reshape(total, *shape))
        before = F.pad(symbols, (1, 0))[:, :-1]
        data = {"input": symbols, "target": (3 * symbols + before) % 11}
    else:
        pixels = (2 * uniform("image", total * math.prod(shape)) - 1).reshape(total, *shape)
        data = {"image": torch.tensor(pixels), "label": torch.tensor(below(10, "label", total))}
    return [{name: field[b * samples:(b + 1) * samples] for name, field in data.items()} for b in range(BATCHES)]


def losses_of(model, batches, rate, decay, make, disturbance=0.0):
    w = Weights()
    model(w, batches[0])
    all_weights = list(w.all.values())
    with torch.no_grad():
        for p in all_weights:
            p *= 1 + disturbance * torch.randn_like(p)
    optimizer = make([{"params": [p for p in all_weights if p.dim() > 1], "weight_decay": decay},
                      {"params": [p for p in all_weights if p.dim() == 1], "weight_decay": 0.0}], rate)
    losses = []
    for t in range(STEPS):
        loss = model(w, batches[t % BATCHES])
        for p, gradient in zip(all_weights, torch.autograd.grad(loss, all_weights)):
            p.grad = gradient
        optimizer.step()
        losses.append(loss.item())
    return losses


with h5py.File(__file__.replace("make_trajectories.py", "trajectories.h5"), "w", libver="latest") as out:
    out.attrs["made_with"] = f"PyTorch {torch.__version__}"
    for model_name, (model, samples, shape, factor) in MODELS.items():
        batches = batches_of(samples, shape)
        for optimizer_name, (rate, decay, make) in OPTIMIZERS.items():
            case = model, batches, factor * rate, decay, make
            losses = losses_of(*case)
            for seed in range(8):
                torch.manual_seed(seed)
                others = losses_of(*case, 1e-7)
                apart = max(abs(a - b) / a / 10**(t / 19 - 4) for t, (a, b) in enumerate(zip(losses, others)))
                if apart > 0.5:
                    sys.exit(f"{model_name} with {optimizer_name}: losses of nearly the same start go apart: "
                             f"{apart:.1f} of the tolerance")
            out[f"{model_name}/{optimizer_name}/losses"] = losses
            print(f"{model_name:14}{optimizer_name:6}" + " ".join(f"{loss:.4f}" for loss in losses))
