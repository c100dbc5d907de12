#include "cohort/comm/transport.hpp"

#include <utility>

#include "cohort/base/error.hpp"

namespace cohort {

std::unique_ptr<Transport> Transport::spawn(const std::string&, const std::vector<std::string>&) {
  fail(Code::failed_precondition, "these ranks cannot start another process: they are threads of one");
}

Transfer::Transfer(Transfer&& other) noexcept
    : transport_(other.transport_), request_(std::exchange(other.request_, Request{})), peer_(other.peer_) {}

Transfer& Transfer::operator=(Transfer&& other) noexcept {
  if (this == &other) return *this;
  abandon();
  transport_ = other.transport_;
  request_ = std::exchange(other.request_, Request{});
  peer_ = other.peer_;
  return *this;
}

void Transfer::send(int peer, int tag, const void* data, std::size_t bytes) {
  peer_ = peer;
  request_ = transport_->isend(peer, tag, data, bytes);
}

void Transfer::receive(int peer, int tag, void* data, std::size_t bytes) {
  peer_ = peer;
  request_ = transport_->irecv(peer, tag, data, bytes);
}

void Transfer::abandon() noexcept {
  if (request_.active()) transport_->abandon(request_);
}

}  // namespace cohort
