#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "cohort/comm/collective.hpp"
#include "cohort/exec/session.hpp"
#include "cohort/params/optimizer.hpp"
#include "cohort/params/shard.hpp"
#include "cohort/params/state.hpp"

namespace cohort {

/// One trained variable and its place in the flat index space.
struct Parameter {
  std::string name;
  Value variable;
  Shape shape;
  std::int64_t ld = 0;                 ///< of its rows; padding between them is zero for ever
  std::int64_t offset = 0;             ///< of its first element; a multiple of kUnit
  std::int64_t n = 0;                  ///< elements of the flat space, padding included
  ParameterGroup group;
};

/// All variables of a model. The trained ones lie in one flat index space, shared by values, slots and gradients, last
/// defined first: the order in which a backward pass finishes them. What aligns them and pads the rows of matrices is zero
/// for ever. Small ones, if told apart, lie behind all others. Values and slots live in this object's memory on the session's device, and the session works in it.
class Parameters final : public Stateful {
 public:
  /// Elements of the flat space that are never cut: by the alignment of parameters, by blocks of the exchange, by sums.
  static constexpr std::int64_t kUnit = kBlockUnit;

  /// The group of each trainable variable, by name and shape.
  using Grouping = std::function<std::vector<ParameterGroup>(std::span<const std::string> names, std::span<const Shape> shapes)>;

  /// Lays out the variables that the session's graph has by now. `place` must come before anything else is asked for but the
  /// layout.
  Parameters(Session& session, std::span<const std::string_view> slots, const Grouping& grouping,
             const std::function<bool(const Shape&)>& is_small = {});

  /// Where values and slots lie: zeroed memory from `allocate`, or the session's device if that is empty. `mine`: this rank
  /// writes start values there; else another rank that shares the memory does, and the same bits reach this one.
  struct Memory {
    std::function<Buffer(std::size_t bytes)> allocate{};
    bool mine = true;
  };
  /// Whole: all values and slots are here. The variables keep their initial values, slots start at zero. Collective where the
  /// memory is shared: a barrier must come before the first use.
  void place(Session& session, Memory memory);

  /// Values are here whole, slots for `shard` alone.
  void place(Session& session, Memory values, Shard shard);
  /// Values and slots are here for `shard` alone. The session reads parameter p where `window(p)` says, and whoever made the
  /// window fills it in time.
  void place_window(Session& session, Shard shard, const std::function<Tensor(std::size_t)>& window);

  /// Values are here whole, and no slots: somebody else updates them.
  void place_values_alone(Session& session);
  /// Values and slots are here for `shard` alone, in host memory, where no session reads them: this rank serves others. Statistics
  /// and frozen parameters are copies as well.
  void keep(Session& session, Shard shard);

  /// After `keep`: the values go on in other memory; what is returned holds the old ones, for somebody who still reads them.
  [[nodiscard]] Tensor move_values();

  [[nodiscard]] std::span<const Parameter> trained() const noexcept { return trained_; }
  [[nodiscard]] std::size_t first_small() const noexcept { return first_small_; }       ///< of `trained()`; its size if none
  [[nodiscard]] std::int64_t flat_size() const noexcept { return flat_size_; }
  [[nodiscard]] std::int64_t elements() const noexcept { return elements_; }           ///< without padding
  /// Of the element `offset`, and what follows it in the shard where values or slots are here in parts.
  [[nodiscard]] float* values(std::int64_t offset = 0) const { return values_.data<float>() + (windowed_ ? shard_->position(offset) : offset); }
  [[nodiscard]] float* slot(std::size_t s, std::int64_t offset = 0) const { return slots_[s].data<float>() + (shard_ ? shard_->position(offset) : offset); }
  [[nodiscard]] std::size_t slots() const noexcept { return slot_names_.size(); }
  /// Where the session reads the parameter.
  [[nodiscard]] Tensor value(std::size_t parameter) const { return windowed_ ? windows_[parameter] : view(values_, trained_[parameter]); }
  [[nodiscard]] std::int64_t value_bytes() const noexcept { return static_cast<std::int64_t>(values_.bytes()); }   ///< of trained ones, here
  [[nodiscard]] std::int64_t slot_bytes() const noexcept {
    return slots_.empty() ? 0 : static_cast<std::int64_t>(slots_.front().bytes() * slots_.size());
  }
  [[nodiscard]] const Shard* shard() const noexcept { return shard_ ? &*shard_ : nullptr; }   ///< null: all is here
  [[nodiscard]] bool windowed() const noexcept { return windowed_; }                       ///< values are here in parts

  /// Variables that no gradient changes: running statistics, and frozen parameters.
  struct Other {
    std::string name;
    Tensor value;
    bool statistic = false;
  };
  [[nodiscard]] std::span<const Other> others() const noexcept { return others_; }

  /// Everything whose start must be the same on all ranks, one tensor after the other. `mine`: this rank is to write it.
  void for_each_start_value(const std::function<void(const Tensor&, bool mine)>& visit) const;

  /// In parts: the shard's pieces of values and slots.
  void save(StateWriter& writer) const override;
  /// Where another rank writes the shared memory, a reader gets zeroed memory of this rank's instead, which is let go of.
  void load(StateReader& reader) override;

  /// Those that no gradient changes, alone.
  void load_others(StateReader& reader) const;

  [[nodiscard]] bool shared() const noexcept { return bool(memory_.allocate); }   ///< with the ranks of this machine

 private:
  void place_values(Session& session);
  void place_slots(Device& device, Shard shard);
  void set_piece(const Parameter& parameter, const Tensor& whole);
  class Piece;
  [[nodiscard]] bool in_pieces() const noexcept { return shard_ && !shard_->alone(); }
  template <class Flat, class Whole>
  void for_each_state(Flat flat, Whole whole) const;
  [[nodiscard]] Tensor zeroed(Device& device, std::int64_t n) const;
  [[nodiscard]] Tensor view(const Tensor& flat, const Parameter& parameter) const;

  Memory memory_;
  std::vector<Parameter> trained_;
  std::vector<Other> others_;
  std::vector<std::string> slot_names_;
  std::int64_t flat_size_ = 0, elements_ = 0;
  std::size_t first_small_ = 0;
  std::optional<Shard> shard_;
  bool windowed_ = false;
  std::vector<Tensor> windows_;        // by parameter, where values are here in parts
  Tensor values_;
  std::vector<Tensor> slots_;
};

}  // namespace cohort
