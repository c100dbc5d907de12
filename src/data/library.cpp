#include <png.h>
#include <zlib.h>

#include "cohort/base/library.hpp"

namespace cohort {
namespace {

const Registered<Library> library{"zlib", {"compressed data files", [] { return std::string(zlibVersion()); }}};
const Registered<Library> png{"libpng", {"PNG images", [] { return std::string(png_get_libpng_ver(nullptr)); }}};

}  // namespace
}  // namespace cohort
