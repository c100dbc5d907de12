// What workers are to do between updates: every step of it, with workers that are late, lost or new, and nobody else there.
#include "tasks/token_work.hpp"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace cohort {
namespace {

using Stage = TokenWork::Stage;

/// Writes down what is asked of it, and answers as it is told.
class Host final : public TokenWorkHost {
 public:
  Boundary due;
  bool drained = true, saves = true, published = true, best = false;
  std::vector<double> sums;
  std::string journal;

  [[nodiscard]] Boundary boundary() const override { return due; }
  [[nodiscard]] bool is_drained() override { return drained; }
  void average_statistics() override { journal += "average "; }
  [[nodiscard]] bool save(bool of_best) override {
    journal += of_best ? "save-best " : "save ";
    return saves;
  }
  void mark_best() override { journal += "mark "; }
  [[nodiscard]] bool needs_nobody() override { return published; }
  [[nodiscard]] bool take_evaluation(std::span<const double> all) override {
    sums.assign(all.begin(), all.end());
    journal += "evaluated ";
    return best;
  }
  void pass(bool end) override { journal += end ? "pass-end " : "pass "; }
  void end() override { journal += "end "; }
};

class TokenWorks : public ::testing::Test {
 protected:
  explicit TokenWorks(TokenWork::Options options = {.evaluation_sums = 2, .statistics = true, .residuals = true}) : work(host, 3, options) {
    work.start(false, false, false);
    for (int worker = 0; worker < 3; ++worker) {
      work.of(worker).index = worker;
      work.of(worker).idle = true;
    }
  }

  /// Its kind, or -1: there is nothing to do.
  int next(int worker) {
    const std::optional<Token> token = work.next(worker, {.version = 7, .step = 6, .complete = true});
    return token ? static_cast<int>(token->kind) : -1;
  }
  void give(int worker) {
    work.of(worker).giving = Giving::given;
    work.of(worker).idle = true;
  }
  void advance(bool stopped = false, bool awaits = false) { work.advance(stopped, awaits); }
  /// All that are here do what they are asked at this stage.
  void all_give(TokenKind kind) {
    for (int worker = 0; worker < 3; ++worker) {
      if (work.of(worker).lost || !work.of(worker).idle) continue;
      EXPECT_EQ(next(worker), static_cast<int>(kind));
      give(worker);
    }
    advance();
  }
  /// Statistics are there, and shares of the evaluation are about to be dealt out.
  void begin_evaluation() {
    host.due = {.evaluation = true};
    work.look_for_boundary();
    advance();
    all_give(TokenKind::give_statistics);
    advance();
  }
  void evaluate(int worker, double loss) {
    ASSERT_EQ(next(worker), static_cast<int>(TokenKind::evaluate));
    Done done{.kind = DoneKind::evaluated, .samples = 2};
    done.sums[0] = 2 * loss;
    work.take_evaluation(worker, done);
  }

  Host host;
  TokenWork work;
};

TEST_F(TokenWorks, NothingIsDueAndNothingHappens) {
  work.look_for_boundary();
  advance();
  EXPECT_EQ(work.stage(), Stage::training);
  EXPECT_EQ(next(0), -1);
  EXPECT_EQ(host.journal, "");
}

TEST_F(TokenWorks, ABoundaryAveragesSavesValidatesAndGoesOn) {
  host.due = {.evaluation = true, .save_of_epoch = true};
  host.best = true;
  work.look_for_boundary();
  EXPECT_EQ(work.stage(), Stage::draining);
  advance();
  EXPECT_EQ(work.stage(), Stage::statistics);
  all_give(TokenKind::give_statistics);
  EXPECT_EQ(host.journal, "average save ");
  EXPECT_EQ(work.stage(), Stage::saving);            // of residuals
  all_give(TokenKind::save_residuals);
  EXPECT_EQ(work.stage(), Stage::publishing);
  advance();
  ASSERT_EQ(work.stage(), Stage::evaluating);
  for (int worker = 0; worker < 3; ++worker) evaluate(worker, worker);
  advance();
  EXPECT_EQ(host.sums, (std::vector<double>{6, 6}));
  EXPECT_EQ(host.journal, "average save evaluated mark ");
  all_give(TokenKind::mark_residuals);
  EXPECT_EQ(host.journal, "average save evaluated mark pass ");
  EXPECT_EQ(work.stage(), Stage::training);
}

TEST_F(TokenWorks, AStateThatWasNotSavedIsWhereItIsTheBest) {
  host.due = {.evaluation = true};
  host.best = true;
  work.look_for_boundary();
  advance();
  all_give(TokenKind::give_statistics);
  advance();
  for (int worker = 0; worker < 3; ++worker) evaluate(worker, 1);
  advance();
  const std::optional<Token> token = work.next(0, {.version = 7, .step = 6, .complete = true});
  ASSERT_TRUE(token && token->kind == TokenKind::save_residuals);
  EXPECT_EQ(token->share, 1);                        // as those of the best
  EXPECT_EQ(token->step, 6);
  EXPECT_EQ(host.journal, "average evaluated save-best ");
}

TEST_F(TokenWorks, GradientsUnderWayAreAwaited) {
  host.drained = false;
  host.due = {.phase = true};
  work.look_for_boundary();
  advance();
  EXPECT_EQ(work.stage(), Stage::draining);
  host.due = {.save_of_step = true};                 // an update was made meanwhile
  host.drained = true;
  advance();
  all_give(TokenKind::give_statistics);
  EXPECT_EQ(host.journal, "average save ");
}

TEST_F(TokenWorks, ALateWorkerIsNotAwaited) {
  work.of(1).idle = false;                           // at its gradient
  host.due = {.save_of_epoch = true};
  work.look_for_boundary();
  advance();
  for (const int worker : {0, 2}) {
    EXPECT_EQ(next(worker), static_cast<int>(TokenKind::give_statistics));
    advance();
    EXPECT_EQ(work.stage(), Stage::statistics);      // who was asked is
    give(worker);
  }
  advance();
  EXPECT_EQ(work.stage(), Stage::saving);
}

TEST_F(TokenWorks, ALostWorkersShareIsDealtOutAgain) {
  begin_evaluation();
  ASSERT_EQ(next(0), static_cast<int>(TokenKind::evaluate));
  evaluate(1, 1);
  evaluate(2, 1);
  EXPECT_EQ(next(1), -1);                            // all are dealt out
  work.lose(0);
  advance();
  EXPECT_EQ(work.stage(), Stage::evaluating);
  evaluate(1, 5);
  advance();
  EXPECT_EQ(host.sums, (std::vector<double>{6, 14}));
  EXPECT_EQ(work.stage(), Stage::training);
}

TEST_F(TokenWorks, AStopAbandonsAnEvaluationOnceNobodyIsAtIt) {
  begin_evaluation();
  ASSERT_EQ(next(0), static_cast<int>(TokenKind::evaluate));
  advance(true);
  EXPECT_EQ(work.stage(), Stage::evaluating);
  EXPECT_EQ(next(1), -1);                            // no more shares
  work.take_evaluation(0, {.kind = DoneKind::evaluated});
  advance(true);
  EXPECT_EQ(host.journal, "average save ");          // and not validated: who goes on does that
  all_give(TokenKind::save_residuals);
  EXPECT_EQ(host.journal, "average save pass-end ");
  EXPECT_EQ(work.stage(), Stage::ending);
}

TEST_F(TokenWorks, TheEndComesWhenAllHaveHeardOfIt) {
  host.due = {.end = true};
  work.look_for_boundary();
  advance();
  all_give(TokenKind::give_statistics);
  EXPECT_EQ(work.stage(), Stage::ending);
  work.lose(2);
  for (const int worker : {0, 1}) {
    advance();
    EXPECT_EQ(work.stage(), Stage::ending);
    EXPECT_EQ(next(worker), static_cast<int>(TokenKind::end));
  }
  advance(false, true);                              // somebody new is on its way
  EXPECT_EQ(work.stage(), Stage::ending);
  advance();
  EXPECT_EQ(work.stage(), Stage::ended);
  EXPECT_EQ(host.journal, "average pass-end end ");
}

TEST_F(TokenWorks, WhatIsNotWorthSavingIsValidatedAllTheSame) {
  host.due = {.evaluation = true, .save_of_step = true};
  host.saves = false;
  work.look_for_boundary();
  advance();
  all_give(TokenKind::give_statistics);
  advance();
  EXPECT_EQ(work.stage(), Stage::evaluating);
}

TEST_F(TokenWorks, AValidationWaitsForTheCheckpointToBeWhole) {
  host.due = {.evaluation = true, .save_of_epoch = true};
  host.published = false;
  work.look_for_boundary();
  advance();
  all_give(TokenKind::give_statistics);
  all_give(TokenKind::save_residuals);
  advance();
  EXPECT_EQ(work.stage(), Stage::publishing);
  host.published = true;
  advance();
  EXPECT_EQ(work.stage(), Stage::evaluating);
}

TEST_F(TokenWorks, AWorkerThatDoesNotTrainGivesNoStatistics) {
  work.of(2).index = -1;
  host.due = {.phase = true};
  work.look_for_boundary();
  advance();
  EXPECT_EQ(next(2), -1);
  for (const int worker : {0, 1}) {
    EXPECT_EQ(next(worker), static_cast<int>(TokenKind::give_statistics));
    give(worker);
  }
  advance();
  EXPECT_EQ(host.journal, "average pass ");
}

class WorkWithoutStatistics : public TokenWorks {
 protected:
  WorkWithoutStatistics() : TokenWorks({.evaluation_sums = 2}) {}
};

TEST_F(WorkWithoutStatistics, ABoundaryIsPassedAtOnce) {
  host.due = {.save_of_step = true};
  work.look_for_boundary();
  advance();
  EXPECT_EQ(host.journal, "save pass ");
  EXPECT_EQ(work.stage(), Stage::training);
}

TEST(TokenWork, ARunThatIsOverEndsAndOneThatEndsAtItsStartIsSaved) {
  Host host;
  TokenWork over(host, 1, {});
  over.start(true, false, false);
  EXPECT_EQ(over.stage(), Stage::ending);
  host.due = {.save_of_epoch = true, .end = true};
  TokenWork at_its_start(host, 1, {});
  at_its_start.start(true, true, false);
  EXPECT_EQ(at_its_start.stage(), Stage::draining);
  TokenWork unfinished(host, 1, {});
  unfinished.start(false, false, true);              // saved before its validation
  EXPECT_EQ(unfinished.stage(), Stage::evaluating);
}

}  // namespace
}  // namespace cohort
