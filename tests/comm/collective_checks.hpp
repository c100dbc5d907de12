#pragma once

#include <string>

#include "cohort/comm/collective.hpp"

namespace cohort::testing {

/// What every collective must do, wherever its ranks are. Each is called by all ranks; a collective that cannot serve the
/// communicator (why_not) is skipped.

/// All operations, sizes from 0 to 2^20+1 (with sanitizers 2^16+1, in as many pieces), seven buckets in flight at once, memory
/// of its own and others', several steps:
/// against sums in double precision, the same bits on all ranks, in rank order where the collective says so.
void check_sums(Communicator& communicator, const std::string& algorithm, std::int64_t chunk_bytes);
/// The same for a collective with other options; it must fit. Without the long bucket it is much faster.
void check_sums(Communicator& communicator, const CollectiveOptions& options, bool long_bucket = true);

/// Buckets of some pieces, for every collective that fits, `auto`, and hierarchical over every collective that fits between nodes.
void check_placement(Communicator& communicator);

/// All that can sum in rank order, `auto` among them, give the same bits, whatever the constants that auto goes by.
void check_rank_order(Communicator& communicator);

/// One rank differs in step, count, dtype, operation, order of buckets or configuration: every rank gets the same named
/// error, and the communicator is still good afterwards.
void check_mismatches(Communicator& communicator, const std::string& algorithm);

/// A rank that never starts: the others end in time and say what they waited for.
void check_absent_rank(Communicator& communicator, const std::string& algorithm);

/// Through a lossy codec with error feedback: the same bits on all ranks, and what does not arrive is kept:
/// sum of (gradient + residual before) = result + sum of residuals after.
void check_lossy_codec(Communicator& communicator, const std::string& algorithm);

}  // namespace cohort::testing
