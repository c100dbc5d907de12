// A recurrent language model over bytes or other small numbers: an embedding, layers of long short-term memory, and a dense
// layer that predicts each element's successor.
#include <cstdint>
#include <string>

#include "cohort/graph/layers.hpp"
#include "cohort/graph/model.hpp"

namespace cohort {
namespace {

struct LstmModel {
  std::int64_t layers = 1, units = 256, width = 64, symbols = 256;
  double dropout = 0;

  explicit LstmModel(Section& s) {
    s.bind("layers", layers, "recurrent layers", between(1, 10'000));
    s.bind("units", units, "cells of each layer", at_least(1));
    s.bind("width", width, "columns of the embedding", at_least(1));
    s.bind("symbols", symbols, "different numbers that a sequence may hold", at_least(1));
    s.bind("dropout", dropout, "share of each layer's results that is dropped in training", between(0, 0.99));
  }

  Model operator()(Graph&, const Batch& batch) const {
    const Batch::Wanted sequence{.who = "model lstm", .dtype = DType::int32, .least_rank = 2, .most_rank = 2, .form = "[n, t]"};
    Value h = nn::embedding(batch.take("input", sequence), symbols, width, "embedding", 1.0);
    for (std::int64_t i = 1; i <= layers; ++i) {
      h = nn::dropout(nn::lstm(h, units, "lstm_" + std::to_string(i)), static_cast<float>(dropout), batch.training);
    }
    const Value logits = nn::dense(h, symbols, "output");
    const Value loss = mean(softmax_cross_entropy(logits, batch.take("target", sequence)));
    return {.loss = loss, .metrics = {{"nats_per_byte", loss}}, .output = logits};
  }
};

const Registered<ModelType> model{"lstm", {.make = [](Section& s) -> ModelBuilder { return LstmModel(s); }}};

}  // namespace
}  // namespace cohort
