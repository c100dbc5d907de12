#include "hdf5/types.hpp"

#include <algorithm>
#include <string>

#include "cohort/base/error.hpp"

namespace cohort::hdf5 {
namespace {

/// A 16-bit float: sign, `exponent` bits, the rest mantissa.
Handle half_type(std::size_t exponent) {
  Handle type = own(H5Tcopy(H5T_IEEE_F32LE), H5Tclose, "HDF5 float type");
  const std::size_t mantissa = 15 - exponent;
  check(H5Tset_fields(type.get(), 15, mantissa, exponent, 0, mantissa), "HDF5 half-precision fields");
  check(H5Tset_size(type.get(), 2), "HDF5 half-precision size");
  check(H5Tset_ebias(type.get(), (std::size_t{1} << (exponent - 1)) - 1), "HDF5 half-precision exponent");
  return type;
}

/// h5py's and pandas' bool: an enumeration over one byte.
Handle boolean_type() {
  Handle type = own(H5Tenum_create(H5T_STD_I8LE), H5Tclose, "HDF5 bool type");
  const signed char no = 0, yes = 1;
  check(H5Tenum_insert(type.get(), "FALSE", &no), "HDF5 bool type");
  check(H5Tenum_insert(type.get(), "TRUE", &yes), "HDF5 bool type");
  return type;
}

hid_t standard_type(DType dtype) {
  switch (dtype) {
    case DType::float32: return H5T_IEEE_F32LE;
    case DType::float64: return H5T_IEEE_F64LE;
    case DType::int32: return H5T_STD_I32LE;
    case DType::int64: return H5T_STD_I64LE;
    default: return H5T_STD_U8LE;
  }
}

DType float_dtype(hid_t type, std::size_t size) {
  if (size == 8) return DType::float64;
  if (size == 4) return DType::float32;
  std::size_t sign = 0, exponent_at = 0, exponent = 0, mantissa_at = 0, mantissa = 0;
  check(H5Tget_fields(type, &sign, &exponent_at, &exponent, &mantissa_at, &mantissa), "HDF5 float fields");
  return exponent == 8 ? DType::bfloat16 : DType::float16;
}

}  // namespace

Handle type_of(DType dtype) {
  if (dtype == DType::float16) return half_type(5);
  if (dtype == DType::bfloat16) return half_type(8);
  if (dtype == DType::boolean) return boolean_type();
  return own(H5Tcopy(standard_type(dtype)), H5Tclose, "HDF5 type");
}

DType dtype_of_stored(hid_t type, std::string_view what) {
  const std::size_t size = H5Tget_size(type);
  switch (H5Tget_class(type)) {
    case H5T_FLOAT:
      if (size == 2 || size == 4 || size == 8) return float_dtype(type, size);
      break;
    case H5T_INTEGER: {
      const bool has_sign = H5Tget_sign(type) == H5T_SGN_2;
      if (size == 1 && !has_sign) return DType::uint8;
      if (size < 4 || (size == 4 && has_sign)) return DType::int32;
      if (size <= 8) return DType::int64;
      break;
    }
    case H5T_ENUM:
      if (size == 1) return DType::boolean;
      break;
    default: break;
  }
  fail(Code::data_loss, std::string(what) + ": holds elements that are neither numbers nor bool");
}

bool holds_all_of(hid_t outer, hid_t inner) {
  const auto numbers = [](hid_t type) {
    struct {
      bool whole, sign;
      std::size_t bits;                  // without the sign; of floats: of the mantissa, with the bit that is not stored
    } result{H5Tget_class(type) == H5T_INTEGER, true, H5Tget_precision(type)};
    if (result.whole) {
      result.sign = H5Tget_sign(type) == H5T_SGN_2;
      result.bits -= result.sign ? 1 : 0;
    } else {
      std::size_t sign = 0, exponent_at = 0, exponent = 0, mantissa_at = 0;
      check(H5Tget_fields(type, &sign, &exponent_at, &exponent, &mantissa_at, &result.bits), "HDF5 float fields");
      ++result.bits;
    }
    return result;
  };
  const auto out = numbers(outer), in = numbers(inner);
  if (out.whole) return in.whole && in.bits <= out.bits && (out.sign || !in.sign);
  return in.bits <= out.bits && (in.whole || H5Tget_size(inner) < H5Tget_size(outer) || in.bits == out.bits);
}

Handle text_type(std::size_t bytes) {
  Handle type = own(H5Tcopy(H5T_C_S1), H5Tclose, "HDF5 string type");
  check(H5Tset_size(type.get(), std::max<std::size_t>(bytes, 1)), "HDF5 string size");
  check(H5Tset_strpad(type.get(), H5T_STR_NULLPAD), "HDF5 string padding");
  check(H5Tset_cset(type.get(), H5T_CSET_UTF8), "HDF5 string character set");
  return type;
}

}  // namespace cohort::hdf5
