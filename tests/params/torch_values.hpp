// Written by torch_values.py with PyTorch 1.13.0a0.
#pragma once

#include <array>
#include <vector>

#include "params/trainee.hpp"

namespace cohort::testing {

struct TorchCase {
  OptimizerCase how;
  double learning_rate;
  std::array<float, 5> values;
};

inline std::vector<TorchCase> torch_cases() {
  return {
      {{"sgd", {}},
       0.1,
       {0.987499952f, -0.475000024f, 0.3125f, 1.9625001f, -3.0f}},
      {{"sgd", {{"momentum", 0.9}, {"weight_decay", 0.1}}},
       0.1,
       {0.638803661f, -0.456913054f, 0.291295081f, 1.19710219f, -1.6603334f}},
      {{"sgd", {{"momentum", 0.9}, {"nesterov", true}, {"weight_decay", 0.1}}},
       0.1,
       {0.575126827f, -0.38082099f, 0.328752846f, 1.09505653f, -1.59053767f}},
      {{"adam", {}},
       0.1,
       {1.13520467f, -0.556960106f, 0.231187761f, 1.84443331f, -2.76307607f}},
      {{"adam", {{"beta1", 0.8}, {"beta2", 0.95}, {"weight_decay", 0.1}}},
       0.1,
       {0.889026701f, -0.436264724f, 0.211456954f, 1.53214002f, -2.37683797f}},
      {{"adamw", {{"weight_decay", 0.2}}},
       0.1,
       {0.927503824f, -0.463109255f, 0.197842628f, 1.50418127f, -2.24612665f}},
      {{"adagrad", {{"weight_decay", 0.1}}},
       0.1,
       {0.935017645f, -0.402769476f, 0.237952039f, 1.77919626f, -2.74016881f}},
      {{"rmsprop", {}},
       0.01,
       {1.02248585f, -0.442285866f, 0.257423609f, 1.93958628f, -2.94454122f}},
      {{"rmsprop", {{"decay", 0.9}, {"momentum", 0.8}, {"centered", true}, {"epsilon", 0.01}}},
       0.01,
       {1.05012643f, -0.477922946f, 0.239696369f, 1.94277179f, -2.8823185f}},
  };
}

}  // namespace cohort::testing
