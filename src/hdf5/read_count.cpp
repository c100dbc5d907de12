#include "hdf5/read_count.hpp"

namespace cohort::hdf5 {
namespace {

thread_local ReadCount* counting = nullptr;

}  // namespace

ReadCount::ReadCount() { counting = this; }
ReadCount::~ReadCount() { counting = nullptr; }

void ReadCount::add_open(const std::string& path) {
  if (counting != nullptr) ++counting->opened_[path];
}

void ReadCount::add_bytes(std::uint64_t bytes) noexcept {
  if (counting != nullptr) counting->bytes_ += bytes;
}

}  // namespace cohort::hdf5
