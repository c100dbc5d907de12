#pragma once

#include <cstdint>
#include <string>

#include "cohort/tensor/dtype.hpp"
#include "cohort/tensor/shape.hpp"
#include "hdf5/handle.hpp"

namespace cohort::hdf5 {

/// Memory for elements of a data set: rows of `columns`, `ld` elements apart, of which `space` is the selection.
struct Destination {
  void* out;
  DType dtype;
  std::int64_t elements, columns, ld;
  hid_t space;
};

/// Reads the elements of a data set of `shape` that `space` selects: those from `begin` on, in row-major order. What the
/// type asked for cannot hold is Error data_loss, naming the element, where HDF5 itself would cut it off: a number beyond
/// its range, and for whole numbers also a fraction, NaN and infinity. Floats are rounded, and keep NaN and infinity. Any
/// thread.
void read_elements(hid_t dataset, hid_t space, const Destination& to, const Shape& shape, std::int64_t begin,
                   const std::string& where);

}  // namespace cohort::hdf5
