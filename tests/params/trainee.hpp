#pragma once

#include <cmath>
#include <cstdint>
#include <functional>
#include <memory>
#include <ostream>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "cohort/base/random.hpp"
#include "cohort/params/optimizer.hpp"
#include "cohort/tensor/device.hpp"

namespace cohort::testing {

/// An optimizer's type and the options that differ from its defaults.
struct OptimizerCase {
  std::string type;
  std::vector<std::pair<std::string, std::variant<bool, std::int64_t, double, std::string, OptionList>>> options{};

  [[nodiscard]] std::unique_ptr<Optimizer> make() const {
    Section section("optimizer");
    section.set("type", {type, "test"});
    for (const auto& [key, value] : options) section.set(key, {value, "test"});
    auto optimizer = make_optimizer(section);
    section.finish();
    return optimizer;
  }
  [[nodiscard]] std::string text() const {
    std::string result = type;
    for (const auto& [key, value] : options) {
      result += "_" + key;
      if (const auto* number = std::get_if<double>(&value)) result += std::to_string(std::lround(*number * 1000));
    }
    return result;
  }
  friend void PrintTo(const OptimizerCase& one, std::ostream* out) { *out << one.text(); }
};

/// A stream that does nothing before it is waited for.
class LateStream final : public Stream {
 public:
  void launch(std::function<void()> work) override { work_.push_back(std::move(work)); }
  void copy(void*, const void*, std::size_t) override { fail(Code::internal, "an optimizer copies nothing"); }
  void synchronize() override {
    for (auto& work : std::exchange(work_, {})) work();
  }
  [[nodiscard]] bool immediate() const noexcept override { return false; }

 private:
  std::vector<std::function<void()>> work_;
};

/// One parameter in the hands of an optimizer.
class Trainee {
 public:
  Trainee(const OptimizerCase& how, std::vector<float> start) : optimizer(how.make()), value(std::move(start)) {
    slots.assign(optimizer->slots().size(), std::vector<float>(value.size(), 0.f));
  }

  /// A step over slices that end at `cuts` and at the end. `sums`: taken instead of the slices' own, where given.
  void step(const std::vector<float>& gradient, const StepInfo& info, std::vector<std::int64_t> cuts = {},
            const std::vector<double>* sums_of_whole = nullptr) {
    cuts.push_back(static_cast<std::int64_t>(value.size()));
    sums.assign(optimizer->sums(), 0.0);
    if (!sums.empty()) {
      over(gradient, cuts, [&](const ParameterSlice& slice) { optimizer->partials(*stream, slice, info, sums); });
    }
    over(gradient, cuts, [&](const ParameterSlice& slice) {
      optimizer->update(*stream, slice, sums_of_whole == nullptr ? sums : *sums_of_whole, info);
    });
    stream->synchronize();
  }

  std::unique_ptr<Optimizer> optimizer;
  std::vector<float> value;
  std::vector<std::vector<float>> slots;
  std::vector<double> sums;
  ParameterGroup group;
  Stream* stream = &host().stream();

 private:
  template <class F>
  void over(const std::vector<float>& gradient, const std::vector<std::int64_t>& cuts, F&& f) {
    std::int64_t begin = 0;
    for (const std::int64_t end : cuts) {
      std::vector<float*> pieces;
      for (auto& slot : slots) pieces.push_back(slot.data() + begin);
      f(ParameterSlice{.group = &group, .value = value.data() + begin, .gradient = gradient.data() + begin, .slots = pieces,
                       .n = end - begin});
      begin = end;
    }
  }
};

/// The same numbers everywhere: uniform in [-1, 1).
inline std::vector<float> noise(std::size_t n, std::uint64_t stream) {
  std::vector<float> result(n);
  for (std::size_t i = 0; i < n; ++i) result[i] = 2 * random_uniform(7, stream, i) - 1;
  return result;
}

}  // namespace cohort::testing
