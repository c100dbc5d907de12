#pragma once

#include <cstdint>

#include "cohort/params/state.hpp"

namespace cohort {

/// Whoever keeps what a lossy codec has not sent yet (error feedback), one value per element of the gradients. As a state that
/// is this rank's, "residuals/NAME" for each parameter; zeros where there is none, and what is loaded there is lost.
class ResidualKeeper : public Stateful {
 public:
  [[nodiscard]] virtual bool keeps_residuals() const noexcept = 0;
  /// Says for which elements residuals are used here: a hash that changes with whatever decides that.
  [[nodiscard]] virtual std::int64_t residual_layout() const = 0;
  /// The next gradient goes in float32 and delivers the residuals, which were loaded for other ranks or another layout. The same
  /// on all ranks.
  virtual void flush_residuals() noexcept = 0;
};

}  // namespace cohort
