#include "hdf5/handle.hpp"

#include <algorithm>
#include <string>

#include "cohort/base/error.hpp"

namespace cohort::hdf5 {
namespace {

/// One line, without what helps nobody: the time, addresses in memory and descriptors.
std::string plain(std::string_view text) {
  std::string result;
  while (!text.empty()) {
    const std::size_t end = std::min(text.find(", "), text.size());
    std::string part(text.substr(0, end));
    text.remove_prefix(std::min(end + 2, text.size()));
    std::ranges::replace(part, '\n', ' ');
    if (part.find("= 0x") != std::string::npos || part.starts_with("file descriptor =")) continue;
    if (const std::size_t time = part.find("time = "); time != std::string::npos) part.erase(time);
    if (part.empty()) continue;
    result += (result.empty() || result.ends_with(": ") ? "" : ", ") + part;
  }
  return result;
}

herr_t collect(unsigned position, const H5E_error2_t* entry, void* text) {
  if (position > 1 || entry->desc == nullptr) return 0;   // the two innermost say it all
  auto& all = *static_cast<std::string*>(text);
  all += (all.empty() ? "" : "; ") + plain(entry->desc);
  return 0;
}

[[noreturn]] void refuse(std::string_view what, std::source_location where) {
  const std::string why = reason();
  fail(Code::data_loss, std::string(what) + (why.empty() ? "" : ": " + why), where);
}

}  // namespace

void quiet() {
  // A file that could not be closed, as when its disk fails, stays open for the library, whose exit handler tries again and
  // crashes over it. Files are closed here by whoever opened them, so nothing is left to be done at the end.
  static const bool leaves_exit_alone = H5dont_atexit() >= 0;
  static_cast<void>(leaves_exit_alone);
  thread_local const bool done = H5Eset_auto2(H5E_DEFAULT, nullptr, nullptr) >= 0;
  static_cast<void>(done);
}

std::string reason() {
  std::string text;
  H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, collect, &text);
  return text;
}

hid_t check(hid_t id, std::string_view what, std::source_location where) {
  if (id < 0) refuse(what, where);
  return id;
}

herr_t check(herr_t status, std::string_view what, std::source_location where) {
  if (status < 0) refuse(what, where);
  return status;
}

}  // namespace cohort::hdf5
