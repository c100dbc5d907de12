#include "tasks/task_layout.hpp"

#include "tasks/blocks.hpp"

namespace cohort {
namespace {

std::vector<int> ranks_of(const ClusterSpec& cluster, const char* job) {
  std::vector<int> ranks;
  for (const int task : cluster.task_indices(job)) ranks.push_back(cluster.rank(job, task));
  return ranks;
}

}  // namespace

TaskLayout::TaskLayout(const ParameterLayout& layout, const ClusterOptions& options, const ExchangeOptions& exchange, int ranks)
    : cluster(options.spec(ranks)), tasks(ranks_of(cluster, "ps")), workers(ranks_of(cluster, "worker")),
      shards(deal_out(layout, options.blocks, static_cast<int>(tasks.size()))), dense_steps(exchange.dense_steps),
      plain_(codec_named("fp32")),
      codec_(exchange.collective.codec ? exchange.collective.codec : codec_named(exchange.collective.codec_name)), pull_(codec_named(options.pull_codec)),
      small_(codec_named(exchange.small_codec_name)) {
  lossy = !codec_->exact();
  feeds_back = lossy && (exchange.error_feedback == "on" || (exchange.error_feedback == "auto" && codec_->wants_feedback()));
  const std::int64_t first_small = layout.range(layout.first_small(), layout.trained().size()).begin;
  const auto longest = static_cast<std::int64_t>(options.piece_mib * 1024 * 1024 / sizeof(float));
  for (const Shard& shard : shards) {
    dense.emplace_back(shard, *plain_, *plain_, first_small, longest);
    coded.emplace_back(shard, *codec_, *small_, first_small, longest);
    values.emplace_back(shard, *pull_, pull_->exact() ? *pull_ : *small_, first_small, longest);
  }
}

}  // namespace cohort
