#include "comm/model_gradients.hpp"

#include <filesystem>
#include <string>

#include "cohort/data/reader.hpp"
#include "cohort/exec/session.hpp"
#include "cohort/graph/gradients.hpp"
#include "cohort/graph/layers.hpp"
#include "cohort/graph/model.hpp"
#include "support/sections.hpp"

namespace cohort::testing {
namespace {

const std::string kFolder = "/usr/share/datasets/fashion-mnist/";
constexpr std::int64_t kBatch = 32, kTrainBatch = 128, kImages = 60'000;
constexpr float kRate = 0.05f;

class Mlp {
 public:
  Mlp() {
    Section section = section_of({{"reader", std::string("idx")}, {"images", kFolder + "train-images-idx3-ubyte.gz"},
                                  {"labels", kFolder + "train-labels-idx1-ubyte.gz"}});
    reader_ = open_reader(section);
    image_ = graph_.placeholder("image", DType::float32, {-1, 28, 28, 1});
    label_ = graph_.placeholder("label", DType::int32, {-1});
    const Value hidden = nn::dense(flatten(image_), 128, "hidden", nn::Activation::relu);
    const Batch batch{.fields = {{"image", image_}, {"label", label_}}};
    const Value loss = classifier(batch, nn::dense(hidden, 10, "output")).loss;
    variables_ = graph_.variables(true);
    gradients_ = gradients(loss, variables_);
    session_ = std::make_unique<Session>(graph_, SessionOptions{.seed = 3});
  }

  std::vector<Tensor> gradient(std::int64_t first, std::int64_t n) {
    std::vector<std::uint32_t> samples(static_cast<std::size_t>(n));
    for (std::int64_t i = 0; i < n; ++i) samples[static_cast<std::size_t>(i)] = static_cast<std::uint32_t>((first + i) % kImages);
    const Tensor images(host(), DType::float32, {n, 28, 28, 1}), labels(host(), DType::int32, {n});
    const std::vector<void*> buffers{images.raw(), labels.raw()};
    reader_->read(samples, buffers);
    return session_->run(gradients_, {{image_, images}, {label_, labels}});
  }

  void descend(const std::vector<Tensor>& by) {
    for (std::size_t v = 0; v < variables_.size(); ++v) {
      const Tensor& value = session_->variable(variables_[v]);
      for (std::int64_t i = 0; i < value.elements(); ++i) value.data<float>()[i] -= kRate * by[v].data<float>()[i];
    }
  }

 private:
  Graph graph_;
  std::shared_ptr<const Reader> reader_;
  Value image_, label_;
  std::vector<Value> variables_, gradients_;
  std::unique_ptr<Session> session_;
};

}  // namespace

bool has_fashion_mnist() { return std::filesystem::exists(kFolder); }

std::vector<std::vector<float>> gradients_of_mlp(int ranks, int steps) {
  Mlp mlp;
  for (int step = 0; step < steps; ++step) mlp.descend(mlp.gradient(ranks * kBatch + step * kTrainBatch, kTrainBatch));
  std::vector<std::vector<float>> all;
  for (int rank = 0; rank < ranks; ++rank) {
    std::vector<float>& whole = all.emplace_back();
    for (const Tensor& each : mlp.gradient(rank * kBatch, kBatch)) {
      const std::vector<float> values = each.to_vector<float>();
      whole.insert(whole.end(), values.begin(), values.end());
    }
  }
  return all;
}

const std::vector<std::vector<float>>& model_gradients() {
  static const std::vector<std::vector<float>> all = [] {
    constexpr int kRanks = 64, kSteps = 20;
    std::vector<std::vector<float>> halves;
    for (const std::vector<float>& whole : gradients_of_mlp(kRanks, kSteps)) {
      std::vector<float>& half = halves.emplace_back();
      for (std::size_t i = 0; i < whole.size(); ++i) {
        if (i / 256 % 2 == 0) half.push_back(whole[i]);
      }
    }
    return halves;
  }();
  return all;
}

}  // namespace cohort::testing
