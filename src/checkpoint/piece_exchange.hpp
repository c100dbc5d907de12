#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "checkpoint/load_group.hpp"
#include "checkpoint/part_file.hpp"

namespace cohort {

/// A tensor whose elements lie in the files of ranks, and what this rank wants of it.
struct TensorInPieces {
  std::string name;
  Shape whole;
  std::uint32_t crc = 0;                 ///< of the whole
  FlatRange wanted;
  Tensor kept;                           ///< the wanted elements, dense
};

/// Collective. Fills the tensors, which are the same on all ranks but for what each wants of them. Each file is opened and read by one
/// rank, which checks what it reads and sends the others what they want of it; takes memory for one piece of one file beside them.
/// Error data_loss, the same on all ranks.
void read_in_pieces(LoadGroup& group, const PartsOfIndex& index, std::span<TensorInPieces> tensors);

}  // namespace cohort
