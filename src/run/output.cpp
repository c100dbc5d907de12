#include "run/output.hpp"

#include <filesystem>
#include <system_error>

namespace cohort {

RunOutput::~RunOutput() {
  const bool fails = std::uncaught_exceptions() > exceptions_before_;
  if (!fails || directory.lock == nullptr || !directory.fresh || made_steps_ || saved) return;
  metrics.discard();
  std::error_code none;
  std::filesystem::remove_all(directory.path, none);
}

void RunOutput::end_step() {
  made_steps_ = true;
  if (directory.lock) directory.lock->check();
  metrics.end_step();
}

}  // namespace cohort
