#!/usr/bin/env python3
"""Writes torch_values.hpp: ten steps of PyTorch's optimizers on five weights, gradients ((7 t + 3 i) mod 11 - 5) / 8."""
import torch

CASES = [  # our type and options, PyTorch's constructor and options, learning rate
    ("sgd", {}, torch.optim.SGD, {}, 0.1),
    ("sgd", {"momentum": 0.9, "weight_decay": 0.1}, torch.optim.SGD, {}, 0.1),
    ("sgd", {"momentum": 0.9, "nesterov": True, "weight_decay": 0.1}, torch.optim.SGD, {}, 0.1),
    ("adam", {}, torch.optim.Adam, {}, 0.1),
    ("adam", {"beta1": 0.8, "beta2": 0.95, "weight_decay": 0.1}, torch.optim.Adam,
     {"betas": (0.8, 0.95), "weight_decay": 0.1}, 0.1),
    ("adamw", {"weight_decay": 0.2}, torch.optim.AdamW, {}, 0.1),
    ("adagrad", {"weight_decay": 0.1}, torch.optim.Adagrad, {}, 0.1),
    ("rmsprop", {}, torch.optim.RMSprop, {}, 0.01),
    ("rmsprop", {"decay": 0.9, "momentum": 0.8, "centered": True, "epsilon": 0.01}, torch.optim.RMSprop,
     {"alpha": 0.9, "momentum": 0.8, "centered": True, "eps": 0.01}, 0.01),
]


def final_weights(make, options, rate):
    w = torch.tensor([1.0, -0.5, 0.25, 2.0, -3.0], requires_grad=True)
    optimizer = make([w], lr=rate, **options)
    for t in range(10):
        w.grad = torch.tensor([((7 * t + 3 * i) % 11 - 5) / 8 for i in range(5)])
        optimizer.step()
    return w.tolist()


def literal(x):
    return str(x).lower() if isinstance(x, bool) else repr(float(x))


with open(__file__.replace(".py", ".hpp"), "w") as out:
    out.write(f"""// Written by torch_values.py with PyTorch {torch.__version__}.
#pragma once

#include <array>
#include <vector>

#include "params/trainee.hpp"

namespace cohort::testing {{

struct TorchCase {{
  OptimizerCase how;
  double learning_rate;
  std::array<float, 5> values;
}};

inline std::vector<TorchCase> torch_cases() {{
  return {{
""")
    for ours, options, make, theirs, rate in CASES:
        values = ", ".join(f"{x:.9g}f" if "." in f"{x:.9g}" else f"{x:.9g}.0f" for x in final_weights(make, theirs or options, rate))
        given = ", ".join(f'{{"{key}", {literal(value)}}}' for key, value in options.items())
        out.write(f'      {{{{"{ours}", {{{given}}}}},\n       {rate},\n       {{{values}}}}},\n')
    out.write("  };\n}\n\n}  // namespace cohort::testing\n")
