#include "exchange/gradient_store.hpp"

#include <algorithm>

#include "exchange/granule_squares.hpp"

namespace cohort {
namespace {

Buffer zeroed_host_memory(std::size_t bytes) {
  Buffer buffer = host().allocate(bytes);
  if (bytes > 0) std::fill_n(static_cast<std::byte*>(buffer.memory.get()), bytes, std::byte{0});
  return buffer;
}

std::size_t bytes_of(std::int64_t floats) { return static_cast<std::size_t>(floats) * sizeof(float); }

}  // namespace

GradientStore::GradientStore(const ParameterLayout& layout, Device& device, std::span<const FlatRange> ranges)
    : GradientStore(layout, device, ranges, zeroed_host_memory) {}

GradientStore::GradientStore(const ParameterLayout& layout, Device& device, std::span<const FlatRange> ranges, const Allocate& allocate,
                             std::int64_t spare)
    : layout_(layout), device_(device), spare_(spare) {
  for (std::size_t r = 0; r < ranges.size(); ++r) {
    const std::int64_t n = ranges[r].n + (r + 1 == ranges.size() ? spare : 0);
    memory_.push_back(allocate(bytes_of(n)));
    float* gradients = host_memory(r);
    if (!device_.info().host_accessible) {
      on_device_.emplace_back(device_, DType::float32, Shape{n});
      on_device_.back().copy_from(Tensor::zeros({n}));
      gradients = on_device_.back().data<float>();
    }
    ranges_.push_back({.begin = ranges[r].begin, .n = ranges[r].n, .gradient = gradients});
  }
  for (const Parameter& parameter : layout_.trained()) {
    const auto after = std::ranges::upper_bound(ranges_, parameter.offset, {}, &GradientRange::begin);
    range_of_.push_back(static_cast<std::size_t>(after - ranges_.begin()) - 1);
  }
}

Tensor GradientStore::gradient(std::size_t parameter) const {
  const Parameter& p = layout_.trained()[parameter];
  const std::size_t r = range_of_[parameter];
  return {device_, DType::float32, p.shape, ranges_[r].gradient + (p.offset - ranges_[r].begin), staged() ? on_device_[r].owner() : memory_[r].memory, p.ld};
}

void GradientStore::copy_to_host(std::size_t range) const {
  if (!staged()) return;
  device_.stream().copy(host_memory(range), on_device_[range].raw(), bytes_of(ranges_[range].n));
  device_.stream().synchronize();
}

void GradientStore::copy_to_device() const {
  if (!staged()) return;
  for (std::size_t r = 0; r < ranges_.size(); ++r) device_.stream().copy(on_device_[r].raw(), host_memory(r), bytes_of(ranges_[r].n));
  device_.stream().synchronize();
}

void GradientStore::zero() const {
  for (std::size_t r = 0; r < ranges_.size(); ++r) {
    if (staged()) on_device_[r].copy_from(Tensor::zeros(on_device_[r].shape()));
    else std::fill_n(host_memory(r), ranges_[r].n, 0.f);
  }
}

double GradientStore::sum_of_squares() const {
  double sum = 0;
  for (std::size_t r = 0; r < ranges_.size(); ++r) {
    copy_to_host(r);
    for (std::int64_t i = 0; i < ranges_[r].n; i += ParameterLayout::kUnit) sum += squares_of_granule(host_memory(r) + i);
  }
  return sum;
}

std::int64_t GradientStore::bytes() const noexcept {
  std::int64_t n = spare_;
  for (const GradientRange& range : ranges_) n += range.n;
  return n * static_cast<std::int64_t>(sizeof(float));
}

}  // namespace cohort
