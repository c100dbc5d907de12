#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <type_traits>
#include <vector>

#include "cohort/exec/kernel.hpp"

namespace cohort {

/// N dense inputs broadcast to one dense output, with neighbouring dimensions merged where all step alike: equal shapes and
/// scalars become one dimension, a row vector or a column two.
template <std::size_t N>
class BroadcastPlan {
 public:
  using Offsets = std::array<std::int64_t, N>;

  BroadcastPlan(const Shape& out, const std::array<Shape, N>& in) {
    Offsets stride;
    stride.fill(1);
    for (std::size_t back = 1; back <= out.rank(); ++back) {
      const auto at = -static_cast<std::int64_t>(back);
      Dimension dim{out[at], {}};
      for (std::size_t i = 0; i < N; ++i) {
        const std::int64_t size = back <= in[i].rank() ? in[i][at] : 1;
        dim.step[i] = size == 1 ? 0 : stride[i];
        stride[i] *= size;
      }
      if (dim.size != 1) append(dim);
    }
    if (dims_.empty()) {
      dims_.push_back({1, {}});
      dims_[0].step.fill(1);
    }
  }

  /// Does input i advance with the output in the innermost dimension (else it stays)?
  [[nodiscard]] bool advances(std::size_t i) const { return dims_[0].step[i] != 0; }

  /// The length of input i if it is a row that repeats all over the output, else 0.
  [[nodiscard]] std::int64_t row_of(std::size_t i) const {
    bool row = dims_.size() > 1 && advances(i);
    for (std::size_t d = 1; d < dims_.size(); ++d) row = row && dims_[d].step[i] == 0;
    return row ? dims_[0].size : 0;
  }

  /// Is input i of the output's shape?
  [[nodiscard]] bool whole(std::size_t i) const {
    std::int64_t step = 1;
    bool whole = true;
    for (const Dimension& dim : dims_) {
      whole = whole && dim.step[i] == step;
      step *= dim.size;
    }
    return whole;
  }

  /// Calls f(first output element, input offsets, n) for the runs along the innermost dimension within [begin, end).
  template <class F>
  void runs(std::int64_t begin, std::int64_t end, F f) const {
    std::array<std::int64_t, Shape::kMaxRank> index{};
    std::int64_t rest = begin;
    Offsets offset{};
    for (std::size_t d = 0; d < dims_.size(); ++d) {
      index[d] = rest % dims_[d].size;
      rest /= dims_[d].size;
      for (std::size_t i = 0; i < N; ++i) offset[i] += index[d] * dims_[d].step[i];
    }
    while (begin < end) {
      const std::int64_t n = std::min(dims_[0].size - index[0], end - begin);
      f(begin, offset, n);
      begin += n;
      move(index, offset, n);
    }
  }

 private:
  struct Dimension {
    std::int64_t size;
    Offsets step;      // of each input, in elements
  };

  void append(const Dimension& dim) {
    if (!dims_.empty()) {
      Dimension& last = dims_.back();
      bool merge = true;
      for (std::size_t i = 0; i < N; ++i) merge = merge && dim.step[i] == last.step[i] * last.size;
      if (merge) {
        last.size *= dim.size;
        return;
      }
    }
    dims_.push_back(dim);
  }

  void move(std::array<std::int64_t, Shape::kMaxRank>& index, Offsets& offset, std::int64_t n) const {
    for (std::size_t d = 0; d < dims_.size(); ++d) {
      const std::int64_t by = d == 0 ? n : 1;
      index[d] += by;
      for (std::size_t i = 0; i < N; ++i) offset[i] += by * dims_[d].step[i];
      if (index[d] < dims_[d].size) return;
      for (std::size_t i = 0; i < N; ++i) offset[i] -= index[d] * dims_[d].step[i];
      index[d] = 0;
    }
  }

  std::vector<Dimension> dims_;   // innermost first
};

/// The kernel of a formula `R F::operator()(T a, T b) const` with broadcasting. The loop fits the shapes: both inputs
/// advance along the innermost dimension, or one of them stays.
template <class F, class T>
class BinaryKernel final : public Kernel {
 public:
  using R = std::invoke_result_t<F, T, T>;

  explicit BinaryKernel(const NodeInfo& info) : plan_(info.out[0].shape, {info.in[0].shape, info.in[1].shape}) {
    loop_ = plan_.advances(0) ? (plan_.advances(1) ? &loop<true, true> : &loop<true, false>) : &loop<false, true>;
    for (const std::size_t i : {0u, 1u}) {
      const std::int64_t row = plan_.row_of(i);
      if (row == 0 || row >= kShortRow || !plan_.whole(1 - i)) continue;
      repeated_input_ = i;
      length_ = (std::min(kRepeated, info.out[0].shape.elements()) + row - 1) / row * row;
      repeated_ = std::make_unique<T[]>(static_cast<std::size_t>(length_));
    }
  }

  void run(KernelContext& c) override {
    const T* a = c.in(0).template data<T>();
    const T* b = c.in(1).template data<T>();
    R* y = c.out().template data<R>();
    if (repeated_) {
      run_repeated(c, a, b, y);
      return;
    }
    c.pool().parallel_for(c.out().elements(), kGrain, [&](std::int64_t begin, std::int64_t end) {
      plan_.runs(begin, end, [&](std::int64_t at, const auto& offset, std::int64_t n) {
        loop_(a + offset[0], b + offset[1], y + at, n);
      });
    });
  }

 private:
  static constexpr std::int64_t kGrain = 16384;
  static constexpr std::int64_t kShortRow = 32, kRepeated = 512;

  /// A short row (the bias of a few channels) is written out many times first, so that the loop runs over long pieces.
  void run_repeated(KernelContext& c, const T* a, const T* b, R* y) {
    const std::int64_t row = plan_.row_of(repeated_input_);
    for (std::int64_t i = 0; i < length_; i += row) std::copy_n(repeated_input_ == 0 ? a : b, row, &repeated_[i]);
    c.pool().parallel_for(c.out().elements(), kGrain, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t at = begin; at < end;) {
        const std::int64_t phase = at % length_, n = std::min(length_ - phase, end - at);
        if (repeated_input_ == 0) loop_(&repeated_[phase], b + at, y + at, n);
        else loop_(a + at, &repeated_[phase], y + at, n);
        at += n;
      }
    });
  }

  template <bool A, bool B>
  static void loop(const T* a, const T* b, R* y, std::int64_t n) {
    const T a0 = *a, b0 = *b;
    const F f{};
#pragma GCC ivdep   // y may be the memory of an input that advances with it, never another overlap
    for (std::int64_t i = 0; i < n; ++i) y[i] = f(A ? a[i] : a0, B ? b[i] : b0);
  }

  BroadcastPlan<2> plan_;
  void (*loop_)(const T*, const T*, R*, std::int64_t);
  std::size_t repeated_input_ = 0;
  std::int64_t length_ = 0;
  std::unique_ptr<T[]> repeated_;    // null: no short row
};

/// Makes the kernel of formula F for whichever of `Types` the first input has.
template <class F, class... Types>
std::unique_ptr<Kernel> make_binary_kernel(const NodeInfo& info) {
  std::unique_ptr<Kernel> kernel;
  const auto consider = [&]<class T>() {
    if (info.in[0].dtype == dtype_of<T>()) kernel = std::make_unique<BinaryKernel<F, T>>(info);
  };
  (consider.template operator()<Types>(), ...);
  check(kernel != nullptr, Code::internal, info.name + ": no kernel for " + info.in[0].text());
  return kernel;
}

/// Examples of every way in which two inputs broadcast; the second one is drawn from [low, high).
[[nodiscard]] inline std::vector<Example> broadcast_examples(double low = -1, double high = 1) {
  const std::vector<std::pair<Shape, Shape>> shapes{
      {{3, 5}, {3, 5}}, {{4, 3}, {3}},       {{3}, {4, 3}},       {{4, 3}, {4, 1}},       {{2, 3}, {}},
      {{}, {7}},        {{2, 1, 3}, {4, 1}}, {{1, 1}, {1, 1, 1}}, {{7, 13}, {7, 13}},     {{2, 3, 1, 5}, {3, 2, 1}},
      {{}, {}},         {{0, 3}, {3}},       {{5, 0}, {5, 1}},    {{3, 1, 2}, {1, 4, 1}},
  };
  std::vector<Example> examples;
  for (const auto& [a, b] : shapes) examples.push_back({.in = {{.shape = a}, {.shape = b, .low = low, .high = high}}});
  return examples;
}

}  // namespace cohort
