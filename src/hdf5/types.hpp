#pragma once

#include "cohort/tensor/dtype.hpp"
#include "hdf5/handle.hpp"

namespace cohort::hdf5 {

/// The type in a file (little-endian) and in memory, one and the same on the machines this runs on.
[[nodiscard]] Handle type_of(DType dtype);

/// The smallest DType that holds every value of a stored type; Error data_loss "`what`: …" if there is none.
[[nodiscard]] DType dtype_of_stored(hid_t type, std::string_view what);

/// Is every value of the number type `inner` one of `outer` as well? (Of floats: NaN and infinity, too.)
[[nodiscard]] bool holds_all_of(hid_t outer, hid_t inner);

/// UTF-8, `bytes` long (at least 1).
[[nodiscard]] Handle text_type(std::size_t bytes);

}  // namespace cohort::hdf5
