#pragma once

#include <string>
#include <vector>

#include "hdf5/handle.hpp"

namespace cohort::hdf5 {

/// Looks whether all is there that a data set shows but does not hold itself: the sources of a virtual data set, those of
/// its sources, and raw files of external storage. HDF5 reads zeros where something of that is missing or too short.
/// Returns the files it has found, in the places where HDF5 looks for them. Errors that name the file: not_found,
/// data_loss. `path`: of the data set's own file; `where`: for messages.
std::vector<std::string> require_sources(hid_t dataset, const std::string& path, const std::string& where);

}  // namespace cohort::hdf5
