#include "tasks/token_work.hpp"

#include <algorithm>

namespace cohort {
namespace {

constexpr int kTodo = -1, kFinished = -2;    // of a share of an evaluation

bool gave_or_is_late(const WorkerDuty& duty) {
  return duty.giving == Giving::given || (duty.giving == Giving::nothing && !duty.idle);
}

}  // namespace

TokenWork::TokenWork(TokenWorkHost& host, int workers, const Options& options)
    : host_(host), options_(options), duties_(static_cast<std::size_t>(workers)) {}

void TokenWork::start(bool over, bool at_its_start, bool validates) {
  due_.end = over;
  if (at_its_start) look_for_boundary();
  else if (over) stage_ = Stage::ending;
  if (validates) begin_evaluation();
}

void TokenWork::look_for_boundary() {
  if (stage_ != Stage::training) return;
  due_ = host_.boundary();
  if (due_.any()) stage_ = Stage::draining;
}

bool TokenWork::everyone(bool (*holds)(const WorkerDuty&)) const {
  return std::ranges::all_of(duties_, [&](const WorkerDuty& duty) { return duty.lost || holds(duty); });
}

void TokenWork::advance(bool stopped, bool awaits) {
  if (stage_ == Stage::draining && host_.is_drained()) begin_statistics();
  if (stage_ == Stage::statistics && everyone([](const WorkerDuty& duty) { return duty.index < 0 || gave_or_is_late(duty); })) finish_statistics();
  // Workers that fail at the validation may take tasks along.
  if (stage_ == Stage::publishing && host_.needs_nobody()) begin_evaluation();
  if (stage_ == Stage::evaluating && stopped) abandon_evaluation();
  if (stage_ == Stage::evaluating && std::ranges::all_of(shares_, [](int share) { return share == kFinished; })) finish_evaluation();
  if (stage_ == Stage::saving && everyone(gave_or_is_late)) evaluate_or_go_on();
  if (stage_ == Stage::ending && !awaits && everyone([](const WorkerDuty& duty) { return duty.ended; })) {
    host_.end();
    stage_ = Stage::ended;
  }
}

std::optional<Token> TokenWork::next(int worker, const Facts& now) {
  WorkerDuty& duty = of(worker);
  Token token;
  if (stage_ == Stage::statistics && duty.index >= 0 && duty.giving == Giving::nothing) {
    duty.giving = Giving::asked;
    token = {.kind = TokenKind::give_statistics};
  } else if (stage_ == Stage::saving && duty.giving == Giving::nothing) {
    duty.giving = Giving::asked;
    token = {.kind = residuals_, .step = now.step, .share = best_ ? 1 : 0};
  } else if (stage_ == Stage::evaluating) {
    const auto share = std::ranges::find(shares_, kTodo);
    if (share == shares_.end()) return {};
    *share = worker;
    duty.share = static_cast<int>(share - shares_.begin());
    duty.evaluates = true;
    token = {.kind = TokenKind::evaluate, .version = now.version, .share = duty.share, .shares = static_cast<std::int32_t>(shares_.size())};
  } else if (stage_ == Stage::ending) {
    duty.ended = true;
    token = {.kind = TokenKind::end, .complete = now.complete ? 1 : 0};
  } else {
    return {};
  }
  duty.idle = false;
  return token;
}

/// Of the workers that are here; a late one keeps its own until it hears the others'.
void TokenWork::begin_statistics() {
  due_ |= host_.boundary();                  // updates may have been made since
  stage_ = Stage::statistics;
  for (WorkerDuty& duty : duties_) duty.giving = options_.statistics ? Giving::nothing : Giving::given;
}

void TokenWork::finish_statistics() {
  if (options_.statistics) host_.average_statistics();
  saved_ = best_ = false;
  if (due_.save()) saved_ = save(false);     // first: the validation may fail
  if (stage_ != Stage::saving) evaluate_or_go_on();
}

void TokenWork::evaluate_or_go_on() {
  if (due_.evaluation) stage_ = Stage::publishing;
  else go_on();
}

void TokenWork::begin_evaluation() {
  stage_ = Stage::evaluating;
  due_.evaluation = false;
  shares_.assign(duties_.size(), kTodo);
  evaluation_.assign(options_.evaluation_sums, 0);
}

void TokenWork::take_evaluation(int worker, const Done& done) {
  WorkerDuty& duty = of(worker);
  duty.idle = true;
  duty.evaluates = false;
  shares_[static_cast<std::size_t>(duty.share)] = kFinished;
  evaluation_[0] += static_cast<double>(done.samples);
  for (std::size_t i = 1; i < evaluation_.size(); ++i) evaluation_[i] += done.sums[i - 1];
}

void TokenWork::lose(int worker) {
  WorkerDuty& duty = of(worker);
  duty.lost = true;
  duty.idle = false;
  if (duty.evaluates) shares_[static_cast<std::size_t>(duty.share)] = kTodo;
  duty.evaluates = false;
}

/// Once nobody is at it any more. A run that goes on from here validates first.
void TokenWork::abandon_evaluation() {
  for (int& share : shares_) share = share == kTodo ? kFinished : share;
  if (std::ranges::any_of(duties_, [](const WorkerDuty& duty) { return !duty.lost && duty.evaluates; })) return;
  due_.end = true;
  stage_ = Stage::training;                  // whatever is saved, this is over
  if (!saved_) (void)save(false);
  if (stage_ != Stage::saving) go_on();
}

void TokenWork::finish_evaluation() {
  best_ = host_.take_evaluation(evaluation_);
  if (best_ && saved_) {
    host_.mark_best();
    tell_keepers(TokenKind::mark_residuals);
  } else if (best_) {
    (void)save(true);
  }
  if (stage_ != Stage::saving) go_on();
}

/// The tasks write the state, and workers what error feedback has kept back, each beside it; a late worker writes nothing.
bool TokenWork::save(bool best) {
  if (!host_.save(best)) return false;
  tell_keepers(TokenKind::save_residuals);
  return true;
}

/// Of residuals, if there are some.
void TokenWork::tell_keepers(TokenKind what) {
  if (!options_.residuals) return;
  residuals_ = what;
  stage_ = Stage::saving;
  for (WorkerDuty& duty : duties_) duty.giving = Giving::nothing;
}

void TokenWork::go_on() {
  stage_ = due_.end ? Stage::ending : Stage::training;
  host_.pass(due_.end);
}

}  // namespace cohort
