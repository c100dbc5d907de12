#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "cohort/params/gradient_range.hpp"
#include "cohort/params/parameter_layout.hpp"

namespace cohort {

/// The memory of one rank's gradients on its device, one piece for each range of the flat index space. Where the host cannot see
/// the device's memory, every range has a second piece in host memory, which gradients pass through on their way to other ranks.
/// What aligns parameters and pads their rows is zero.
class GradientStore {
 public:
  /// Zeroed memory that the host can reach and others may as well.
  using Allocate = std::function<Buffer(std::size_t bytes)>;

  /// `spare`: so many floats more, behind those of the last range.
  GradientStore(const ParameterLayout& layout, Device& device, std::span<const FlatRange> ranges, const Allocate& allocate, std::int64_t spare = 0);
  /// In memory of this rank alone.
  GradientStore(const ParameterLayout& layout, Device& device, std::span<const FlatRange> ranges);

  /// Where the gradient of a parameter is to be written.
  [[nodiscard]] Tensor gradient(std::size_t parameter) const;
  /// The ranges, and where they lie on the device.
  [[nodiscard]] std::span<const GradientRange> ranges() const noexcept { return ranges_; }
  /// Where the host has a range.
  [[nodiscard]] float* host_memory(std::size_t range) const { return static_cast<float*>(memory_[range].memory.get()); }

  /// Where the host cannot see the device's memory; else nothing is to be done.
  void copy_to_host(std::size_t range) const;
  void copy_to_device() const;

  /// All gradients := 0, on the device.
  void zero() const;
  /// Σ g² of all gradients, in an order that depends on the flat index space alone. Not finite if any gradient is not.
  [[nodiscard]] double sum_of_squares() const;
  [[nodiscard]] std::int64_t bytes() const noexcept;      ///< in the host's memory
  [[nodiscard]] std::int64_t spare_bytes() const noexcept { return spare_ * static_cast<std::int64_t>(sizeof(float)); }      ///< of these
  [[nodiscard]] bool staged() const noexcept { return !on_device_.empty(); }      ///< the host cannot see the device's memory

 private:
  const ParameterLayout& layout_;
  Device& device_;
  std::int64_t spare_;
  std::vector<Buffer> memory_;          // by range
  std::vector<Tensor> on_device_;       // by range; empty where the host sees the device's memory
  std::vector<GradientRange> ranges_;
  std::vector<std::size_t> range_of_;   // by parameter
};

}  // namespace cohort
