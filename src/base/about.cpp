#include "base/about.hpp"

#include <fmt/core.h>
#include <sys/resource.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <new>
#include <stdexcept>
#include <system_error>

#include "cohort/base/error.hpp"

namespace cohort {
namespace {

std::string size_text(double bytes) { return fmt::format("{:.1f} GiB", bytes / (1 << 30)); }

std::string no_memory_text() {
  const auto page = static_cast<double>(sysconf(_SC_PAGESIZE));
  double pages = 0;
  std::ifstream("/proc/self/statm") >> pages;       // all that the process has asked for, whether it is used or not
  std::string text = "out of memory";
  if (pages > 0) text += ": this process has asked for " + size_text(pages * page) + " by now";
  text += ", the machine has " + size_text(static_cast<double>(sysconf(_SC_PHYS_PAGES)) * page);
  rlimit limit{};
  const bool limited = getrlimit(RLIMIT_AS, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY;
  return text + (limited ? ", its own limit (ulimit -v) is " + size_text(static_cast<double>(limit.rlim_cur)) : "");
}

std::string system_text(const std::error_code& code) {
  const std::string text = code.message();
  if (code == std::errc::resource_unavailable_try_again) {
    return "the system starts no further thread (" + text + "): the limit of the user (ulimit -u), of the container or of the batch job is reached";
  }
  if (code == std::errc::too_many_files_open || code == std::errc::too_many_files_open_in_system) {
    return "no further file or connection can be opened (" + text + "): see ulimit -n";
  }
  return text;
}

}  // namespace

std::string plain_text(const std::exception& exception) {
  if (dynamic_cast<const std::bad_alloc*>(&exception) != nullptr) return no_memory_text();
  if (const auto* file = dynamic_cast<const std::filesystem::filesystem_error*>(&exception)) {
    return file->path1().empty() ? file->what() : file->path1().string() + ": " + system_text(file->code());
  }
  if (const auto* system = dynamic_cast<const std::system_error*>(&exception)) return system_text(system->code());
  return exception.what();
}

void rethrow_about(const std::string& what) {
  try {
    throw;
  } catch (const Error& error) {
    throw Error(error.code(), what + ": " + error.what(), error.where());
  } catch (const std::length_error&) {     // of a list that no memory could hold
    fail(Code::failed_precondition, what + ": " + no_memory_text());
  } catch (const std::exception& error) {
    fail(Code::failed_precondition, what + ": " + plain_text(error));
  }
}

}  // namespace cohort
