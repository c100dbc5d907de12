#include "cohort/base/error.hpp"

namespace cohort {

std::string_view name(Code code) noexcept {
  switch (code) {
    case Code::invalid_argument: return "invalid_argument";
    case Code::not_found: return "not_found";
    case Code::failed_precondition: return "failed_precondition";
    case Code::out_of_range: return "out_of_range";
    case Code::cancelled: return "cancelled";
    case Code::deadline_exceeded: return "deadline_exceeded";
    case Code::data_loss: return "data_loss";
    case Code::unavailable: return "unavailable";
    case Code::internal: return "internal";
  }
  return "unknown";
}

std::string location_text(const std::source_location& where) {
  std::string_view path = where.file_name();
  for (std::string_view top : {"/src/", "/include/", "/optimizers/", "/collectives/", "/jobs/", "/tests/"}) {
    if (const auto at = path.rfind(top); at != std::string_view::npos) {
      path.remove_prefix(at + 1);
      break;
    }
  }
  return std::string(path) + ":" + std::to_string(where.line());
}

void fail(Code code, const std::string& what, std::source_location where) { throw Error(code, what, where); }

}  // namespace cohort
