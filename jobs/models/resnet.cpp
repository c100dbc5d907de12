// Residual nets of basic blocks (He et al., "Deep residual learning for image recognition", 2016), y = relu(F(x) + x) with two
// 3 × 3 convolutions in F; where a stage halves the image and doubles the filters, a 1 × 1 convolution brings x to y's shape.
//   depth 18 or 34    section 4.1: four stages of 64, 128, 256 and 512 filters, with 2 or 3, 4, 6, 3 blocks;
//   depth 6 n + 2     section 4.2, for small images: three stages of 16, 32 and 64 filters with n blocks each.
// Images of 64 pixels and more are first brought to a quarter by a 7 × 7 convolution and pooling, smaller ones are not.
#include <cstdint>
#include <string>
#include <vector>

#include "cohort/graph/layers.hpp"
#include "cohort/graph/model.hpp"

namespace cohort {
namespace {

class ResNet {
 public:
  explicit ResNet(Section& s) {
    s.bind("depth", depth_, "layers with weights: 18, 34, or 6 n + 2 (8, 14, 20, …) for small images", between(8, 10'000));
    s.bind("width", width_, "filters of the first stage; 0: 64 for depths 18 and 34, else 16", at_least(0));
    s.bind("norm", norm_, "what normalises the result of each convolution", one_of({"batch", "group", "none"}));
    s.bind("groups", groups_, "of channels, for group normalisation", at_least(1));
    s.bind("over_ranks", over_ranks_, "batch normalisation with the statistics of all ranks' batches together");
    s.bind("classes", classes_, "number of classes", at_least(1));
    s.bind("label_smoothing", label_smoothing_, "share of the target spread evenly over the classes", between(0, 1));
    const bool large = depth_ == 18 || depth_ == 34;
    if (!large && depth_ % 6 != 2) {
      fail(Code::invalid_argument, "model resnet: depth is " + std::to_string(depth_) + ", it must be 18, 34 or 6 n + 2 (8, 14, 20, …)");
    }
    if (depth_ == 18) blocks_ = {2, 2, 2, 2};
    else if (depth_ == 34) blocks_ = {3, 4, 6, 3};
    else blocks_.assign(3, (depth_ - 2) / 6);
    if (width_ == 0) width_ = large ? 64 : 16;
    if (norm_ == "group" && width_ % groups_ != 0) {
      fail(Code::invalid_argument, "model resnet: " + std::to_string(groups_) + " groups do not divide a width of " +
                                       std::to_string(width_) + " filters");
    }
  }

  Model operator()(Graph& graph, const Batch& batch) const {
    Value h = stem(batch.take("image", images("model resnet")), batch.training);
    for (std::size_t stage = 0; stage < blocks_.size(); ++stage) {
      const Scope scope = graph.name_scope("stage_" + std::to_string(stage + 1));
      for (std::int64_t i = 0; i < blocks_[stage]; ++i) {
        const Scope block_scope = graph.name_scope("block_" + std::to_string(i + 1));
        h = block(h, width_ << stage, stage > 0 && i == 0 ? 2 : 1, batch.training);
      }
    }
    return classifier(batch, nn::dense(global_average_pool(h), classes_, "output"), label_smoothing_);
  }

 private:
  [[nodiscard]] Value stem(Value image, bool training) const {
    const Shape& shape = image.shape();
    const bool large = shape.rank() == 4 && shape[1] >= 64 && shape[2] >= 64;
    const Value h = conv(image, width_, large ? 7 : 3, large ? 2 : 1, "stem");
    return large ? max_pool(normalised(h, training, "stem_norm", false), 3, 2, "same") : normalised(h, training, "stem_norm", true);
  }

  [[nodiscard]] Value block(Value x, std::int64_t filters, std::int64_t stride, bool training) const {
    Value shortcut = x;
    if (stride != 1 || x.shape()[-1] != filters) {
      shortcut = normalised(conv(x, filters, 1, stride, "shortcut"), training, "shortcut_norm", false);
    }
    const Value h = normalised(conv(x, filters, 3, stride, "conv_1"), training, "norm_1", true);
    return normalised(conv(h, filters, 3, 1, "conv_2"), training, "norm_2", true, shortcut);
  }

  [[nodiscard]] Value conv(Value x, std::int64_t filters, std::int64_t size, std::int64_t stride, std::string_view name) const {
    return nn::conv2d(x, filters, size, name, {.stride = stride, .bias = norm_ == "none"});
  }

  /// The normalisation, + add where given, then relu.
  [[nodiscard]] Value normalised(Value x, bool training, std::string_view name, bool with_relu, Value add = {}) const {
    if (norm_ == "batch") {
      return nn::batch_norm(x, training, name, {.relu = with_relu, .add = add, .over_replicas = over_ranks_});
    }
    if (norm_ == "group") x = nn::group_norm(x, groups_, name);
    if (add) x = x + add;
    return with_relu ? relu(x) : x;
  }

  std::int64_t depth_ = 20, width_ = 0, groups_ = 8, classes_ = 10;
  std::string norm_ = "batch";
  bool over_ranks_ = false;
  double label_smoothing_ = 0;
  std::vector<std::int64_t> blocks_;     // by stage
};

const Registered<ModelType> model{"resnet", {.make = [](Section& s) -> ModelBuilder { return ResNet(s); }}};

}  // namespace
}  // namespace cohort
