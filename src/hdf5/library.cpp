#include <hdf5.h>

#include <string>

#include "cohort/base/library.hpp"

namespace cohort {
namespace {

std::string version() {
  unsigned major = 0, minor = 0, release = 0;
  H5get_libversion(&major, &minor, &release);
  hbool_t threads = false;
  H5is_library_threadsafe(&threads);
  return std::to_string(major) + "." + std::to_string(minor) + "." + std::to_string(release) +
         (threads ? ", thread-safe" : ", not thread-safe");
}

const Registered<Library> library{"HDF5", {"checkpoints and data sets", version}};

}  // namespace
}  // namespace cohort
