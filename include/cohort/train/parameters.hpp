#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "cohort/comm/collective.hpp"
#include "cohort/exec/session.hpp"
#include "cohort/train/optimizer.hpp"
#include "cohort/train/state.hpp"

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
/// for ever. Values and slots live in this object's memory on the session's device, and the session works in it.
class Parameters final : public Stateful {
 public:
  /// Elements of the flat space that are never cut: by the alignment of parameters, by blocks of the exchange, by sums.
  static constexpr std::int64_t kUnit = kBlockUnit;

  /// The group of each trainable variable, by name and shape.
  using Grouping = std::function<std::vector<ParameterGroup>(std::span<const std::string> names, std::span<const Shape> shapes)>;

  /// Where values and slots lie: zeroed memory from `allocate`, or the session's device if that is empty. `mine`: this rank
  /// writes start values there; else another rank that shares the memory does, and the same bits reach this one.
  struct Memory {
    std::function<Buffer(std::size_t bytes)> allocate;
    bool mine = true;
  };

  /// Takes over the variables that the session's graph has by now, at their initial values. Slots start at zero. Collective
  /// where the memory is shared: a barrier must come before the first use.
  Parameters(Session& session, std::span<const std::string_view> slots, const Grouping& grouping, Memory memory);

  [[nodiscard]] std::span<const Parameter> trained() const noexcept { return trained_; }
  [[nodiscard]] std::int64_t flat_size() const noexcept { return flat_size_; }
  [[nodiscard]] std::int64_t elements() const noexcept { return elements_; }           ///< without padding
  [[nodiscard]] float* values(std::int64_t offset = 0) const { return values_.data<float>() + offset; }
  [[nodiscard]] float* slot(std::size_t s, std::int64_t offset = 0) const { return slots_[s].data<float>() + offset; }
  [[nodiscard]] std::size_t slots() const noexcept { return slots_.size(); }
  [[nodiscard]] Tensor value(std::size_t parameter) const { return view(values_, trained_[parameter]); }

  /// Variables that no gradient changes: running statistics, and frozen parameters.
  struct Other {
    std::string name;
    Tensor value;
    bool statistic = false;
  };
  [[nodiscard]] std::span<const Other> others() const noexcept { return others_; }

  /// Everything whose start must be the same on all ranks, one tensor after the other. `mine`: this rank is to write it.
  void for_each_start_value(const std::function<void(const Tensor&, bool mine)>& visit) const;

  /// Where another rank writes the shared memory, a visitor gets zeroed memory of this rank's instead, which is let go of.
  void visit(StateVisitor& visitor) override;

  [[nodiscard]] bool shared() const noexcept { return bool(memory_.allocate); }

 private:
  [[nodiscard]] Tensor zeroed(Device& device, std::int64_t n) const;
  [[nodiscard]] Tensor view(const Tensor& flat, const Parameter& parameter) const;

  Memory memory_;
  std::vector<Parameter> trained_;
  std::vector<Other> others_;
  std::vector<std::string> slot_names_;
  std::int64_t flat_size_ = 0, elements_ = 0;
  Tensor values_;
  std::vector<Tensor> slots_;
};

}  // namespace cohort
