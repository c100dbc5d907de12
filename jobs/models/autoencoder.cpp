// An autoencoder (Hinton & Salakhutdinov, "Reducing the dimensionality of data with neural networks", 2006): an encoder
// brings each image to a short code, a decoder makes an image of it again, and the loss is the mean squared difference. Each
// convolution of the encoder halves the image; the decoder enlarges it and convolves. Without filters all layers are dense.
#include <cstdint>
#include <string>
#include <vector>

#include "cohort/graph/layers.hpp"
#include "cohort/graph/model.hpp"

namespace cohort {
namespace {

class Autoencoder {
 public:
  explicit Autoencoder(Section& s) {
    s.bind("filters", filters_, "filters of each convolution of the encoder, which the decoder mirrors; may be empty", at_least(1));
    s.bind("hidden", hidden_, "units of each dense layer between them and the code, mirrored as well", at_least(1));
    s.bind("code", code_, "numbers that an image is brought to", at_least(1));
  }

  Model operator()(Graph&, const Batch& batch) const {
    const Value image = batch.take("image", images("model autoencoder"));
    std::vector<Shape> shapes;               // of the image before each convolution, then of what the dense layers get
    const Value code = encode(image, shapes);
    const Value output = decode(code, shapes);
    return {.loss = mean_squared_error(output, image),
            .metrics = {{"absolute_error", mean(abs(output - image))}},
            .output = output};
  }

 private:
  static std::string number(std::size_t i) { return "_" + std::to_string(i + 1); }

  [[nodiscard]] Value encode(Value h, std::vector<Shape>& shapes) const {
    for (std::size_t i = 0; i < filters_.size(); ++i) {
      shapes.push_back(h.shape());
      h = relu(nn::conv2d(h, filters_[i], 3, "encoder/conv" + number(i), {.stride = 2}));
    }
    shapes.push_back(h.shape());
    h = flatten(h);
    for (std::size_t i = 0; i < hidden_.size(); ++i) {
      h = nn::dense(h, hidden_[i], "encoder/hidden" + number(i), nn::Activation::relu);
    }
    return nn::dense(h, code_, "encoder/code");
  }

  [[nodiscard]] Value decode(Value h, const std::vector<Shape>& shapes) const {
    for (std::size_t i = hidden_.size(); i-- > 0;) {
      h = nn::dense(h, hidden_[i], "decoder/hidden" + number(i), nn::Activation::relu);
    }
    const Shape& small = shapes.back();
    const auto activation = filters_.empty() ? nn::Activation::none : nn::Activation::relu;
    h = nn::dense(h, small[1] * small[2] * small[3], "decoder/image", activation);
    h = reshape(h, {-1, small[1], small[2], small[3]});
    for (std::size_t i = filters_.size(); i-- > 0;) {
      h = resize(h, shapes[i][1], shapes[i][2], "nearest");
      h = nn::conv2d(h, shapes[i][3], 3, "decoder/conv" + number(i));
      if (i > 0) h = relu(h);
    }
    return h;
  }

  std::vector<std::int64_t> filters_{16, 32}, hidden_{};
  std::int64_t code_ = 32;
};

const Registered<ModelType> model{"autoencoder", {.make = [](Section& s) -> ModelBuilder { return Autoencoder(s); }}};

}  // namespace
}  // namespace cohort
