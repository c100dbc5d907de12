// Which algorithm serves a bucket: by name, or by the cost model.
#include <fmt/core.h>

#include <algorithm>
#include <limits>
#include <map>

#include "cohort/base/error.hpp"
#include "cohort/comm/collective.hpp"
#include "cohort/comm/control.hpp"

namespace cohort {
namespace {

constexpr std::size_t kSmallest = 1024, kLargest = std::size_t{1} << 32;   // bytes that the table of choices tells apart

/// What decides which algorithms fit.
struct Place {
  const NodeMap& nodes;
  bool thread_ranks;
};

bool is_lossy(const CollectiveOptions& options) { return options.codec != nullptr && !options.codec->exact(); }

std::string why_not(const CollectiveType& type, const Place& place, const CollectiveOptions& options) {
  if (!type.thread_ranks && place.thread_ranks) return "it needs MPI, and the ranks are threads";
  if (!type.several_nodes && place.nodes.nodes() > 1) return "it works within one node, here are " + place.nodes.text();
  if (options.rank_order && !type.rank_order && place.nodes.ranks() > 2) {   // with two, any order is rank order
    return "it does not sum in rank order, which deterministic sums need";
  }
  if (is_lossy(options) && !type.lossy_codecs) {
    return "it does not send through a codec, and " + options.codec_name + " is not exact";
  }
  return {};
}

/// `for_nodes`: between nodes, for an algorithm that is made of others.
std::vector<Estimate> estimates(const Place& place, const CollectiveOptions& options, double bytes, bool for_nodes) {
  CostQuery query;
  query.bytes = bytes;
  if (options.codec != nullptr) query.wire = static_cast<double>(options.codec->wire_bytes(1 << 20)) / (4 << 20);
  query.nodes = &place.nodes;
  query.network = &options.network;
  if (!for_nodes) {
    query.between_nodes = [&](const CostQuery& q) {
      const std::vector<Estimate> all = estimates({*q.nodes, place.thread_ranks}, options, q.bytes, true);
      for (const Estimate& each : all) {
        if (options.inter == "auto" || options.inter == each.algorithm) return each.seconds;
      }
      return std::numeric_limits<double>::infinity();
    };
  }
  std::vector<Estimate> result;
  bool made_for_one_node = false;
  for (const auto& [name, entry] : Registry<CollectiveType>::instance().entries()) {
    const CollectiveType& type = entry.value;
    if (!type.cost || !why_not(type, place, options).empty() || (made_for_one_node && type.several_nodes)) continue;
    if (type.error_grows && is_lossy(options)) continue;
    if (!type.several_nodes && !made_for_one_node) result.clear();
    made_for_one_node = made_for_one_node || !type.several_nodes;
    result.push_back({.seconds = type.cost(query), .algorithm = name});
  }
  std::ranges::stable_sort(result, {}, &Estimate::seconds);
  return result;
}

/// Up to so many bytes this algorithm.
struct Choice {
  std::size_t bytes;
  std::string algorithm;
};

std::vector<Choice> table_of_choices(const Communicator& c, const CollectiveOptions& options) {
  std::vector<Choice> table;
  for (std::size_t bytes = kSmallest; bytes <= kLargest; bytes *= 2) {
    const std::vector<Estimate> all = estimates(c, options, bytes);
    if (table.empty() || table.back().algorithm != all.front().algorithm) {
      table.push_back({.bytes = bytes, .algorithm = all.front().algorithm});
    }
    table.back().bytes = bytes;
  }
  return table;
}

std::string size_text(std::size_t bytes) {
  if (bytes < 1u << 20) return fmt::format("{} KiB", bytes >> 10);
  return bytes < 1u << 30 ? fmt::format("{} MiB", bytes >> 20) : fmt::format("{} GiB", bytes >> 30);
}

std::string text_of(const std::vector<Choice>& table) {
  std::string text;
  for (std::size_t i = 0; i < table.size(); ++i) {
    text += (i > 0 ? ", " : "") + table[i].algorithm;
    if (i + 1 < table.size()) text += " up to " + size_text(table[i].bytes);
    else if (i > 0) text += " above";
  }
  return text;
}

/// One collective per algorithm that is needed, made with the first bucket that needs it.
class Auto final : public Collective {
 public:
  Auto(Communicator& c, const CollectiveOptions& options, std::vector<Choice> table)
      : Collective(c, options), table_(std::move(table)) {}

  Buffer allocate(std::size_t bytes) override { return part(bytes).allocate(bytes); }
  Work& prepare(Operation operation, const Bucket& bucket) override {
    return part(bucket.n * sizeof(float)).prepare(operation, bucket);
  }
  bool advance() override {
    bool none_left = true;
    for (const auto& [name, each] : parts_) none_left = each->advance() && none_left;
    return none_left;
  }
  void trace_to(std::string_view lane) override {
    lane_ = lane;
    for (const auto& [name, each] : parts_) each->trace_to(lane);
  }
  std::string describe() const override {
    std::string text = Collective::describe() + ": " + text_of(table_);
    for (const auto& [name, each] : parts_) {
      if (each->describe() != name) text += "; " + each->describe();
    }
    return text;
  }

 protected:
  std::unique_ptr<Work> make_work(Operation, const Bucket&) override { fail(Code::internal, "auto has no works of its own"); }

 private:
  Collective& part(std::size_t bytes) {
    std::size_t at = 0;
    while (at + 1 < table_.size() && bytes > table_[at].bytes) ++at;
    const std::string& name = table_[at].algorithm;
    // Without this look ranks with different buckets would wait for each other in different groups.
    const std::vector<std::size_t> all = all_gather_value(communicator(), at);
    for (std::size_t rank = 0; rank < all.size(); ++rank) {
      if (all[rank] == all[0]) continue;
      fail(Code::failed_precondition,
           fmt::format("the ranks do not prepare the same bucket: its size calls for {} on rank {}, for {} on rank 0",
                       table_[all[rank]].algorithm, rank, table_[all[0]].algorithm));
    }
    std::unique_ptr<Collective>& made = parts_[name];
    if (made == nullptr) {
      CollectiveOptions by_name = options();
      by_name.algorithm = name;
      made = make_collective(communicator(), by_name);
      adopt(*made);
      if (!lane_.empty()) made->trace_to(lane_);
    }
    return *made;
  }

  std::vector<Choice> table_;
  std::string lane_;                // of the trace; empty: none
  std::map<std::string, std::unique_ptr<Collective>> parts_;
};

/// A lossy codec whose error grows with the ranks is somebody's wish, so it is obeyed, and said.
void warn_of_growing_error(const Communicator& c, const CollectiveOptions& options, const std::string& algorithm) {
  const int rank = options.rank >= 0 ? options.rank : c.rank();
  if (rank != 0 || !is_lossy(options) || !Registry<CollectiveType>::instance().get(algorithm).error_grows) return;
  c.context().log.warning(fmt::format("collective '{}' encodes sums again at every hop: with codec {} the error grows with the square "
                                      "root of the number of ranks; direct, recursive_halving and auto keep it flat",
                                      algorithm, options.codec_name));
}

/// The algorithm that is named, checked; or the only one that auto has to choose from.
std::string named(const Communicator& c, const CollectiveOptions& options) {
  if (options.algorithm != "auto") {
    const std::string reason = why_not(Registry<CollectiveType>::instance().get(options.algorithm), c, options);
    if (!reason.empty()) fail(Code::failed_precondition, "collective '" + options.algorithm + "' cannot be used: " + reason);
    return options.algorithm;
  }
  const std::vector<Estimate> all = estimates(c, options, kSmallest);
  if (all.size() == 1) return all.front().algorithm;
  if (!all.empty()) return {};
  std::string reasons;
  for (const auto& [name, entry] : Registry<CollectiveType>::instance().entries()) {
    if (entry.value.cost) reasons += "; " + name + ": " + why_not(entry.value, c, options);
  }
  fail(Code::failed_precondition, "no collective fits" + reasons);
}

}  // namespace

std::string node_memory_algorithm(const std::string& wanted) {
  const auto& types = Registry<CollectiveType>::instance();
  if (const CollectiveType* const type = types.find(wanted); type != nullptr && type->node_memory) return wanted;
  for (const auto& [name, entry] : types.entries()) {
    if (entry.value.node_memory) return name;
  }
  fail(Code::not_found, "no collective sums in memory that the ranks of a machine share");
}

std::string why_not(const CollectiveType& type, const Communicator& c, const CollectiveOptions& options) {
  return why_not(type, Place{c.nodes(), c.transport().thread_ranks()}, options);
}

std::vector<Estimate> estimates(const Communicator& c, const CollectiveOptions& options, std::size_t bytes) {
  return estimates({c.nodes(), c.transport().thread_ranks()}, options, static_cast<double>(bytes), false);
}

std::unique_ptr<Collective> make_collective(Communicator& c, CollectiveOptions options) {
  if (options.codec == nullptr) options.codec = codec_named(options.codec_name);
  const bool chooses = options.algorithm == "auto";
  std::string instead;
  if (chooses && is_lossy(options) && c.nodes().nodes() == 1) {
    instead = ", where exact floats are faster than " + options.codec_name;
    options = options.with_codec("fp32");
  }
  std::string name = named(c, options), reason;
  if (chooses && !name.empty()) {
    const bool local = !Registry<CollectiveType>::instance().get(name).several_nodes;
    reason = local ? "auto: all ranks are on one node" + instead : "auto: no other fits";
  }
  std::vector<Choice> table;
  if (name.empty()) {
    options.network = measure_network(c, options.network);
    reason = "auto: " + options.network.text();
    table = table_of_choices(c, options);
    if (table.size() == 1) name = table.front().algorithm;
  }
  if (!name.empty()) warn_of_growing_error(c, options, name);
  std::unique_ptr<Collective> collective =
      name.empty() ? std::make_unique<Auto>(c, options, std::move(table))
                   : Registry<CollectiveType>::instance().get(name).make(c, options);
  collective->algorithm_ = name.empty() ? "auto" : name;
  collective->reason_ = reason;
  return collective;
}

}  // namespace cohort
