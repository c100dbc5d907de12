#include "base/sizes.hpp"

#include <fmt/core.h>

#include <string>

#include "cohort/base/error.hpp"

namespace cohort {
namespace {

[[noreturn]] void refuse(std::initializer_list<NamedSize> parts, std::string_view word) {
  std::string text;
  for (const NamedSize& part : parts) text += fmt::format("{}{} ({})", text.empty() ? std::string() : fmt::format(" {} ", word), part.name, part.value);
  fail(Code::invalid_argument, text + " is more than a whole number of 64 bits holds: choose smaller ones");
}

}  // namespace

std::int64_t product_of(std::initializer_list<NamedSize> factors) {
  std::int64_t result = 1;
  for (const NamedSize& factor : factors) {
    if (__builtin_mul_overflow(result, factor.value, &result)) refuse(factors, "times");
  }
  return result;
}

std::int64_t sum_of(std::initializer_list<NamedSize> summands) {
  std::int64_t result = 0;
  for (const NamedSize& summand : summands) {
    if (__builtin_add_overflow(result, summand.value, &result)) refuse(summands, "plus");
  }
  return result;
}

}  // namespace cohort
