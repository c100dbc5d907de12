#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "cohort/base/random.hpp"
#include "cohort/checkpoint/checkpoint.hpp"
#include "cohort/comm/communicator.hpp"
#include "cohort/params/state.hpp"
#include "cohort/tensor/tensor.hpp"

namespace cohort::testing {

/// A state whose tensors several ranks keep between them, cut anywhere, or one of them whole. Element i of tensor t is
/// 1000 · t + i + seed / 4.
class PiecesState final : public Stateful {
 public:
  struct Setting {
    int rank = 0, ranks = 1;
    bool pieces = true;
    std::uint64_t cut = 0;               ///< of where the tensors are cut
    std::int64_t scale = 1;              ///< more rows
  };
  static constexpr std::size_t kTensors = 8;

  static std::string name_of(std::size_t t) {
    static const char* const names[kTensors] = {"parameters/matrix", "parameters/deep", "parameters/one", "parameters/scalar",
                                                "parameters/none", "slots/m/prime", "slots/100%b/odd name", "parameters/flat"};
    return names[t];
  }
  [[nodiscard]] Shape shape_of(std::size_t t) const {
    const Shape shapes[kTensors] = {{7 * setting_.scale, 5}, {3, 4, 5}, {1}, {}, {0, 3}, {101}, {2, 1, 3, 2}, {2, 13}};
    return shapes[t];
  }

  explicit PiecesState(Setting setting) : setting_(setting) {
    for (std::size_t t = 0; t < kTensors; ++t) {
      const auto [begin, n] = range_of(t);
      begins_.push_back(begin);
      values_.emplace_back(host(), DType::float32, setting_.pieces ? Shape{n} : shape_of(t));
      std::fill_n(values_.back().data<float>(), n, -1.f);
    }
  }

  void fill(std::uint64_t seed) {
    for (std::size_t t = 0; t < kTensors; ++t) {
      for (std::int64_t i = 0; i < values_[t].elements(); ++i) values_[t].data<float>()[i] = value_of(t, begins_[t] + i, seed);
    }
    // Of what is whole, rank 0's counts.
    const bool mine = setting_.rank == 0;
    step = mine ? static_cast<std::int64_t>(seed) : -5;
    text = mine ? "seed " + std::to_string(seed) : "not asked for";
    statistic.copy_from(Tensor::of<float>({3}, {mine ? static_cast<float>(seed) : -9.f, 1, 2}));
  }

  /// The state is that of the seed, all of it.
  [[nodiscard]] bool is(std::uint64_t seed) const {
    for (std::size_t t = 0; t < kTensors; ++t) {
      for (std::int64_t i = 0; i < values_[t].elements(); ++i) {
        if (values_[t].data<float>()[i] != value_of(t, begins_[t] + i, seed)) return false;
      }
    }
    return step == static_cast<std::int64_t>(seed) && text == "seed " + std::to_string(seed) && statistic.data<float>()[0] == static_cast<float>(seed);
  }
  /// Nothing has been loaded.
  [[nodiscard]] bool untouched() const {
    const auto is_old = [](const Tensor& t) { return std::all_of(t.data<float>(), t.data<float>() + t.elements(), [](float x) { return x == -1.f; }); };
    return std::all_of(values_.begin(), values_.end(), is_old) && step == 0 && text.empty();
  }

  void save(StateWriter& writer) const override { describe(writer, *this); }
  void load(StateReader& reader) override { describe(reader, *this); }

  std::int64_t step = 0;
  std::string text;
  Tensor statistic = Tensor::zeros({3});

 private:
  template <class Io, class Self>
  static void describe(Io& io, Self& self) {
    io.value("train/step", self.step);
    for (std::size_t t = 0; t < kTensors; ++t) {
      if (self.setting_.pieces) io.piece(name_of(t), self.shape_of(t), self.begins_[t], self.values_[t]);
      else io.tensor(name_of(t), self.values_[t]);
    }
    io.text("train/text", self.text);
    io.tensor("statistics/mean", self.statistic);
  }

  static float value_of(std::size_t t, std::int64_t i, std::uint64_t seed) {
    return static_cast<float>(1000 * t) + static_cast<float>(i) + static_cast<float>(seed) / 4;
  }

  /// Begin and length. Ranks are dealt the parts in another order for every second cut.
  [[nodiscard]] std::pair<std::int64_t, std::int64_t> range_of(std::size_t t) const {
    const std::int64_t all = shape_of(t).elements();
    if (!setting_.pieces) return {0, all};
    std::vector<std::int64_t> cuts = {0, all};
    for (int k = 1; k < setting_.ranks; ++k) {
      cuts.push_back(static_cast<std::int64_t>(random_below(static_cast<std::uint64_t>(all) + 1, setting_.cut, t, static_cast<std::uint64_t>(k))));
    }
    std::sort(cuts.begin(), cuts.end());
    const auto place = static_cast<std::size_t>(setting_.cut % 2 == 0 ? setting_.rank : setting_.ranks - 1 - setting_.rank);
    return {cuts[place], cuts[place + 1] - cuts[place]};
  }

  Setting setting_;
  std::vector<std::int64_t> begins_;
  std::vector<Tensor> values_;
};

/// Collective. Saves the state of the seed as that step, in pieces, and waits for it.
inline void save_pieces(Communicator& ranks, CheckpointWriter& writer, std::uint64_t seed, std::int64_t step, bool best = false) {
  PiecesState state({.rank = ranks.rank(), .ranks = ranks.size(), .cut = seed});
  state.fill(seed);
  Stateful* parts[] = {&state};
  writer.save(parts, step, best);
  writer.close();
}

inline CheckpointHeader load_into(PiecesState& state, const std::filesystem::path& path) {
  Stateful* parts[] = {&state};
  return load_checkpoint(path, parts);
}

}  // namespace cohort::testing
