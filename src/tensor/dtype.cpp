#include "cohort/tensor/dtype.hpp"

#include <array>

namespace cohort {
namespace {

constexpr std::array<std::string_view, 8> kNames = {"float32", "float64", "float16", "bfloat16",
                                                    "int32",   "int64",   "uint8",   "bool"};

}  // namespace

std::size_t size_of(DType dtype) {
  return dispatch(dtype, []<class T>() { return sizeof(T); });
}

std::string_view name(DType dtype) { return kNames.at(static_cast<std::size_t>(dtype)); }

DType dtype_from(std::string_view name) {
  std::string known;
  for (std::size_t i = 0; i < kNames.size(); ++i) {
    if (kNames[i] == name) return static_cast<DType>(i);
    known += " " + std::string(kNames[i]);
  }
  fail(Code::invalid_argument, "unknown element type '" + std::string(name) + "', known:" + known);
}

}  // namespace cohort
