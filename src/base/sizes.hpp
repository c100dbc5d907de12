#pragma once

#include <cstdint>
#include <initializer_list>
#include <string_view>

namespace cohort {

/// A part of a size, and what the user knows it as.
struct NamedSize {
  std::string_view name;   ///< "train.accumulate"
  std::int64_t value;      ///< not negative
};

/// The product, which ends up in 64 bits wherever sizes are used. Error invalid_argument with names and values where it does not fit.
[[nodiscard]] std::int64_t product_of(std::initializer_list<NamedSize> factors);
/// The sum, likewise.
[[nodiscard]] std::int64_t sum_of(std::initializer_list<NamedSize> summands);

}  // namespace cohort
