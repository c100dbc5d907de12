// A plan's faults under a communicator: those of messages by a decorating transport, those of steps when one begins.
#include <utility>

#include "cohort/base/error.hpp"
#include "cohort/comm/communicator.hpp"
#include "cohort/faults/fault_injection.hpp"
#include "faults/fault_transport.hpp"

namespace cohort {
namespace {

class FaultDecorator final : public TransportDecorator {
 public:
  explicit FaultDecorator(std::shared_ptr<Injection> injection) : injection_(std::move(injection)) {}

  std::unique_ptr<Transport> wrap(std::unique_ptr<Transport> transport, std::vector<int> job_ranks) override {
    if (!injection_->plan->meets_messages_of(injection_->context.rank)) return transport;
    return make_fault_transport(std::move(transport), injection_, std::move(job_ranks));
  }
  void begin_step(std::int64_t step) override { suffer_step(*injection_, step); }
  void on_bypass(const std::string& how) override {
    if (injection_->plan->meets_messages()) injection_->warn_of(how);
  }

 private:
  std::shared_ptr<Injection> injection_;
};

}  // namespace

void inject(Communicator& communicator, std::shared_ptr<const FaultPlan> plan) {
  check(plan != nullptr, Code::failed_precondition, "inject: there is no plan of faults");
  auto injection = std::make_shared<Injection>();
  injection->plan = std::move(plan);
  injection->activity = communicator.rank_activity();
  injection->cancel = communicator.cancel_flag();
  injection->context = communicator.context();
  injection->thread_ranks = communicator.transport().thread_ranks();
  if (injection->plan->drops_or_duplicates()) communicator.transport().expect_wrong_sizes();
  communicator.decorate(std::make_shared<FaultDecorator>(std::move(injection)));
}

}  // namespace cohort
