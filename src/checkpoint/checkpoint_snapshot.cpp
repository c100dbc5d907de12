#include "checkpoint/checkpoint_snapshot.hpp"

#include "cohort/base/error.hpp"
#include "cohort/base/random.hpp"

namespace cohort {
namespace {

void copy(Tensor& held, const Tensor& value) {
  if (held.empty() || held.shape() != value.shape() || held.dtype() != value.dtype()) {
    held = Tensor(host(), value.dtype(), value.shape());
  }
  held.copy_from(value);
}

}  // namespace

void CheckpointSnapshot::take(std::span<Stateful* const> parts) {
  next_entry_ = next_piece_ = 0;
  names_.clear();
  for (const Stateful* part : parts) part->save(*this);
  entries_.resize(next_entry_);
  pieces_.resize(next_piece_);
}

std::uint64_t CheckpointSnapshot::pieces_hash() const {
  std::string all;
  for (const Piece& piece : pieces_) all += piece.name + " " + piece.whole.text() + "\n";
  return stream_of(all);
}

void CheckpointSnapshot::take_name(const std::string& name) {
  check(!name.empty() && "/" + name != kConfiguration, Code::internal, "checkpoint: state may not be named '" + name + "'");
  check(names_.insert(name).second, Code::internal, "checkpoint: '" + name + "' is there twice");
}

StateItem* CheckpointSnapshot::place(const std::string& name) {
  take_name(name);
  if (!all_) return nullptr;
  if (next_entry_ == entries_.size()) entries_.emplace_back();
  Entry& entry = entries_[next_entry_++];
  entry.name = name;
  return &entry.item;
}

void CheckpointSnapshot::tensor(const std::string& name, const Tensor& value) {
  check(!value.empty() && value.layout() == Layout::plain, Code::internal, "checkpoint: '" + name + "' is no plain tensor");
  StateItem* const item = place(name);
  if (item == nullptr) return;
  if (!std::holds_alternative<Tensor>(*item)) item->emplace<Tensor>();
  copy(std::get<Tensor>(*item), value);
}

void CheckpointSnapshot::piece(const std::string& name, const Shape& whole, std::int64_t begin, const Tensor& values) {
  check(pieces_allowed_, Code::internal, "checkpoint: '" + name + "' is in pieces, which takes a writer that all ranks share");
  check(!values.empty() && values.dense() && values.dtype() == DType::float32 && values.shape().rank() == 1 && begin >= 0 &&
            begin + values.elements() <= whole.elements(),
        Code::internal, "checkpoint: what is shown as a piece of '" + name + "' is none");
  take_name(name);
  if (next_piece_ == pieces_.size()) pieces_.emplace_back();
  Piece& piece = pieces_[next_piece_++];
  piece.name = name;
  piece.whole = whole;
  piece.begin = begin;
  copy(piece.values, values);
}

void CheckpointSnapshot::value(const std::string& name, std::int64_t value) {
  if (StateItem* const item = place(name)) *item = value;
}

void CheckpointSnapshot::value(const std::string& name, double value) {
  if (StateItem* const item = place(name)) *item = value;
}

void CheckpointSnapshot::text(const std::string& name, const std::string& value) {
  check(value.find('\0') == std::string::npos, Code::internal, "checkpoint: text '" + name + "' holds a zero byte");
  if (StateItem* const item = place(name)) *item = value;
}

}  // namespace cohort
