#pragma once

#include "tasks/messages.hpp"
#include "tasks/token_parts.hpp"

namespace cohort {

/// Gives the workers of a token task what they are to do, and a sign of life to those that wait.
class WorkDealer {
 public:
  explicit WorkDealer(TokenParts& parts) : parts_(parts), last_beat_(parts.now()) {}

  /// To all that are idle, as far as there is something.
  void deal();
  void send(int worker, Token token);
  /// Workers that wait hear that others are at work, as long as they are: their waits stay short, and those that do not end mean
  /// something.
  void beat();
  /// Says for whom everybody waits, if it is somebody.
  void publish();

 private:
  [[nodiscard]] bool deal_training(int worker);

  TokenParts& parts_;
  double last_beat_, last_publish_ = 0;
};

}  // namespace cohort
