// Preloaded into a process that MPI_Comm_spawn has started, it lets that begin late, by COHORT_LATE seconds, or ends it in the midst of
// its MPI_Init, after COHORT_DIES_AFTER (0, 1, …) of the answers that it and its parents give each other once they are connected.
#include <dlfcn.h>
#include <unistd.h>

#include <csignal>
#include <cstddef>
#include <cstdlib>

namespace {

int answers = -1;                            // none before they are connected

/// Null in processes that nobody is to have this from.
const char* setting(const char* name) { return std::getenv("OMPI_PARENT_PORT") == nullptr ? nullptr : std::getenv(name); }

[[gnu::constructor]] void begin_late() {
  const char* seconds = setting("COHORT_LATE");
  if (seconds != nullptr) usleep(static_cast<useconds_t>(1e6 * std::atof(seconds)));
}

void end_if_due() {
  const char* due = setting("COHORT_DIES_AFTER");
  if (due == nullptr || answers < std::atoi(due)) return;
  usleep(100000);                            // the parents wait by now
  std::raise(SIGKILL);
}

/// Of the PMIx library, which the library that calls from `address` was linked to.
template <typename Function>
Function real(const char* name, const void* address) {
  Dl_info info{};
  if (dladdr(address, &info) == 0) std::abort();
  return reinterpret_cast<Function>(dlsym(dlopen(info.dli_fname, RTLD_LAZY | RTLD_NOLOAD), name));
}

}  // namespace

extern "C" {
int PMIx_Connect(const void* processes, std::size_t count, const void* directives, std::size_t directive_count);
int PMIx_Publish(const void* data, std::size_t count);
}

int PMIx_Connect(const void* processes, std::size_t count, const void* directives, std::size_t directive_count) {
  using Function = int (*)(const void*, std::size_t, const void*, std::size_t);
  const int code = real<Function>("PMIx_Connect", __builtin_return_address(0))(processes, count, directives, directive_count);
  answers = 0;
  return code;
}

/// An answer.
int PMIx_Publish(const void* data, std::size_t count) {
  if (answers >= 0) {
    end_if_due();
    ++answers;
  }
  return real<int (*)(const void*, std::size_t)>("PMIx_Publish", __builtin_return_address(0))(data, count);
}
