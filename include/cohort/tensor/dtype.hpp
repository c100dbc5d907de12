#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <type_traits>

#include "cohort/base/error.hpp"
#include "cohort/base/portable.hpp"

namespace cohort {

/// Storage formats of an element. Arithmetic is done in float32 and int64; the 16-bit floats are storage and wire formats.
enum class DType : std::uint8_t { float32, float64, float16, bfloat16, int32, int64, uint8, boolean };

/// Brain floating point: the upper half of a float32, rounded to nearest even; NaN stays NaN, of another payload.
struct bfloat16 {
  std::uint16_t bits = 0;
  bfloat16() = default;
  COHORT_HD constexpr explicit bfloat16(float x) {
    const auto u = std::bit_cast<std::uint32_t>(x);
    const std::uint32_t nan = x != x ? 0xffffffffu : 0u;       // no branch: loops over it vectorise
    bits = static_cast<std::uint16_t>(((u + 0x7fffu + ((u >> 16) & 1u)) | nan) >> 16);
  }
  COHORT_HD constexpr explicit operator float() const { return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16); }
};

/// IEEE 754 binary16, rounded to nearest even; overflow gives infinity.
struct float16 {
  std::uint16_t bits = 0;
  float16() = default;
  COHORT_HD constexpr explicit float16(float x) {
    const auto u = std::bit_cast<std::uint32_t>(x);
    const std::uint32_t sign = (u >> 16) & 0x8000u, magnitude = u & 0x7fffffffu;
    if (magnitude > 0x7f800000u) { bits = static_cast<std::uint16_t>(sign | 0x7e00u); return; }
    if (magnitude >= 0x477ff000u) { bits = static_cast<std::uint16_t>(sign | 0x7c00u); return; }   // rounds to 65520 or more
    if (magnitude < 0x38800000u) {                                                                // subnormal or zero: add the magic 0.5
      const float shifted = std::bit_cast<float>(magnitude) + 0.5f;
      bits = static_cast<std::uint16_t>(sign | (std::bit_cast<std::uint32_t>(shifted) - 0x3f000000u));
      return;
    }
    const std::uint32_t rounded = magnitude + 0xfffu + ((magnitude >> 13) & 1u);
    bits = static_cast<std::uint16_t>(sign | ((rounded - 0x38000000u) >> 13));
  }
  COHORT_HD constexpr explicit operator float() const {
    const std::uint32_t sign = (bits & 0x8000u) << 16, exponent = (bits >> 10) & 0x1fu, mantissa = bits & 0x3ffu;
    if (exponent == 0x1fu) return std::bit_cast<float>(sign | 0x7f800000u | (mantissa << 13));
    if (exponent == 0) {
      const float magnitude = static_cast<float>(mantissa) * 0x1p-24f;
      return std::bit_cast<float>(std::bit_cast<std::uint32_t>(magnitude) | sign);
    }
    return std::bit_cast<float>(sign | ((exponent + 112u) << 23) | (mantissa << 13));
  }
};

/// Calls `f.template operator()<T>()` with the C++ type of `dtype`: the only switch on DType in the tree.
template <class F>
decltype(auto) dispatch(DType dtype, F&& f) {
  switch (dtype) {
    case DType::float32: return f.template operator()<float>();
    case DType::float64: return f.template operator()<double>();
    case DType::float16: return f.template operator()<float16>();
    case DType::bfloat16: return f.template operator()<bfloat16>();
    case DType::int32: return f.template operator()<std::int32_t>();
    case DType::int64: return f.template operator()<std::int64_t>();
    case DType::uint8: return f.template operator()<std::uint8_t>();
    case DType::boolean: return f.template operator()<bool>();
  }
  fail(Code::internal, "a DType outside its enumeration");
}

template <class T>
consteval DType dtype_of() {
  if constexpr (std::is_same_v<T, float>) return DType::float32;
  else if constexpr (std::is_same_v<T, double>) return DType::float64;
  else if constexpr (std::is_same_v<T, float16>) return DType::float16;
  else if constexpr (std::is_same_v<T, bfloat16>) return DType::bfloat16;
  else if constexpr (std::is_same_v<T, std::int32_t>) return DType::int32;
  else if constexpr (std::is_same_v<T, std::int64_t>) return DType::int64;
  else if constexpr (std::is_same_v<T, std::uint8_t>) return DType::uint8;
  else {
    static_assert(std::is_same_v<T, bool>, "not an element type");
    return DType::boolean;
  }
}

[[nodiscard]] std::size_t size_of(DType dtype);
[[nodiscard]] std::string_view name(DType dtype);
[[nodiscard]] DType dtype_from(std::string_view name);    ///< Error invalid_argument with the known names
[[nodiscard]] constexpr bool is_float(DType dtype) { return dtype <= DType::bfloat16; }

}  // namespace cohort
