#pragma once

#include <string>

#include "cohort/comm/collective.hpp"

namespace cohort::testing {

/// What every collective must do, wherever its ranks are. Each is called by all ranks; a collective that cannot serve the
/// communicator (why_not) is skipped.

/// All operations, sizes from 0 to 2^20+1, six buckets in flight at once, memory of its own and others', several steps:
/// against sums in double precision, the same bits on all ranks, in rank order where the collective says so.
void check_sums(Communicator& communicator, const std::string& algorithm, std::int64_t chunk_bytes);

/// One rank differs in step, count, dtype, operation, order of buckets or configuration: every rank gets the same named
/// error, and the communicator is still good afterwards.
void check_mismatches(Communicator& communicator, const std::string& algorithm);

/// A rank that never starts: the others end in time and say what they waited for.
void check_absent_rank(Communicator& communicator, const std::string& algorithm);

/// Through a lossy codec with error feedback: the same bits on all ranks, and what does not arrive is kept:
/// sum of (gradient + residual before) = result + sum of residuals after.
void check_lossy_codec(Communicator& communicator, const std::string& algorithm);

}  // namespace cohort::testing
