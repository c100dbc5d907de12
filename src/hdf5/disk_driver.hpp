#pragma once

#include <memory>

#include "base/disk_file.hpp"
#include "hdf5/handle.hpp"

namespace cohort::hdf5 {

/// Makes HDF5 write to `file` alone: for H5Fcreate, with the file's path, and the access properties `access`.
///
/// HDF5 keeps small data in memory until a data set or the file is closed, and when a write fails then it neither says so to
/// everybody nor lets go of the file: it tries again when the process ends, and may crash or turn for ever. So to HDF5 every
/// write succeeds, and `file` keeps the error, for whoever wants to say that a file is complete.
void write_to(hid_t access, const std::shared_ptr<DiskFile>& file);

}  // namespace cohort::hdf5
