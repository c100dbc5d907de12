#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>

#include "cohort/params/parameter_layout.hpp"

namespace cohort {

/// Memory for a float of each element of the flat index space, as the values of all parameters are, or one of their slots: of all
/// elements, or of those of a shard, one range behind the other.
class FlatArray {
 public:
  /// Where it lies: zeroed memory from `allocate`, or a device's own if that is empty. `mine`: this rank writes start values there;
  /// else another rank that shares the memory does, and the same bits reach this one.
  struct Memory {
    std::function<Buffer(std::size_t bytes)> allocate{};
    bool mine = true;
  };

  /// Has no memory yet.
  FlatArray() = default;
  /// All elements, zero.
  FlatArray(Device& device, const Memory& memory, std::int64_t flat_size);
  /// Those of a shard, zero, in memory of this rank alone.
  FlatArray(Device& device, const Shard& shard);

  /// Of the element `flat`, and what follows it here.
  [[nodiscard]] float* at(std::int64_t flat) const { return memory_.data<float>() + (shard_ ? shard_->position(flat) : flat); }
  [[nodiscard]] bool whole() const noexcept { return !shard_; }
  [[nodiscard]] std::int64_t bytes() const noexcept { return static_cast<std::int64_t>(memory_.bytes()); }
  [[nodiscard]] bool shared() const noexcept { return shared_; }       ///< with the ranks of this machine
  [[nodiscard]] bool mine() const noexcept { return mine_; }

  /// Precondition: all elements are here.
  [[nodiscard]] Tensor view(const Parameter& parameter) const;
  /// Copies what is here of a parameter from all of it, which lies in host memory.
  void set(const Parameter& parameter, const Tensor& all) const;

  /// It goes on in other memory, the host's; what is returned is the old one, for somebody who still reads it.
  [[nodiscard]] Tensor move_to_new_memory();

 private:
  Tensor memory_;
  std::optional<Shard> shard_;
  bool shared_ = false, mine_ = true;
};

}  // namespace cohort
