#pragma once

#include <vector>

namespace cohort::testing {

[[nodiscard]] bool has_fashion_mnist();

/// Gradients of 64 ranks in one step, each the mean over 32 images of Fashion-MNIST, of an MLP 784-128-10 after 20 steps: of
/// its 101770 elements, weights and biases in the order of definition, every other 256. Computed at the first call.
[[nodiscard]] const std::vector<std::vector<float>>& model_gradients();

}  // namespace cohort::testing
