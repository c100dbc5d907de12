#pragma once

#include <cstdint>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "checkpoint/checkpoint_file.hpp"
#include "cohort/params/state.hpp"

namespace cohort {

/// The copy of a state, in the memory of the copy before it.
class CheckpointSnapshot final : public StateWriter {
 public:
  struct Entry {
    std::string name;
    StateItem item;
  };
  struct Piece {
    std::string name;
    Shape whole;
    std::int64_t begin = 0;
    Tensor values;                     // one dimension
  };

  /// `all`: of what is not in pieces, too; else it is only asked for the pieces. `pieces`: there may be some.
  CheckpointSnapshot(bool all, bool pieces) : all_(all), pieces_allowed_(pieces) {}

  void take(std::span<Stateful* const> parts);
  [[nodiscard]] std::span<const Entry> entries() const noexcept { return entries_; }
  [[nodiscard]] std::span<const Piece> pieces() const noexcept { return pieces_; }
  /// Of the names and shapes of the pieces' tensors, in their order: the same on ranks that show the same state.
  [[nodiscard]] std::uint64_t pieces_hash() const;

  void tensor(const std::string& name, const Tensor& value) override;
  void piece(const std::string& name, const Shape& whole, std::int64_t begin, const Tensor& values) override;
  void value(const std::string& name, std::int64_t value) override;
  void value(const std::string& name, double value) override;
  void text(const std::string& name, const std::string& value) override;

 private:
  void take_name(const std::string& name);
  /// Null where it is not asked for.
  StateItem* place(const std::string& name);

  bool all_, pieces_allowed_;
  std::vector<Entry> entries_;
  std::vector<Piece> pieces_;
  std::size_t next_entry_ = 0, next_piece_ = 0;
  std::set<std::string> names_;
};

}  // namespace cohort
