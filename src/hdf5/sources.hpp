#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "hdf5/handle.hpp"

namespace cohort::hdf5 {

/// Where the elements of a data set lie.
struct Sources {
  std::vector<std::string> files;      ///< others than its own, in the places where HDF5 looks for them; sorted
  std::uint64_t stored_bytes = 0;      ///< of elements, in all files together: compressed, where they are
};

/// Looks whether all is there that a data set shows: its own elements, the sources of a virtual data set, those of its
/// sources, and raw files of external storage. HDF5 reads zeros where something of that is missing, too short, or was never
/// written. What was not written is let pass where the data set names the value that stands for it (its fill value).
/// Errors that name the file: not_found, data_loss. `path`: of the data set's own file; `where`: for messages.
Sources require_sources(hid_t dataset, const std::string& path, const std::string& where);

}  // namespace cohort::hdf5
