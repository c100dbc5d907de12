#include "cohort/params/flat_array.hpp"

#include <string>
#include <utility>

#include "base/about.hpp"

namespace cohort {
namespace {

Tensor zeroed(Device& device, std::int64_t n) {
  return about("memory for " + std::to_string(n) + " values of the model or its optimizer (see cohort inspect, and train.updater = \"sharded\")", [&] {
    Tensor result(device, DType::float32, {n});
    result.copy_from(Tensor::zeros({n}));
    return result;
  });
}

Tensor allocated(Device& device, const FlatArray::Memory& memory, std::int64_t n) {
  if (!memory.allocate) return zeroed(device, n);
  const Buffer buffer = memory.allocate(static_cast<std::size_t>(n) * sizeof(float));
  return {device, DType::float32, {n}, buffer.memory.get(), buffer.memory};
}

}  // namespace

FlatArray::FlatArray(Device& device, const Memory& memory, std::int64_t flat_size)
    : memory_(allocated(device, memory, flat_size)), shared_(bool(memory.allocate)), mine_(memory.mine) {}

FlatArray::FlatArray(Device& device, const Shard& shard) : memory_(zeroed(device, shard.size())), shard_(shard) {}

Tensor FlatArray::view(const Parameter& parameter) const {
  return {memory_.device(), DType::float32, parameter.shape, memory_.data<float>() + parameter.offset, memory_.owner(), parameter.ld};
}

void FlatArray::set(const Parameter& parameter, const Tensor& all) const {
  const FlatRange range{parameter.offset, parameter.n}, mine = shard_ ? shard_->part_of(range) : range;
  for (std::int64_t flat = mine.begin; flat < mine.end(); ++flat) {
    const std::int64_t row = (flat - parameter.offset) / parameter.ld, column = (flat - parameter.offset) % parameter.ld;
    if (column < all.columns()) *at(flat) = all.data<float>()[row * all.ld() + column];
  }
}

Tensor FlatArray::move_to_new_memory() {
  Tensor moved(host(), DType::float32, memory_.shape());
  moved.copy_from(memory_);
  std::swap(moved, memory_);
  return moved;
}

}  // namespace cohort
