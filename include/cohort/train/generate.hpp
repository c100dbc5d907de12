#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>

#include "cohort/base/options.hpp"
#include "cohort/comm/communicator.hpp"

namespace cohort {

/// The [generate] section.
struct GenerateOptions {
  std::string prompt = "\n";              ///< what the text begins with; bytes
  std::int64_t length = 500;              ///< bytes to add
  double temperature = 0.8;               ///< logits are divided by it; 0: always the likeliest byte
  std::int64_t top = 0;                   ///< draw among this many likeliest bytes only; 0: among all
  std::uint64_t seed = 1;

  GenerateOptions() = default;
  explicit GenerateOptions(Section& section);
};

/// Which of the symbols to take, for `u` uniform in [0, 1): the probabilities are those of softmax(logits / temperature), of the
/// `top` likeliest if top > 0. Temperature 0: the first of the largest logits, whatever `u` is. Precondition: there are logits.
/// Error out_of_range if one is NaN.
[[nodiscard]] std::size_t choose_symbol(std::span<const float> logits, double temperature, std::int64_t top, double u);

/// Collective. Continues a prompt with the checkpoint (named as for `evaluate`) of a job file's model, which must take `input`
/// int32 [t] and give logits [n, t, symbols] in which a position depends on itself and earlier ones only. At most the last t bytes
/// are looked at. The k-th byte is drawn with f(seed, k), so that a text depends on nothing else. Rank 0 computes and returns
/// the text with its prompt, the other ranks return nothing; `show` (may be empty) gets each piece of it as soon as it is there.
/// Needs no data: the checkpoint keeps the shape of the model's input. Error invalid_argument for a model or prompt that does
/// not fit.
std::string generate(Communicator& communicator, Section& config, const std::string& checkpoint,
                     const std::function<void(std::string_view)>& show = {});

}  // namespace cohort
