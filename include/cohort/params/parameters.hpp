#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "cohort/exec/session.hpp"
#include "cohort/params/flat_array.hpp"
#include "cohort/params/parameter_layout.hpp"
#include "cohort/params/state.hpp"

namespace cohort {

/// All variables of a model. Values and slots of the trained ones live in this object's memory on the session's device, where a
/// ParameterLayout says, and the session works in it.
class Parameters final : public Stateful {
 public:
  /// `layout`: of the session's graph. `slots`: names of what an optimizer keeps for each value. A `place` must come before
  /// anything else is asked for but layout and others.
  Parameters(Session& session, ParameterLayout layout, std::span<const std::string_view> slots);

  /// Whole: all values and slots are here. The variables keep their initial values, slots start at zero. Collective where the
  /// memory is shared: a barrier must come before the first use.
  void place(Session& session, const FlatArray::Memory& memory);

  /// Values are here whole, slots for `shard` alone.
  void place(Session& session, const FlatArray::Memory& values, Shard shard);
  /// Values and slots are here for `shard` alone. The session reads parameter p where `window(p)` says, and whoever made the
  /// window fills it in time.
  void place_window(Session& session, Shard shard, const std::function<Tensor(std::size_t)>& window);

  /// Values are here whole, and no slots: somebody else updates them.
  void place_values_alone(Session& session);
  /// Values and slots are here for `shard` alone, in host memory, where no session reads them: this rank serves others. Statistics
  /// and frozen parameters are copies as well.
  void keep(Session& session, Shard shard);

  /// After `keep`: the values go on in other memory; what is returned holds the old ones, for somebody who still reads them.
  [[nodiscard]] Tensor move_values() { return values_.move_to_new_memory(); }

  [[nodiscard]] const ParameterLayout& layout() const noexcept { return layout_; }
  [[nodiscard]] const FlatArray& values() const noexcept { return values_; }
  /// Where the session reads the parameter.
  [[nodiscard]] Tensor value(std::size_t parameter) const;

  /// What an optimizer keeps for each value.
  struct Slot {
    std::string name;
    FlatArray values{};
  };
  [[nodiscard]] std::span<const Slot> slots() const noexcept { return slots_; }
  [[nodiscard]] std::int64_t slot_bytes() const noexcept;
  [[nodiscard]] const Shard* shard() const noexcept { return shard_ ? &*shard_ : nullptr; }   ///< null: all is here

  /// Variables that no gradient changes: running statistics, and frozen parameters.
  struct Other {
    std::string name;
    Tensor value;
    bool statistic = false;
    [[nodiscard]] std::string state_name() const { return (statistic ? "statistics/" : "parameters/") + name; }    ///< in a checkpoint
  };
  [[nodiscard]] std::span<const Other> others() const noexcept { return others_; }

  /// Everything whose start must be the same on all ranks, one tensor after the other. `mine`: this rank is to write it.
  void for_each_start_value(const std::function<void(const Tensor&, bool mine)>& visit) const;

  /// In parts: the shard's pieces of values and slots.
  void save(StateWriter& writer) const override;
  /// Where another rank writes the shared memory, a reader gets zeroed memory of this rank's instead, which is let go of.
  void load(StateReader& reader) override;

 private:
  void place_values(Session& session, const FlatArray::Memory& memory);
  void place_slots(Device& device, Shard shard);

  ParameterLayout layout_;
  std::vector<Other> others_;
  std::optional<Shard> shard_;
  std::vector<Tensor> windows_;        // by parameter, where values are here in parts
  FlatArray values_;
  std::vector<Slot> slots_;
};

}  // namespace cohort
