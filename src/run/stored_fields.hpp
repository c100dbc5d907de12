#pragma once

#include <string>
#include <vector>

#include "cohort/data/reader.hpp"

namespace cohort {

class Communicator;
class OpenCheckpoint;

/// The fields of the data that a run was trained with, as a checkpoint keeps them in "data/fields": a line for each, such as
/// "float32[28, 28, 1] image". So a model can be built where the data are not there. Empty if a name has a line end.
[[nodiscard]] std::string text_of_fields(const std::vector<Field>& fields);

/// Collective. Those in a checkpoint; empty if it is from before they were kept. Errors as `load_checkpoint`.
[[nodiscard]] std::vector<Field> fields_in(OpenCheckpoint& checkpoint, Communicator& ranks);

}  // namespace cohort
