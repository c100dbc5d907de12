#pragma once

#include <array>
#include <cstdint>
#include <type_traits>

namespace cohort {

/// What a rank of a job tells `cohort launch` about its start, over TCP: FrameKind::report with this body at each stage, and once
/// a second until it is watched; then FrameKind::goodbye when it ends in an orderly way. FrameKind::verdict is the answer that ends it.
enum class StartStage : std::int32_t {
  begun,                            ///< the process runs, and goes into MPI_Init
  joined,                           ///< MPI is up
  watched,                          ///< all ranks have met, and from here on the watchdog looks after them
};

struct StartNews {
  std::uint64_t token = 0;          ///< of this call of `cohort launch`
  StartStage stage = StartStage::begun;
  std::int32_t rank = 0, ranks = 0;
  std::int32_t process = 0;
  std::array<char, 64> host{};
};
static_assert(std::is_trivially_copyable_v<StartNews>);

/// "TOKEN SECONDS PORT ADDRESS…": where `cohort launch` listens, and how long it waits for the start. Of the variables of its
/// environment mpirun hands on to other machines those that begin with OMPI_, and no others unless it is told to.
inline constexpr const char* kStartVariable = "OMPI_COHORT_LAUNCH";

inline constexpr double kNewsPeriod = 1;     ///< seconds

}  // namespace cohort
