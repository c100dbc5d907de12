#!/usr/bin/python3
"""Reference values for the ops' examples, computed by PyTorch in float64.

    tests/ops/make_op_values.py build/release/tests/ops/op_examples

runs the given program for the examples and writes op_values.txt beside this file. For every output and for the gradient of
every float input (of the weighted sum of all outputs) there is one line: op, key, what, numbers. A new op needs one entry in
OPS: its name, and a function of (inputs, attributes) that returns a tensor or a tuple of them. Ops whose examples all carry
`expected` need none. Debian: python3-torch.
"""
import json
import math
import pathlib
import subprocess
import sys

import torch
import torch.nn.functional as F

torch.set_default_dtype(torch.float64)
DTYPES = {"float32": torch.float64, "float64": torch.float64, "float16": torch.float64, "bfloat16": torch.float64,
          "int32": torch.int64, "int64": torch.int64, "uint8": torch.int64, "bool": torch.bool}


def axes(x, a):
    return tuple(a["axes"]) or tuple(range(x.dim()))


def reduce_with(function):
    def run(x, a):
        x = x[0]
        return function(x, axes(x, a), a["keep_dims"]) if x.dim() else x.clone()
    return run


def sum_like(x, like):
    lead = x.dim() - like.dim()
    x = x.sum(dim=tuple(range(lead))) if lead else x
    for d in range(like.dim()):
        if like.shape[d] == 1:
            x = x.sum(dim=d, keepdim=True)
    return x


def expand_like(x, a):
    x, like = x
    if not a["keep_dims"]:
        for d in a["axes"]:
            x = x.unsqueeze(d)
    y = x.expand(like.shape)
    return y / (like.numel() / x.numel()) if a["average"] else y


def slice_of(x, begin, size):
    for d, (b, n) in enumerate(zip(begin, size)):
        x = x.narrow(d, b, x.shape[d] - b if n < 0 else n)
    return x


def pad(x, before, after, value):
    flat = [n for pair in reversed(list(zip(before, after))) for n in pair]
    return F.pad(x, flat, value=value)


def pad_like(x, a):
    x, like = x
    return pad(x, a["begin"], [n - b - m for n, b, m in zip(like.shape, a["begin"], x.shape)], 0)


def cross_entropy(logits, labels, smoothing):
    classes = logits.shape[-1]
    loss = F.cross_entropy(logits.reshape(-1, classes), labels.reshape(-1), reduction="none", label_smoothing=smoothing)
    return loss.reshape(labels.shape)


def gradient_of(function, x, dy):
    """d Σ dy · function(x) / dx; can itself be differentiated."""
    x = x if x.requires_grad else x.detach().requires_grad_()
    return torch.autograd.grad(function(x), x, dy, create_graph=True)[0]


def cast(x, a):
    to = {"float32": torch.float32, "float64": torch.float64, "float16": torch.float16, "bfloat16": torch.bfloat16,
          "int32": torch.int32, "int64": torch.int64, "uint8": torch.uint8, "bool": torch.bool}[a["to"]]
    return x[0].to(to)


def gather_grad(x, a):
    dy, indices, like = x
    flat = indices.reshape(-1)
    return torch.zeros_like(like).index_add(0, flat, dy.reshape(flat.shape + like.shape[1:]))


def matmul(x, a):
    return (x[0].mT if a.get("transpose_a") else x[0]) @ (x[1].mT if a.get("transpose_b") else x[1])


ACTIVATIONS = {"none": lambda z: z, "relu": F.relu, "tanh": torch.tanh, "sigmoid": torch.sigmoid}


def dense(x, a):
    if a.get("activation") == "gelu":
        z = x[0] @ x[1] + x[2]
        return F.gelu(z), 0.5 * torch.erfc(-z / math.sqrt(2)) + z * torch.exp(-z * z / 2) / math.sqrt(2 * math.pi)
    return ACTIVATIONS[a.get("activation", "none")](x[0] @ x[1] + x[2])


def same_padding(image, a, sizes):
    """TensorFlow's rule for [n, c, h, w]: the smaller half before, as (left, right, top, bottom)."""
    total = []
    for n, size in zip(image.shape[2:], sizes):
        out = -(-n // a.get("stride", 1))
        total.append(max(0, (out - 1) * a.get("stride", 1) + (size - 1) * a.get("dilation", 1) + 1 - n))
    (h, w) = total if a["padding"] == "same" else (0, 0)
    return w // 2, w - w // 2, h // 2, h - h // 2


def conv2d(x, a):
    image, kernel = x[0].permute(0, 3, 1, 2), x[1].permute(3, 2, 0, 1)
    image = F.pad(image, same_padding(image, a, x[1].shape[:2])).contiguous()
    bias = x[2] if len(x) > 2 else None
    return F.conv2d(image, kernel.contiguous(), bias, a.get("stride", 1), 0, a.get("dilation", 1), a.get("groups", 1)).permute(0, 2, 3, 1)


def conv2d_filter_grad(x, a):
    image, dy, like = x
    dfilter = gradient_of(lambda w: conv2d([image, w], a), like, dy)
    return (dfilter, dy.sum(dim=(0, 1, 2))) if a.get("bias") else dfilter


def max_pool(x, a):
    image = x[0].permute(0, 3, 1, 2)
    image = F.pad(image, same_padding(image, a, [a["size"]] * 2), value=-math.inf)
    y, at = F.max_pool2d(image, a["size"], a["stride"], return_indices=True)   # of the whole padded image
    row = at // image.shape[3] - torch.arange(y.shape[2])[:, None] * a["stride"]
    column = at % image.shape[3] - torch.arange(y.shape[3]) * a["stride"]
    index = row * a["size"] + column
    if a.get("relu"):
        index = torch.where(y > 0, index, 255)
        y = F.relu(y)
    return y.permute(0, 2, 3, 1), index.permute(0, 2, 3, 1)


def average_pool(x, a):
    image = x[0].permute(0, 3, 1, 2)
    padding = same_padding(image, a, [a["size"]] * 2)
    count = F.avg_pool2d(F.pad(torch.ones_like(image), padding), a["size"], a["stride"])
    return (F.avg_pool2d(F.pad(image, padding), a["size"], a["stride"]) / count).permute(0, 2, 3, 1)


def resize(x, a):
    options = {} if a["method"] == "nearest" else {"align_corners": False}
    return F.interpolate(x[0].permute(0, 3, 1, 2), (a["height"], a["width"]), mode=a["method"], **options).permute(0, 2, 3, 1)


def batch_norm_end(y, added, a):
    y = y + added[0] if added else y
    return F.relu(y) if a.get("relu") else y


def batch_norm_training(x, a):
    dims = tuple(range(x[0].dim() - 1))
    mean, biased = x[0].mean(dim=dims), x[0].var(dim=dims, unbiased=False)
    y = batch_norm_end((x[0] - mean) / torch.sqrt(biased + a["epsilon"]) * x[1] + x[2], x[3:], a)
    rows = x[0].numel() // x[0].shape[-1]
    return y, mean, biased * rows / max(rows - 1, 1)   # of a single row 0, where PyTorch's is NaN


def batch_norm_inference(x, a):
    return batch_norm_end((x[0] - x[3]) / torch.sqrt(x[4] + a["epsilon"]) * x[1] + x[2], x[5:], a)


def layer_norm(x, a):
    mean, variance = x[0].mean(dim=-1), x[0].var(dim=-1, unbiased=False)
    return F.layer_norm(x[0], x[1].shape, x[1], x[2], a["epsilon"]), mean, 1 / torch.sqrt(variance + a["epsilon"])


def residual_layer_norm(x, a):
    total = x[0] + x[1]
    return (*layer_norm([total, x[2], x[3]], a), total)


def attention(x, a):
    n, t, columns = x[0].shape
    heads = a["heads"]
    q, k, v = x[0].view(n, t, 3, heads, columns // 3 // heads).permute(2, 0, 3, 1, 4)
    scores = q @ k.mT / math.sqrt(q.shape[-1])
    if a["causal"]:
        scores = scores.masked_fill(torch.triu(torch.ones(t, t, dtype=torch.bool), 1), -math.inf)
    return (scores.softmax(-1) @ v).transpose(1, 2).reshape(n, t, columns // 3), scores.logsumexp(-1)


def lstm(x, a):
    """torch.nn.LSTM whose input is the gates themselves; cell by cell, since c and the gates are wanted, too."""
    gates, weight = x
    n, t, u = gates.shape[0], gates.shape[1], gates.shape[2] // 4
    h, c, all_h, all_c, all_gates = torch.zeros(n, u), torch.zeros(n, u), [], [], []
    for step in range(t):
        z = gates[:, step] + h @ weight
        i, f, g, o = torch.sigmoid(z[:, :u]), torch.sigmoid(z[:, u:2 * u]), torch.tanh(z[:, 2 * u:3 * u]), torch.sigmoid(z[:, 3 * u:])
        c = f * c + i * g
        h = o * torch.tanh(c)
        all_h.append(h), all_c.append(c), all_gates.append(torch.cat([i, f, g, o], dim=1))
    results = [torch.stack(part, dim=1) for part in (all_h, all_c, all_gates)]
    if n:
        eye = torch.eye(4 * u)
        given = torch._VF.lstm(gates, (torch.zeros(1, n, u), torch.zeros(1, n, u)), [eye, weight.T.contiguous(), torch.zeros(4 * u), torch.zeros(4 * u)],
                               True, 1, 0.0, False, False, True)[0]
        assert torch.allclose(given, results[0])
    return tuple(results)


def philox(seed, stream, index):
    """Philox4x32-10, transcribed from the paper (Salmon et al., SC 2011)."""
    c = [index & 0xffffffff, index >> 32, stream & 0xffffffff, stream >> 32]
    k = [seed & 0xffffffff, seed >> 32]
    for _ in range(10):
        p, q = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = [q >> 32 ^ c[1] ^ k[0], q & 0xffffffff, p >> 32 ^ c[3] ^ k[1], p & 0xffffffff]
        k = [(k[0] + 0x9E3779B9) & 0xffffffff, (k[1] + 0xBB67AE85) & 0xffffffff]
    return c


def dropout(x, a):
    stream = 14695981039346656037   # FNV-1a of the stream's name
    for byte in a.get("stream", "").encode():
        stream = (stream ^ byte) * 1099511628211 % 2**64
    key = philox(0, stream, 0)      # seed 0, step 0
    words = [philox(key[0] << 32 | key[1], stream, k // 4)[k % 4] for k in range(x[0].numel())]
    keep = torch.tensor([w >= int(a["rate"] * 2**32) for w in words], dtype=torch.float64).reshape(x[0].shape)
    return x[0] * keep / (1 - a["rate"])


OPS = {
    "Add": lambda x, a: x[0] + x[1],
    "Sub": lambda x, a: x[0] - x[1],
    "Mul": lambda x, a: x[0] * x[1],
    "Div": lambda x, a: x[0] / x[1],
    "Maximum": lambda x, a: torch.maximum(x[0], x[1]),
    "Minimum": lambda x, a: torch.minimum(x[0], x[1]),
    "Neg": lambda x, a: -x[0],

    "Exp": lambda x, a: torch.exp(x[0]),
    "Log": lambda x, a: torch.log(x[0]),
    "Sqrt": lambda x, a: torch.sqrt(x[0]),
    "Square": lambda x, a: x[0] ** 2,
    "Abs": lambda x, a: x[0].abs(),
    "Tanh": lambda x, a: torch.tanh(x[0]),
    "TanhGrad": lambda x, a: x[0] * (1 - x[1] ** 2),
    "Sigmoid": lambda x, a: torch.sigmoid(x[0]),
    "SigmoidGrad": lambda x, a: x[0] * x[1] * (1 - x[1]),
    "Relu": lambda x, a: F.relu(x[0]),
    "ReluGrad": lambda x, a: x[0] * (x[1] > 0),
    "Gelu": lambda x, a: F.gelu(x[0]),
    "GeluGrad": lambda x, a: gradient_of(F.gelu, x[1], x[0]),
    "Softplus": lambda x, a: F.softplus(x[0]),

    "Equal": lambda x, a: x[0] == x[1],
    "NotEqual": lambda x, a: x[0] != x[1],
    "Less": lambda x, a: x[0] < x[1],
    "LessEqual": lambda x, a: x[0] <= x[1],
    "Greater": lambda x, a: x[0] > x[1],
    "GreaterEqual": lambda x, a: x[0] >= x[1],
    "Select": lambda x, a: torch.where(x[0], x[1], x[2]),
    "Cast": cast,

    "ReduceSum": reduce_with(lambda x, d, keep: x.sum(dim=d, keepdim=keep)),
    "ReduceMean": reduce_with(lambda x, d, keep: x.mean(dim=d, keepdim=keep)),
    "ReduceMax": reduce_with(lambda x, d, keep: x.amax(dim=d, keepdim=keep)),
    "ArgMax": lambda x, a: x[0].argmax(dim=a["axis"]),
    "SumLike": lambda x, a: sum_like(*x),
    "ExpandLike": expand_like,
    "ZerosLike": lambda x, a: torch.zeros_like(x[0]),

    "Softmax": lambda x, a: F.softmax(x[0], dim=-1),
    "SoftmaxGrad": lambda x, a: x[1] * (x[0] - (x[0] * x[1]).sum(dim=-1, keepdim=True)),
    "LogSoftmax": lambda x, a: F.log_softmax(x[0], dim=-1),
    "LogSoftmaxGrad": lambda x, a: x[0] - x[1].exp() * x[0].sum(dim=-1, keepdim=True),
    "SoftmaxCrossEntropy": lambda x, a: cross_entropy(x[0], x[1], a["label_smoothing"]),
    "SoftmaxCrossEntropyGrad":
        lambda x, a: gradient_of(lambda logits: cross_entropy(logits, x[2], a["label_smoothing"]), x[1], x[0]),

    "Reshape": lambda x, a: x[0].reshape(a["shape"]),
    "Flatten": lambda x, a: x[0].reshape(x[0].shape[0], math.prod(x[0].shape[1:])),
    "ReshapeLike": lambda x, a: x[0].reshape(x[1].shape),
    "Transpose": lambda x, a: x[0].permute(a["permutation"]),
    "Slice": lambda x, a: slice_of(x[0], a["begin"], a["size"]),
    "SliceLike": lambda x, a: slice_of(x[0], a["begin"], x[1].shape),
    "Pad": lambda x, a: pad(x[0], a["before"], a["after"], a["value"]),
    "PadLike": pad_like,
    "Concat": lambda x, a: torch.cat(x, dim=a["axis"]),
    "ConcatGrad": lambda x, a: x[0].split([part.shape[a["axis"]] for part in x[1:]], dim=a["axis"]),
    "Split": lambda x, a: x[0].chunk(a["parts"], dim=a["axis"]),
    "Gather": lambda x, a: x[0][x[1]],
    "GatherGrad": gather_grad,
    "OneHot": lambda x, a: F.one_hot(x[0], a["depth"]),

    "MatMul": matmul,
    "Dense": dense,
    "Conv2D": conv2d,
    "Conv2DInputGrad": lambda x, a: gradient_of(lambda image: conv2d([image, x[1]], a), x[2], x[0]),
    "Conv2DFilterGrad": conv2d_filter_grad,
    "MaxPool": max_pool,
    "AveragePool": average_pool,
    "AveragePoolGrad": lambda x, a: gradient_of(lambda image: average_pool([image], a), x[1], x[0]),
    "Resize": resize,
    "GroupNorm": lambda x, a: F.group_norm(x[0].movedim(-1, 1), a["groups"], x[1], x[2], a["epsilon"]).movedim(1, -1),
    "BatchNormTraining": batch_norm_training,
    "BatchNormInference": batch_norm_inference,
    "LayerNorm": layer_norm,
    "ResidualLayerNorm": residual_layer_norm,
    "Attention": attention,
    "Lstm": lstm,
    "Dropout": dropout,
}


def line(op, key, what, tensor):
    numbers = " ".join(f"{float(v):.9g}" for v in tensor.reshape(-1).tolist())
    return f"{op} {key} {what} {numbers}".rstrip()


def references(example):
    op, key = example["op"], example["key"]
    inputs = []
    for x in example["inputs"]:
        tensor = torch.tensor(x["values"], dtype=torch.float64).reshape(x["shape"]).to(DTYPES[x["dtype"]])
        inputs.append(tensor.requires_grad_() if x["dtype"] == "float32" and example["gradients"] else tensor)
    outputs = OPS[op](inputs, example["attrs"])
    outputs = [outputs] if torch.is_tensor(outputs) else list(outputs)
    yield from (line(op, key, f"y{i}", y.detach()) for i, y in enumerate(outputs))
    if not example["gradients"]:
        return
    loss = sum((y * torch.tensor(w).reshape(y.shape)).sum() for y, w in zip(outputs, example["weights"]) if w or not y.numel())
    wrt = [i for i, x in enumerate(inputs) if x.requires_grad]
    flows = torch.is_tensor(loss) and loss.requires_grad
    dx = torch.autograd.grad(loss, [inputs[i] for i in wrt], allow_unused=True) if flows else [None] * len(wrt)
    for i, d in zip(wrt, dx):
        yield line(op, key, f"dx{i}", torch.zeros_like(inputs[i]) if d is None else d)


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    printed = subprocess.run([sys.argv[1]], check=True, capture_output=True, text=True).stdout
    examples = [json.loads(text) for text in printed.splitlines()]
    missing = sorted({e["op"] for e in examples if e["op"] not in OPS and not e["expected"]})
    if missing:
        sys.exit(f"no reference for {' '.join(missing)}: add them to OPS in {__file__}, or give their examples `expected`")
    lines = []
    for example in examples:
        if example["op"] in OPS:
            lines += references(example)
    target = pathlib.Path(__file__).with_name("op_values.txt")
    head = f"# Written by make_op_values.py with PyTorch {torch.__version__}: op, key of the example, output or gradient, values"
    target.write_text("\n".join([head] + lines) + "\n")
    print(f"{target}: {len(lines)} lines for {len(examples)} examples, {target.stat().st_size} bytes")


main()
