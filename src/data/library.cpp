#include <zlib.h>

#include "cohort/base/library.hpp"

namespace cohort {
namespace {

const Registered<Library> library{"zlib", {"compressed data files", [] { return std::string(zlibVersion()); }}};

}  // namespace
}  // namespace cohort
