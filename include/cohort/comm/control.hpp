#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "cohort/comm/communicator.hpp"

namespace cohort {

// Collectives for control data, kilobytes or a model's start state: all ranks of the communicator call them alike. They block,
// bounded by `Communicator::timeout`, and their results do not depend on timing. Gradients go through a `Collective`.

enum class Reduce : std::uint8_t { sum, min, max };

/// Returns when all ranks have called it. log2(p) rounds of one empty message.
void barrier(Communicator& communicator);
/// `data` of `root` to all; the size must be the same everywhere. Binomial tree, log2(p) messages deep.
void broadcast(Communicator& communicator, std::span<std::byte> data, int root);
/// A text of any length from `root` to all.
void broadcast(Communicator& communicator, std::string& text, int root);
/// What each rank gave, in rank order; sizes may differ. 2·log2(p) messages.
[[nodiscard]] std::vector<std::string> all_gather(Communicator& communicator, std::string_view mine);
/// `mine` of every rank, one after the other; the size must be the same everywhere. log2(p) messages.
[[nodiscard]] std::vector<std::byte> all_gather_equal(Communicator& communicator, std::span<const std::byte> mine);
/// The same into memory of the caller, size() times as long as `mine`; allocates nothing.
void all_gather_equal(Communicator& communicator, std::span<const std::byte> mine, std::span<std::byte> all);
/// Combines element by element in rank order, so that all ranks get the same bits. For short vectors: every rank receives p·n
/// values.
void all_reduce(Communicator& communicator, std::span<double> values, Reduce how);
void all_reduce(Communicator& communicator, std::span<std::int64_t> values, Reduce how);
[[nodiscard]] double all_reduce(Communicator& communicator, double value, Reduce how);
[[nodiscard]] std::int64_t all_reduce(Communicator& communicator, std::int64_t value, Reduce how);

template <class T>
void broadcast_values(Communicator& communicator, std::span<T> values, int root) {
  static_assert(std::is_trivially_copyable_v<T>);
  broadcast(communicator, std::as_writable_bytes(values), root);
}

template <class T>
[[nodiscard]] std::vector<T> all_gather_value(Communicator& communicator, const T& mine) {
  static_assert(std::is_trivially_copyable_v<T>);
  const std::vector<std::byte> bytes = all_gather_equal(communicator, std::as_bytes(std::span(&mine, 1)));
  std::vector<T> all(static_cast<std::size_t>(communicator.size()));
  std::memcpy(all.data(), bytes.data(), bytes.size());
  return all;
}

}  // namespace cohort
