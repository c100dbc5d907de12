#include "tasks/gradient_plan.hpp"

#include <algorithm>

namespace cohort {

GradientPlan::GradientPlan(Run& run) : run_(run) {
  enter_phase();
  items_ = run_.state.samples / item_samples_;
}

void GradientPlan::enter_phase() {
  phase_ = run_.plan.phases.at(run_.state.position.epoch);
  trains_ = phase().active(run_.course.replicas());
  batches_ = phase().batches(run_.plan.pipeline, run_.course.replicas());
  length_ = run_.course.length(phase());
  rules_ = phase().aggregate(trains_);
  rules_->start_at(run_.state.step);
  item_samples_ = rules_->in_steps() ? length_.update_samples : batches_.pipeline.batch * run_.plan.train.accumulate;
  pending_ = 0;
}

std::int64_t GradientPlan::samples_left() const {
  const std::int64_t all = run_.plan.training_data->size(), batch = BatchPlan(batches_.pipeline, rules_->in_steps() ? batches_.ways : 1).global_batch();
  return (batches_.pipeline.drop_last ? all / batch * batch : all) - run_.state.position.sample;
}

Position GradientPlan::advanced(const Position& from, std::int64_t samples) const {
  return samples >= samples_left() ? Position{from.epoch + 1, 0} : Position{from.epoch, from.sample + samples};
}

bool GradientPlan::wants_more() const {
  const std::int64_t most = run_.plan.train.max_steps;
  if (rules_->in_steps() || most == 0) return true;
  return (most - run_.state.step) * rules_->per_update() > pending_ + rules_->under_way();
}

Token GradientPlan::training(int share) {
  Token token{.kind = TokenKind::train, .phase = static_cast<std::int32_t>(phase_), .version = rules_->version(), .position = run_.state.position,
            .samples = std::min(item_samples_, samples_left()), .step = run_.state.step, .share = share, .shares = rules_->shares()};
  token.in_steps = rules_->in_steps() ? 1 : 0;
  if (rules_->in_steps()) return token;
  token.step = items_++;
  run_.state.position = advanced(run_.state.position, token.samples);
  return token;
}

void GradientPlan::step_on() {
  if (rules_->in_steps()) run_.state.position = advanced(run_.state.position, std::min(length_.update_samples, samples_left()));
}

}  // namespace cohort
