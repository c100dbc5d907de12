#include "comm/progress_gate.hpp"

#include <dlfcn.h>

#include <chrono>
#include <cstddef>
#include <thread>

namespace cohort {
namespace {

thread_local ProgressGate::Spawning* current = nullptr;

}  // namespace

ProgressGate& ProgressGate::of_process() noexcept {
  static ProgressGate gate;
  return gate;
}

ProgressGate::Spawning* ProgressGate::spawning() noexcept { return current; }

ProgressGate::Spawning::Spawning(ProgressGate& gate) noexcept : gate_(gate) {
  gate_.used_.store(true, std::memory_order_release);   // long before the new process can be there
  current = this;
}

ProgressGate::Spawning::~Spawning() {
  current = nullptr;
  if (counted_) gate_.waits_.fetch_sub(1, std::memory_order_acq_rel);
  if (closed_) gate_.mutex_.unlock();
  if (connected_) gate_.turn_.unlock();
}

void ProgressGate::Spawning::begin_wait() noexcept {
  if (!counted_ && connected_) gate_.waits_.fetch_add(1, std::memory_order_acq_rel);
  counted_ = connected_;
  if (closed_) gate_.mutex_.unlock();
  closed_ = false;
}

void ProgressGate::Spawning::end_wait() noexcept {
  gate_.wanted_.fetch_add(1, std::memory_order_acq_rel);
  gate_.mutex_.lock();                       // returns when nobody else is in the progress loop
  gate_.wanted_.fetch_sub(1, std::memory_order_acq_rel);
  closed_ = true;
  if (counted_) gate_.waits_.fetch_sub(1, std::memory_order_acq_rel);
  counted_ = false;
}

void ProgressGate::Spawning::connected() noexcept {
  if (connected_) return;
  gate_.turn_.lock();
  connected_ = true;
}

namespace {

/// The function of that name in the PMIx library that the caller, which is `address` in Open MPI, was linked to.
template <typename Function>
Function function_of_pmix(const char* name, const void* address) noexcept {
  Dl_info info{};
  if (dladdr(address, &info) == 0 || info.dli_fname == nullptr) return nullptr;
  void* caller = dlopen(info.dli_fname, RTLD_LAZY | RTLD_NOLOAD);
  if (caller == nullptr) return nullptr;
  return reinterpret_cast<Function>(dlsym(caller, name));   // of the caller and what it needs, thus not the one here
}

/// A call of PMIx, which waits for mpirun or for another process.
template <typename Call>
int waiting(const Call& call) {
  ProgressGate::Spawning* spawning = ProgressGate::spawning();
  if (spawning == nullptr) return call(false);
  spawning->begin_wait();
  const int code = call(spawning->is_connected());
  spawning->end_wait();
  return code;
}

constexpr int kNotSupported = -47;           // PMIX_ERR_NOT_SUPPORTED

[[noreturn]] void rest_for_ever() noexcept {
  while (true) std::this_thread::sleep_for(std::chrono::hours(1));
}

}  // namespace
}  // namespace cohort

// As the PMIx standard has them since version 2, whose structures nobody looks into here.
extern "C" {
int PMIx_Lookup(void* data, std::size_t count, const void* directives, std::size_t directive_count);
int PMIx_Publish(const void* data, std::size_t count);
int PMIx_Connect(const void* processes, std::size_t count, const void* directives, std::size_t directive_count);
}

int PMIx_Lookup(void* data, std::size_t count, const void* directives, std::size_t directive_count) {
  static const auto real = cohort::function_of_pmix<decltype(&PMIx_Lookup)>("PMIx_Lookup", __builtin_return_address(0));
  if (real == nullptr) return cohort::kNotSupported;
  return cohort::waiting([&](bool connected) {
    const int code = real(data, count, directives, directive_count);
    // It gives up after minutes. Open MPI would not notice in a callback, and go on with numbers that are none.
    if (code != 0 && connected) cohort::rest_for_ever();
    return code;
  });
}

int PMIx_Publish(const void* data, std::size_t count) {
  static const auto real = cohort::function_of_pmix<decltype(&PMIx_Publish)>("PMIx_Publish", __builtin_return_address(0));
  if (real == nullptr) return cohort::kNotSupported;
  return cohort::waiting([&](bool) { return real(data, count); });
}

int PMIx_Connect(const void* processes, std::size_t count, const void* directives, std::size_t directive_count) {
  static const auto real = cohort::function_of_pmix<decltype(&PMIx_Connect)>("PMIx_Connect", __builtin_return_address(0));
  if (real == nullptr) return cohort::kNotSupported;
  return cohort::waiting([&](bool) {
    const int code = real(processes, count, directives, directive_count);
    if (cohort::ProgressGate::Spawning* const spawning = cohort::ProgressGate::spawning(); spawning != nullptr && code == 0) spawning->connected();
    return code;
  });
}
