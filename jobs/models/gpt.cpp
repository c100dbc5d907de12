// A decoder-only transformer over bytes or other small numbers (Radford et al., "Language models are unsupervised multitask
// learners", 2019: layer norm before each block and after the last one, learned positions). It predicts each element's
// successor. With 4 layers, width 128, 128 positions and 256 symbols it has 875,264 parameters.
#include <cmath>
#include <cstdint>
#include <string>

#include "cohort/graph/layers.hpp"
#include "cohort/graph/model.hpp"

namespace cohort {
namespace {

struct Gpt {
  std::int64_t layers = 4, width = 128, heads = 4, hidden = 0, symbols = 256;
  double dropout = 0, label_smoothing = 0;

  explicit Gpt(Section& s) {
    s.bind("layers", layers, "transformer blocks", between(1, 10'000));
    s.bind("width", width, "columns of the residual stream", at_least(1));
    s.bind("heads", heads, "attention heads of each block; must divide the width", at_least(1));
    s.bind("hidden", hidden, "units between a block's two dense layers; 0: 4 times the width", at_least(0));
    s.bind("symbols", symbols, "different numbers that a sequence may hold", at_least(1));
    s.bind("dropout", dropout, "share of the embedding and of each block's results that is dropped in training", between(0, 0.99));
    s.bind("label_smoothing", label_smoothing, "share of the target spread evenly over the symbols", between(0, 0.99));
    check(width % heads == 0, Code::invalid_argument,
          s.path() + ".heads: " + std::to_string(heads) + " heads do not divide the width " + std::to_string(width));
  }

  Model operator()(Graph& g, const Batch& batch) const {
    const Batch::Wanted sequence{.who = "model gpt", .dtype = DType::int32, .least_rank = 2, .most_rank = 2, .form = "[n, t]"};
    const Value input = batch.take("input", sequence), target = batch.take("target", sequence);
    check(input.shape()[1] != Shape::kUnknown, Code::invalid_argument,
          "model 'gpt' takes sequences of one length, [n, t]; 'input' is " + input.signature().text());
    const Value embedded = nn::embedding(input, symbols, width, "embedding") + g.variable("position", {input.shape()[1], width}, "normal", 0.02);
    nn::ResidualNorm x{.sum = nn::dropout(embedded, static_cast<float>(dropout), batch.training), .normal = {}};
    x.normal = nn::layer_norm(x.sum, "block_1/attention_norm");
    for (std::int64_t i = 1; i <= layers; ++i) {
      const std::string block = "block_" + std::to_string(i);
      x = add(x, attend(x.normal, block), block + "/mlp_norm", batch);
      x = add(x, expand(x.normal, block), i < layers ? "block_" + std::to_string(i + 1) + "/attention_norm" : "output_norm", batch);
    }
    const Value logits = nn::dense(x.normal, symbols, "output", {.bias = false});
    const Value loss = mean(softmax_cross_entropy(logits, target));
    const Value trained = label_smoothing > 0 ? mean(softmax_cross_entropy(logits, target, static_cast<float>(label_smoothing))) : loss;
    return {.loss = batch.training ? trained : loss, .metrics = {{"nats_per_byte", loss}}, .output = logits};
  }

 private:
  /// Blocks begin as small changes of the residual stream: their last weights shrink with the number of blocks.
  [[nodiscard]] double branch_gain() const { return 1 / std::sqrt(2 * static_cast<double>(layers)); }

  [[nodiscard]] Value attend(Value x, const std::string& block) const {
    return nn::attention(x, heads, block + "/attention", {.output_gain = branch_gain()});
  }
  [[nodiscard]] Value expand(Value x, const std::string& block) const {
    const Value h = nn::dense(x, hidden > 0 ? hidden : 4 * width, block + "/expand", nn::Activation::gelu);
    return nn::dense(h, width, block + "/contract", {.gain = branch_gain()});
  }
  [[nodiscard]] nn::ResidualNorm add(const nn::ResidualNorm& x, Value branch, const std::string& norm, const Batch& batch) const {
    return nn::residual_layer_norm(x.sum, nn::dropout(branch, static_cast<float>(dropout), batch.training), norm);
  }
};

const Registered<ModelType> model{"gpt", {.make = [](Section& s) -> ModelBuilder { return Gpt(s); }}};

}  // namespace
}  // namespace cohort
