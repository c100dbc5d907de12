#pragma once

#include <cstring>
#include <limits>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "cohort/base/random.hpp"
#include "cohort/params/state.hpp"
#include "cohort/tensor/tensor.hpp"

namespace cohort::testing {

/// A state with every kind of piece: all element types, padded rows, no elements, a scalar, values, texts. What it holds is
/// a function of the seed.
class SampleState final : public Stateful {
 public:
  explicit SampleState(std::uint64_t seed, std::int64_t rows = 40) {
    add("parameters/hidden/weight", Tensor(host(), DType::float32, {rows, 25}, 32));   // padded rows
    add("parameters/hidden/bias", Tensor(host(), DType::float32, {25}));
    add("parameters/none", Tensor(host(), DType::float32, {0, 4}));
    add("slots/momentum/hidden/weight", Tensor(host(), DType::float32, {rows, 25}));
    add("norm/scale", Tensor(host(), DType::float64, {3, 1, 2}));
    add("half", Tensor(host(), DType::float16, {7}));
    add("brain", Tensor(host(), DType::bfloat16, {7}));
    add("order", Tensor(host(), DType::int64, {11}));
    add("labels", Tensor(host(), DType::int32, {2, 3}));
    add("pixels", Tensor(host(), DType::uint8, {13}));
    add("mask", Tensor(host(), DType::boolean, {5}));
    add("scalar", Tensor(host(), DType::float32, {}));
    fill(seed);
  }

  void save(StateWriter& writer) const override { describe(writer, *this); }
  void load(StateReader& reader) override { describe(reader, *this); }

  void fill(std::uint64_t seed) {
    for (std::size_t t = 0; t < tensors.size(); ++t) {
      const Tensor& tensor = tensors[t].second;
      auto* bytes = static_cast<unsigned char*>(tensor.raw());
      const bool boolean = tensor.dtype() == DType::boolean;
      for (std::size_t i = 0; i < tensor.bytes(); ++i) {   // any bits at all: NaN, denormals and infinities too
        bytes[i] = static_cast<unsigned char>(random_bits(seed, t, i) & (boolean ? 1u : 255u));
      }
    }
    step = static_cast<std::int64_t>(seed) * -3;
    best = seed == 0 ? std::numeric_limits<double>::quiet_NaN() : 1.0 / static_cast<double>(seed);
    generator = "zufällig " + std::to_string(seed) + "\nsecond line";
    nothing = "";
  }

  /// Everything as bytes, padding left out.
  [[nodiscard]] std::string bits() const {
    std::string all;
    for (const auto& [name, tensor] : tensors) {
      Tensor dense(host(), tensor.dtype(), tensor.shape());
      dense.copy_from(tensor);
      all.append(static_cast<const char*>(dense.raw()), dense.bytes());
    }
    all.append(reinterpret_cast<const char*>(&step), sizeof step).append(reinterpret_cast<const char*>(&best), sizeof best);
    return all + generator + "|" + nothing;
  }

  std::vector<std::pair<std::string, Tensor>> tensors;
  std::int64_t step = 0;
  double best = 0;
  std::string generator, nothing;

 private:
  template <class Io, class Self>
  static void describe(Io& io, Self& self) {
    for (const auto& [name, tensor] : self.tensors) io.tensor(name, tensor);
    io.value("train/step", self.step);
    io.value("train/best", self.best);
    io.text("train/generator", self.generator);
    io.text("train/nothing", self.nothing);
  }

  void add(const std::string& name, const Tensor& tensor) { tensors.emplace_back(name, tensor); }
};

}  // namespace cohort::testing
