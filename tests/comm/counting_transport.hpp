#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <numeric>
#include <utility>
#include <vector>

#include "cohort/comm/communicator.hpp"

namespace cohort::testing {

/// Hands everything to another transport and counts the bytes that this rank sends, in itself and all its subgroups.
class CountingTransport : public Transport {
 public:
  CountingTransport(std::unique_ptr<Transport> below, std::shared_ptr<std::atomic<std::int64_t>> bytes)
      : below_(std::move(below)), bytes_(std::move(bytes)) {}

  int rank() const noexcept override { return below_->rank(); }
  int size() const noexcept override { return below_->size(); }
  bool thread_ranks() const noexcept override { return below_->thread_ranks(); }
  std::string why_one_thread() const override { return below_->why_one_thread(); }
  Request isend(int peer, int tag, const void* data, std::size_t bytes) override {
    *bytes_ += static_cast<std::int64_t>(bytes);
    return below_->isend(peer, tag, data, bytes);
  }
  Request irecv(int peer, int tag, void* data, std::size_t bytes) override { return below_->irecv(peer, tag, data, bytes); }
  bool test(Request& request) override { return below_->test(request); }
  void abandon(Request& request) noexcept override { below_->abandon(request); }
  void retire() noexcept override { below_->retire(); }
  std::unique_ptr<Transport> twin() override { return std::make_unique<CountingTransport>(below_->twin(), bytes_); }
  std::unique_ptr<Transport> subgroup(std::span<const int> members, int id) override {
    return std::make_unique<CountingTransport>(below_->subgroup(members, id), bytes_);
  }
  std::shared_ptr<SharedMemory> allocate_shared(std::size_t bytes, int id) override { return below_->allocate_shared(bytes, id); }
  LibraryCollectives* library() noexcept override { return below_->library(); }

 private:
  std::unique_ptr<Transport> below_;
  std::shared_ptr<std::atomic<std::int64_t>> bytes_;
};

/// Collective. The same ranks over a transport that counts into `bytes`.
inline Communicator counting(Communicator& c, const std::shared_ptr<std::atomic<std::int64_t>>& bytes) {
  constexpr int kId = 29'999;
  std::vector<int> all(static_cast<std::size_t>(c.size()));
  std::iota(all.begin(), all.end(), 0);
  Communicator result(std::make_unique<CountingTransport>(c.transport().subgroup(all, kId), bytes), c.context(), c.nodes(), c.cancel_flag());
  result.set_timeout(c.timeout());
  return result;
}

}  // namespace cohort::testing
