#include "report/trace_file.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <set>

#include "cohort/base/json.hpp"
#include "cohort/comm/control.hpp"
#include "report/gather.hpp"
#include "report/output_file.hpp"

namespace cohort {
namespace {

/// Rounded before anything is subtracted, so that what nests still nests in the file.
using Nanoseconds = std::int64_t;

std::string in_microseconds(Nanoseconds time) { return fmt::format("{}.{:03}", time / 1000, time % 1000); }

/// One line of the file, and where it belongs: by time, and among those of one moment ends before begins, outer before inner.
struct Line {
  Nanoseconds time = 0, length = 0;
  bool ends = false;
  std::int64_t outer = 0;      // among lines of one moment and length: the outer one has the greater
  std::string text{};
};

bool before(const Line& a, const Line& b) {
  if (a.time != b.time) return a.time < b.time;
  if (a.ends != b.ends) return a.ends;
  if (a.length != b.length) return (a.length > b.length) != a.ends;
  return (a.outer > b.outer) != a.ends;
}

/// The events of one rank as text.
class RankTrace {
 public:
  RankTrace(const Profile& profile, const Communicator& communicator, const ClockAlignment& alignment, double origin)
      : profile_(profile), rank_(communicator.rank()), ranks_(communicator.size()), alignment_(alignment), origin_(origin) {}

  std::string text(const std::string& host) {
    text_ = fmt::format(R"({{"ph":"M","name":"process_name","pid":{0},"tid":{0},"args":{{"name":{1}}}}},)"
                        "\n"
                        R"({{"ph":"M","name":"process_sort_index","pid":{0},"tid":{0},"args":{{"sort_index":{0}}}}})",
                        rank_, json_text(fmt::format("rank {} on {}", rank_, host)));
    int lanes = 0;
    for (const TraceLane* lane : profile_.lanes()) {
      const int thread = thread_id(lanes++);
      text_ += fmt::format(",\n" R"({{"ph":"M","name":"thread_name","pid":{},"tid":{},"args":{{"name":{}}}}})", rank_, thread,
                           json_text(fmt::format("rank {} {}", rank_, lane->name())));
      add(*lane, thread);
    }
    return std::move(text_);
  }

 private:
  /// Perfetto knows a thread by its number alone, whatever process it belongs to, and takes the one with the number of a process
  /// for its main thread. So no two ranks share a number, and each rank's first lane has that of its process.
  [[nodiscard]] int thread_id(int lane) const { return lane * ranks_ + rank_; }

  [[nodiscard]] Nanoseconds nanoseconds(double time) const {
    return std::max<Nanoseconds>(0, std::llround((alignment_.to_rank_0(time) - origin_) * 1e9));
  }

  void add(const TraceLane& lane, int thread) {
    std::vector<Line> lines;
    for (const TraceEvent& event : lane.events()) {
      const Nanoseconds begin = nanoseconds(event.begin), end = nanoseconds(event.end);
      const auto number = std::ssize(lines);
      if (event.overlaps) {
        // Buckets overlap each other, so they are asynchronous events; those of one bucket and step nest, outer one first. A local
        // id is the process's own: with a global one Perfetto shows them outside of all ranks.
        const std::string group = fmt::format(R"(,"cat":"exchange","id2":{{"local":"{}-{}"}})", event.step, event.id);
        lines.push_back({begin, end - begin, false, -number, head(event, "b", thread, begin) + group + arguments(event)});
        lines.push_back({end, end - begin, true, -number, head(event, "e", thread, end) + group + "}"});
      } else {   // the outer one is recorded when it ends, after those in it
        lines.push_back({begin, end - begin, false, number,
                         head(event, "X", thread, begin) + R"(,"dur":)" + in_microseconds(end - begin) + arguments(event)});
      }
    }
    std::sort(lines.begin(), lines.end(), before);
    for (const Line& line : lines) text_ += ",\n" + line.text;
  }

  [[nodiscard]] std::string head(const TraceEvent& event, const char* kind, int thread, Nanoseconds time) const {
    const std::string& name = profile_.text(event.name);
    return fmt::format(R"({{"ph":"{}","name":{},"pid":{},"tid":{},"ts":{})", kind,
                       json_text(event.id >= 0 ? fmt::format("{} {}", name, event.id) : name), rank_, thread, in_microseconds(time));
  }
  [[nodiscard]] static std::string arguments(const TraceEvent& event) {
    return event.step >= 0 ? fmt::format(R"(,"args":{{"step":{}}}}})", event.step) : "}";
  }

  const Profile& profile_;
  int rank_, ranks_;
  const ClockAlignment& alignment_;
  double origin_;
  std::string text_;
};

/// What a rank says about its own part, beside the events.
struct RankFacts {
  double began = 0;                       // on rank 0's clock
  std::int64_t steps = 0, dropped = 0;    // in the trace
};

RankFacts facts_of(const Profile& profile, const ClockAlignment& alignment, double started) {
  RankFacts facts{.began = alignment.to_rank_0(started)};
  std::set<std::int64_t> steps;
  for (const TraceEvent& event : profile.lanes()[0]->events()) steps.insert(event.step);
  steps.erase(-1);
  facts.steps = static_cast<std::int64_t>(steps.size());
  for (const TraceLane* lane : profile.lanes()) facts.dropped += lane->dropped();
  return facts;
}

std::string other_data(const std::vector<ClockOffset>& at_begin, const std::vector<ClockOffset>& at_end, const std::vector<RankFacts>& facts) {
  std::string text = R"("otherData":{"program":"cohort","clock":"rank 0, microseconds since its run began; offset = clock of the rank minus )"
                     R"(clock of rank 0, which lies within the uncertainty","ranks":[)";
  for (std::size_t r = 0; r < facts.size(); ++r) {
    text += fmt::format("{}\n" R"({{"rank":{},"offset_begin_us":{:.3f},"uncertainty_begin_us":{:.3f},"offset_end_us":{:.3f},)"
                        R"("uncertainty_end_us":{:.3f},"steps":{},"dropped_events":{}}})",
                        r == 0 ? "" : ",", r, at_begin[r].seconds * 1e6, at_begin[r].uncertainty * 1e6, at_end[r].seconds * 1e6,
                        at_end[r].uncertainty * 1e6, facts[r].steps, facts[r].dropped);
  }
  return text + "]}";
}

}  // namespace

void write_trace(Communicator& communicator, const Profile& profile, const std::vector<ClockOffset>& at_begin,
                 const std::vector<ClockOffset>& at_end, const std::filesystem::path& file) {
  const auto mine = static_cast<std::size_t>(communicator.rank());
  const ClockAlignment alignment(at_begin[mine], at_end[mine]);
  const std::vector<RankFacts> facts = all_gather_value(communicator, facts_of(profile, alignment, profile.started()));
  double origin = facts[0].began;
  for (const RankFacts& one : facts) origin = std::min(origin, one.began);
  std::unique_ptr<OutputFile> out;
  if (mine == 0) {
    out = std::make_unique<OutputFile>(file, OutputFile::Mode::replace);
    out->write(R"({"displayTimeUnit":"ms",)" + other_data(at_begin, at_end, facts) + ",\n\"traceEvents\":[\n");
  }
  const std::string text = RankTrace(profile, communicator, alignment, origin).text(communicator.context().host);
  gather_in_turn(communicator, text, [&](int rank, const std::string& events) { out->write((rank == 0 ? "" : ",\n") + events); });
  if (!out) return;
  out->write("\n]}\n");
  out->close();
}

}  // namespace cohort
