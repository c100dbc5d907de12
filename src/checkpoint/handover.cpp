#include "checkpoint/handover.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <optional>

#include "checkpoint/redistribution.hpp"
#include "cohort/base/error.hpp"
#include "cohort/base/random.hpp"
#include "cohort/comm/control.hpp"

namespace cohort {
namespace {

enum class Kind : std::int64_t { end, whole, pieces };

/// What travels next; rank 0 says it.
struct Header {
  Kind kind = Kind::end;
  std::uint64_t name = 0;
  std::uint64_t bytes = 0;
};

std::span<const std::byte> bytes_of(const StateItem& item) {
  if (const auto* tensor = std::get_if<Tensor>(&item)) return {static_cast<const std::byte*>(tensor->raw()), tensor->bytes()};
  if (const auto* whole = std::get_if<std::int64_t>(&item)) return std::as_bytes(std::span(whole, 1));
  if (const auto* real = std::get_if<double>(&item)) return std::as_bytes(std::span(real, 1));
  return std::as_bytes(std::span(std::get<std::string>(item)));
}

/// Shows one item after the other to all ranks, in the order in which rank 0's new parts ask for them.
class StateMover final : public StateReader {
 public:
  StateMover(Communicator& world, const CheckpointSnapshot& held) : world_(world), held_(held) {}

  /// Rank 0: there is no more.
  void end() { broadcast_values(world_, std::span(&header_, 1), 0); }
  /// A rank without new parts: takes part until the end.
  void pass_on() {
    while (fetch_next().kind != Kind::end) {}
  }

  void tensor(const std::string& name, const Tensor& value) override {
    fetch(name);
    const Tensor loaded(host(), value.dtype(), value.shape());
    copy(name, {static_cast<std::byte*>(loaded.raw()), loaded.bytes()}, 0);
    value.copy_from(loaded);
  }
  void piece(const std::string& name, const Shape& whole, std::int64_t begin, const Tensor& values) override {
    fetch(name);
    check(data_.size() == static_cast<std::size_t>(whole.elements()) * sizeof(float), Code::internal, "handover: '" + name + "' has another size");
    copy(name, {static_cast<std::byte*>(values.raw()), values.bytes()}, static_cast<std::size_t>(begin) * sizeof(float));
  }
  void value(const std::string& name, std::int64_t& value) override {
    fetch(name);
    copy(name, std::as_writable_bytes(std::span(&value, 1)), 0);
  }
  void value(const std::string& name, double& value) override {
    fetch(name);
    copy(name, std::as_writable_bytes(std::span(&value, 1)), 0);
  }
  void text(const std::string& name, std::string& value) override {
    fetch(name);
    value.assign(reinterpret_cast<const char*>(data_.data()), data_.size());
  }

 private:
  void copy(const std::string& name, std::span<std::byte> to, std::size_t from) const {
    check(from + to.size() <= data_.size(), Code::internal, "handover: '" + name + "' has another size");
    std::ranges::copy(std::span(data_).subspan(from, to.size()), to.begin());
  }

  void fetch(const std::string& name) {
    const std::uint64_t hash = stream_of(name);
    if (world_.rank() == 0) header_ = announce(name, hash);
    const Header& header = fetch_next();
    check(header.kind != Kind::end && header.name == hash, Code::internal, "handover: the ranks are not at the same tensor, here is '" + name + "'");
    header_ = {};
  }

  [[nodiscard]] Header announce(const std::string& name, std::uint64_t hash) {
    for (const CheckpointSnapshot::Entry& entry : held_.entries()) {
      if (entry.name != name) continue;
      mine_ = bytes_of(entry.item);
      return {Kind::whole, hash, mine_.size()};
    }
    return {Kind::pieces, hash, 0};
  }

  const Header& fetch_next() {
    broadcast_values(world_, std::span(&header_, 1), 0);
    if (header_.kind == Kind::whole) {
      data_.resize(header_.bytes);
      if (world_.rank() == 0) std::ranges::copy(mine_, data_.begin());
      broadcast(world_, std::span(data_), 0);
    } else if (header_.kind == Kind::pieces) {
      join_pieces();
    }
    return header_;
  }

  void join_pieces() {
    std::string mine;
    for (const CheckpointSnapshot::Piece& piece : held_.pieces()) {
      if (stream_of(piece.name) != header_.name || piece.values.elements() == 0) continue;
      mine.resize(sizeof piece.begin + piece.values.bytes());
      std::memcpy(mine.data(), &piece.begin, sizeof piece.begin);
      std::memcpy(mine.data() + sizeof piece.begin, piece.values.raw(), piece.values.bytes());
    }
    const std::vector<std::string> all = all_gather(world_, mine);
    std::size_t total = 0;
    for (const std::string& one : all) total += one.empty() ? 0 : one.size() - sizeof(std::int64_t);
    data_.resize(total);
    for (const std::string& one : all) {
      if (one.empty()) continue;
      std::int64_t begin = 0;
      std::memcpy(&begin, one.data(), sizeof begin);
      const std::size_t at = static_cast<std::size_t>(begin) * sizeof(float), bytes = one.size() - sizeof begin;
      check(at + bytes <= total, Code::internal, "handover: the ranks' pieces of a tensor do not fit together");
      std::memcpy(data_.data() + at, one.data() + sizeof begin, bytes);
    }
  }

  Communicator& world_;
  const CheckpointSnapshot& held_;
  Header header_;
  std::span<const std::byte> mine_;
  std::vector<std::byte> data_;
};

}  // namespace

void Handover::take(std::span<Stateful* const> parts, ResidualKeeper& exchange) {
  state_.take(parts);
  if (!exchange.keeps_residuals()) return;
  Stateful* const part = &exchange;
  residuals_.take(std::span(&part, 1));
  residual_layout_ = exchange.residual_layout();
}

void Handover::give(Communicator& world, std::span<Stateful* const> parts) {
  StateMover mover(world, state_);
  if (parts.empty()) return mover.pass_on();
  for (Stateful* part : parts) part->load(mover);
  if (world.rank() == 0) mover.end();
  else mover.pass_on();
}

void Handover::give_residuals(Communicator& world, int before, int after, ResidualKeeper* exchange) {
  const int me = world.rank();
  std::array<std::int64_t, 2> kept{std::ssize(residuals_.entries()), exchange != nullptr && exchange->keeps_residuals() ? 1 : 0};
  broadcast_values(world, std::span<std::int64_t>(kept), 0);
  if (kept[0] == 0) return;
  if (kept[1] == 0) {
    if (me == 0) world.context().log.warning("the next phase does without error feedback: residuals of the last one are lost");
    return;
  }
  Redistribution residuals(before, after);
  const auto mine = [&](std::size_t i) { return std::get<Tensor>(residuals_.entries()[i].item).to_vector<float>(); };
  for (std::size_t i = 0; i < static_cast<std::size_t>(kept[0]); ++i) {
    if (me < before && me < after) residuals.add(i, mine(i));
    for (int rank = after; rank < before; ++rank) {       // trains no more
      std::uint64_t size = me == rank ? mine(i).size() : 0;
      broadcast_values(world, std::span(&size, 1), rank);
      std::vector<float> theirs = me == rank ? mine(i) : std::vector<float>(size);
      broadcast_values(world, std::span(theirs), rank);
      if (me == residuals.heir(rank)) residuals.add(i, theirs);
    }
  }
  (void)residuals.finish(world, exchange, me < before ? std::optional(residual_layout_) : std::nullopt);
}

}  // namespace cohort
