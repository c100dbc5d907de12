#pragma once

#include <functional>
#include <string>

#include "cohort/base/registry.hpp"

namespace cohort {

/// A library that this build stands on. The layer that owns its headers enters it, so that programs can name its version
/// without them: `const Registered<Library> hdf5{"HDF5", {"checkpoints", version}};`
struct Library {
  std::string purpose;
  std::function<std::string()> version;   ///< of what is loaded now, not of the headers, where the library can tell
};
template <>
inline constexpr std::string_view kKindOf<Library> = "library";

}  // namespace cohort
