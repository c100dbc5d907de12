// LeNet-5 (LeCun et al., "Gradient-based learning applied to document recognition", 1998) in its usual modern form: every
// filter sees every channel, relu and maximum pooling instead of tanh and trainable averages. 28 × 28 images of one channel
// and ten classes give 61,706 parameters.
#include <array>
#include <cstdint>
#include <vector>

#include "cohort/graph/layers.hpp"
#include "cohort/graph/model.hpp"

namespace cohort {
namespace {

struct LeNet {
  std::vector<std::int64_t> filters{6, 16}, hidden{120, 84};
  std::int64_t classes = 10;
  double dropout = 0, label_smoothing = 0;

  explicit LeNet(Section& s) {
    s.bind("filters", filters, "filters of the two convolutions", at_least(1));
    s.bind("hidden", hidden, "units of the two hidden layers", at_least(1));
    s.bind("classes", classes, "number of classes", at_least(1));
    s.bind("dropout", dropout, "share of a hidden layer's results that is dropped in training", between(0, 0.99));
    s.bind("label_smoothing", label_smoothing, "share of the target spread evenly over the classes", between(0, 1));
    if (filters.size() != 2 || hidden.size() != 2) {
      fail(Code::invalid_argument, "model lenet: filters and hidden take two numbers each, as in [6, 16] and [120, 84]");
    }
  }

  Model operator()(Graph&, const Batch& batch) const {
    Value h = relu(nn::conv2d(batch.take("image", images("model lenet")), filters[0], 5, "conv_1"));
    h = max_pool(h, 2, 2);
    h = relu(nn::conv2d(h, filters[1], 5, "conv_2", {.padding = "valid"}));
    h = flatten(max_pool(h, 2, 2));
    constexpr std::array<const char*, 2> kNames = {"hidden_1", "hidden_2"};
    for (std::size_t i = 0; i < kNames.size(); ++i) {
      h = nn::dense(h, hidden[i], kNames[i], nn::Activation::relu);
      h = nn::dropout(h, static_cast<float>(dropout), batch.training);
    }
    return classifier(batch, nn::dense(h, classes, "output"), label_smoothing);
  }
};

const Registered<ModelType> model{"lenet", {.make = [](Section& s) -> ModelBuilder { return LeNet(s); }}};

}  // namespace
}  // namespace cohort
