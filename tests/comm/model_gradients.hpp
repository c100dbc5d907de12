#pragma once

#include <vector>

namespace cohort::testing {

[[nodiscard]] bool has_fashion_mnist();

/// Gradients of so many ranks in one step, each the mean over 32 images of Fashion-MNIST, of an MLP 784-128-10 after `steps`
/// steps on others: its 101770 elements, weights and biases in the order of definition.
[[nodiscard]] std::vector<std::vector<float>> gradients_of_mlp(int ranks, int steps);

/// Those of 64 ranks after 20 steps: every other 256 elements. Computed at the first call.
[[nodiscard]] const std::vector<std::vector<float>>& model_gradients();

}  // namespace cohort::testing
