#include "hdf5/conversion.hpp"

#include <array>
#include <cmath>
#include <cstdio>
#include <limits>
#include <type_traits>
#include <utility>
#include <vector>

#include "cohort/base/error.hpp"
#include "hdf5/types.hpp"

namespace cohort::hdf5 {
namespace {

std::string text_of(double value) {
  std::array<char, 40> text{};
  std::snprintf(text.data(), text.size(), "%.15g", value);
  return text.data();
}
template <class Whole>
std::string text_of(Whole value) {
  return std::to_string(value);
}

/// "[3, 1]"
std::string index_text(const Shape& shape, std::int64_t element) {
  std::string text;
  for (std::size_t d = shape.rank(); d > 0; --d) {
    const std::int64_t size = shape[static_cast<std::int64_t>(d - 1)];
    text = std::to_string(element % size) + (text.empty() ? "" : ", ") + text;
    element /= size;
  }
  return "[" + text + "]";
}

/// Sets `to` to the value; false if it cannot hold it.
template <class T, class Wide>
bool narrow(Wide value, T& to) {
  if constexpr (!std::is_integral_v<T>) {
    if constexpr (sizeof(T) == 2) to = T(static_cast<float>(value));       // 16-bit floats
    else to = static_cast<T>(value);
    if constexpr (std::is_integral_v<Wide>) return true;
    else return sizeof(T) == 8 || !std::isfinite(value) || std::isfinite(static_cast<float>(to));
  } else if constexpr (std::is_integral_v<Wide>) {
    if (!std::in_range<std::conditional_t<std::is_same_v<T, bool>, unsigned char, T>>(value)) return false;
    to = static_cast<T>(value);
  } else {
    const double beyond = std::ldexp(1.0, std::numeric_limits<T>::digits);   // exact, as the largest int64 is not
    const double least = static_cast<double>(std::numeric_limits<T>::min());
    if (!(value >= least && value < beyond && value == std::floor(value))) return false;
    to = static_cast<T>(value);
  }
  return true;
}

/// HDF5's own conversions are for those that lose nothing: it does not say what it cuts off, and where asked to it is wrong
/// for some types (1.10: big-endian floats as whole numbers). So elements come as the widest type of their kind, and go on
/// here.
template <class Wide>
void read_wide(hid_t dataset, hid_t space, hid_t type, const Destination& to, const Shape& shape, std::int64_t begin,
               const std::string& where) {
  std::vector<Wide> values(static_cast<std::size_t>(to.elements));
  const auto n = static_cast<hsize_t>(to.elements);
  const Handle memory = own(H5Screate_simple(1, &n, nullptr), H5Sclose, "HDF5 data space");
  check(H5Dread(dataset, type, memory.get(), space, H5P_DEFAULT, values.data()), where + ": cannot read");
  dispatch(to.dtype, [&]<class T>() {
    for (std::int64_t i = 0; i < to.elements; ++i) {
      const Wide value = values[static_cast<std::size_t>(i)];
      if (narrow(value, static_cast<T*>(to.out)[i / to.columns * to.ld + i % to.columns])) continue;
      fail(Code::data_loss, where + ": element " + index_text(shape, begin + i) + " is " + text_of(value) + ", which " +
                                std::string(name(to.dtype)) + " cannot hold");
    }
  });
}

}  // namespace

void read_elements(hid_t dataset, hid_t space, const Destination& to, const Shape& shape, std::int64_t begin,
                   const std::string& where) {
  const Handle type = type_of(to.dtype), stored = own(H5Dget_type(dataset), H5Tclose, where);
  const H5T_class_t kind = H5Tget_class(stored.get());
  if (to.dtype == DType::boolean || (kind != H5T_FLOAT && kind != H5T_INTEGER) || holds_all_of(type.get(), stored.get())) {
    check(H5Dread(dataset, type.get(), to.space, space, H5P_DEFAULT, to.out), where + ": cannot read");
  } else if (kind == H5T_FLOAT) {
    read_wide<double>(dataset, space, H5T_NATIVE_DOUBLE, to, shape, begin, where);
  } else if (H5Tget_sign(stored.get()) == H5T_SGN_2) {
    read_wide<std::int64_t>(dataset, space, H5T_NATIVE_INT64, to, shape, begin, where);
  } else {
    read_wide<std::uint64_t>(dataset, space, H5T_NATIVE_UINT64, to, shape, begin, where);
  }
}

}  // namespace cohort::hdf5
