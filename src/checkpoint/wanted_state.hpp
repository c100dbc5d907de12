#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>

#include "checkpoint/checkpoint_file.hpp"
#include "cohort/params/shard.hpp"
#include "cohort/params/state.hpp"

namespace cohort {

/// What a state wants of one data set.
struct Wish {
  std::string what{};                    ///< "float32[3, 5]", "text", "int64 value"
  bool needed = true;                    ///< false: the file may lack it
  std::optional<FlatRange> piece{};      ///< nothing: the whole
  StateItem like{};                      ///< something of its type, without the contents
  DType dtype = DType::float32;          ///< of a tensor
  Shape shape{};                         ///< of the whole of it
};
using WishList = std::map<std::string, Wish>;        ///< by data set: "/parameters/hidden/weight"

/// Asks what the parts want, and changes nothing of them. Error internal for a name that is there twice.
[[nodiscard]] WishList wishes_of(std::span<Stateful* const> parts);

/// Loads what has been read, by data set, into the parts. Nothing can go wrong: it is what they wanted.
void load_items(const std::map<std::string, StateItem>& items, std::span<Stateful* const> parts);

}  // namespace cohort
