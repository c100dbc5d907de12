// A small convolutional net: two convolutions of 5 × 5 with padding, each followed by relu and 2 × 2 maximum pooling, and
// one hidden layer. With 32 and 64 filters, 512 units and 28 × 28 images of one channel it has 1,663,370 parameters.
#include <cstdint>
#include <string>
#include <vector>

#include "cohort/graph/layers.hpp"
#include "cohort/graph/model.hpp"

namespace cohort {
namespace {

struct Cnn {
  std::vector<std::int64_t> filters{32, 64};
  std::int64_t hidden = 512, classes = 10;
  double dropout = 0, label_smoothing = 0;
  bool batch_norm = false;

  explicit Cnn(Section& s) {
    s.bind("filters", filters, "filters of each convolution; each is followed by pooling, which halves the image",
           at_least(1));
    s.bind("hidden", hidden, "units of the hidden layer", at_least(1));
    s.bind("classes", classes, "number of classes", at_least(1));
    s.bind("batch_norm", batch_norm, "normalise the result of each convolution over the batch");
    s.bind("dropout", dropout, "share of the hidden layer's results that is dropped in training", between(0, 0.99));
    s.bind("label_smoothing", label_smoothing, "share of the target spread evenly over the classes", between(0, 1));
  }

  Model operator()(Graph&, const Batch& batch) const {
    Value h = batch.take("image", images("model cnn"));
    for (std::size_t i = 0; i < filters.size(); ++i) {
      const std::string number = std::to_string(i + 1);
      h = nn::conv2d(h, filters[i], 5, "conv_" + number, {.bias = !batch_norm});
      if (batch_norm) h = nn::batch_norm(h, batch.training, "norm_" + number);
      h = max_pool(relu(h), 2, 2);
    }
    h = nn::dense(flatten(h), hidden, "hidden", nn::Activation::relu);
    h = nn::dropout(h, static_cast<float>(dropout), batch.training);
    return classifier(batch, nn::dense(h, classes, "output"), label_smoothing);
  }
};

const Registered<ModelType> model{"cnn", {.make = [](Section& s) -> ModelBuilder { return Cnn(s); }}};

}  // namespace
}  // namespace cohort
