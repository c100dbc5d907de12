#pragma once

#include <array>
#include <cstdint>
#include <type_traits>

#include "cohort/data/pipeline.hpp"
#include "cohort/exchange/step_scalars.hpp"

namespace cohort {

/// What workers, parameter tasks and the token task say to each other. All of it is sent as it lies in memory. Every message has
/// a number that counts up, and messages of one tag have sizes that alternate, so one that is lost or comes twice is noticed.
namespace task_tag {
inline constexpr int kPush = 101;            ///< worker → parameter task: PushHeader, then PieceHeader and floats for each piece
inline constexpr int kPull = 102;            ///< worker → parameter task: PullRequest
inline constexpr int kDone = 103;            ///< worker → token task: Done
inline constexpr int kStatistics = 104;      ///< worker → token task: floats, behind a Done
inline constexpr int kAck = 105;             ///< parameter task → token task: Ack
inline constexpr int kLog = 106;             ///< token task → parameter task: LogEntry
inline constexpr int kValues = 201;          ///< parameter task → worker: ValuesHeader, then as kPush
inline constexpr int kToken = 202;            ///< token task → worker: Token
inline constexpr int kAverages = 203;        ///< token task → worker: floats, behind a Token
}  // namespace task_tag

struct PushHeader {
  std::int64_t number = 0;                   ///< of this worker's gradients
  std::int64_t step = 0;                     ///< what the codec may use
  std::int64_t coded = 0;                    ///< 0: float32
};

struct PieceHeader {
  std::int64_t number = 0;
  std::int64_t piece = 0;
};

struct PullRequest {
  std::int64_t number = 0;                   ///< of this worker's pulls
  std::int64_t version = 0;                  ///< at least this one
};

struct ValuesHeader {
  std::int64_t number = 0;                   ///< of the request
  std::int64_t version = 0;
  std::int64_t unused = 0;
};

/// All of a gradient has arrived at a parameter task.
struct Ack {
  std::int64_t number = 0;                   ///< of the gradient; -1: what came does not fit, and the worker is to be left out
  std::int32_t worker = 0;
  std::int32_t life = 0;                     ///< of the worker: how often it had been replaced
};

enum class TokenKind : std::int32_t {
  train,                                     ///< a gradient of this share of the batch at `position`
  evaluate,                                  ///< this share of the validation data
  give_statistics,                           ///< of batch norm and the like
  save_residuals,                            ///< beside the checkpoint of `step`; `share` 1: the best
  mark_residuals,                            ///< those beside the checkpoint of `step` are the best's
  beat,                                      ///< nothing yet, but others are at work
  end,
  refused,                                   ///< this worker is left out: nothing from it counts any more
};

struct Token {
  std::int64_t number = 0;                   ///< of this worker's work
  TokenKind kind = TokenKind::beat;
  std::int32_t phase = 0;
  std::int64_t version = 0;                  ///< of the parameters, at least
  Position position{};
  std::int64_t samples = 0;                  ///< of the update, or of the gradient where each has a batch of its own
  std::int64_t step = 0;                     ///< a stream for dropout; the same for all shares
  std::int32_t share = 0, shares = 1;
  std::int32_t in_steps = 0;                 ///< 1: a gradient of older parameters is of no use
  std::int32_t averages = 0;                 ///< 1: statistics follow
  std::int32_t complete = 0;                 ///< at the end, 1: no rank was lost
  std::int32_t unused = 0;
  std::int64_t skipped = -1;                 ///< the update that the worker's last gradient was meant for, if it was skipped
};

enum class DoneKind : std::int32_t { ready, trained, outdated, evaluated, statistics, saved };

struct Done {
  static constexpr std::size_t kSums = kMostMetrics + 2;      // the loss, the metrics, and one that is free
  std::int64_t number = 0;                   ///< of the work; 0: ready for the first
  DoneKind kind = DoneKind::ready;
  std::int32_t stop = 0;                     ///< 1: somebody has asked this rank to end the run
  std::int64_t gradient = 0;                 ///< its number
  std::int64_t read = 0;                     ///< version of the parameters
  double norm = 0;                           ///< of the gradient; not finite if it is not
  std::int64_t samples = 0;
  std::array<double, kSums> sums{};          ///< over samples: loss, metrics
};

enum class LogKind : std::int32_t {
  gradient,
  save,
  replace,                                   ///< a lost worker: a new process is started in its place
  join,                                      ///< it is there, and works from here on
  give_up,                                   ///< it is not, and nobody waits for it any longer
  end,
};

/// What all parameter tasks do, in this order.
struct LogEntry {
  std::int64_t number = 0;
  LogKind kind = LogKind::gradient;
  std::int32_t worker = 0;
  std::int64_t gradient = 0;
  std::int32_t accepted = 0;                 ///< 0: dropped
  std::int32_t applies = 0;                  ///< the sum becomes an update
  double weight = 0, sum_scale = 0;
  double rate = 0, previous_rate = 0;
  std::int64_t applied = 0;                  ///< updates before this one
  std::int32_t in_steps = 0;
  std::int32_t best = 0;
  std::int64_t step = 0;
  std::int64_t complete = 0;                 ///< at the end, 1: no rank was lost
};

static_assert(std::is_trivially_copyable_v<Token> && std::is_trivially_copyable_v<Done> && std::is_trivially_copyable_v<LogEntry>);
static_assert(sizeof(PushHeader) != sizeof(PieceHeader) && sizeof(ValuesHeader) != sizeof(PieceHeader));

}  // namespace cohort
