#include <string>

#include <oneapi/dnnl/dnnl.hpp>

#include "cohort/base/library.hpp"

namespace cohort {
namespace {

std::string version() {
  const dnnl::version_t* v = dnnl::version();
  return std::to_string(v->major) + "." + std::to_string(v->minor) + "." + std::to_string(v->patch);
}

const Registered<Library> library{"oneDNN", {"matrix products and convolutions", version}};

}  // namespace
}  // namespace cohort
