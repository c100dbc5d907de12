#include "cohort/train/generate.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>
#include <utility>
#include <vector>

#include "checkpoint/open_checkpoint.hpp"
#include "cohort/base/random.hpp"
#include "cohort/base/stop.hpp"
#include "run/run_directory.hpp"
#include "run/setup.hpp"
#include "run/stored_fields.hpp"

namespace cohort {
namespace {

/// The model's logits for the symbol that follows a text.
class Predictor {
 public:
  explicit Predictor(Setup& setup) : session_(setup.replica->session()) {
    const Value input = setup.replica->graph().find("input"), logits = setup.replica->evaluation_model().output;
    const bool fits = input && input.dtype() == DType::int32 && input.shape().rank() == 2 && logits && logits.dtype() == DType::float32 &&
                      logits.shape().rank() == 3 && logits.shape()[-1] != Shape::kUnknown;
    check(fits, Code::invalid_argument, "generate needs a model of sequences: with the field 'input' int32 [t] and logits [n, t, symbols] as output");
    positions_ = input.shape()[1];
    symbols_ = logits.shape()[-1];
    input_ = Tensor::zeros({1, positions_}, DType::int32);
    const std::array<Value, 1> fetches{logits};
    step_ = &session_.prepare(fetches, {{input, input_.shape()}});
  }

  [[nodiscard]] std::int64_t symbols() const noexcept { return symbols_; }

  [[nodiscard]] std::span<const float> operator()(std::string_view text) {
    const std::int64_t length = std::min(std::ssize(text), positions_);
    text.remove_prefix(text.size() - static_cast<std::size_t>(length));
    auto* symbol = input_.data<std::int32_t>();
    for (const char c : text) *symbol++ = static_cast<unsigned char>(c);
    std::fill(symbol, input_.data<std::int32_t>() + positions_, 0);   // later positions have no influence
    step_->run(std::span<const Tensor>(&input_, 1));
    logits_ = step_->fetch(0).to_vector<float>();
    return std::span<const float>(logits_).subspan(static_cast<std::size_t>((length - 1) * symbols_), static_cast<std::size_t>(symbols_));
  }

 private:
  Session& session_;
  Step* step_ = nullptr;
  std::int64_t positions_ = 0, symbols_ = 0;
  Tensor input_;
  std::vector<float> logits_;
};

}  // namespace

GenerateOptions::GenerateOptions(Section& section) {
  section.bind("prompt", prompt, "what the text begins with");
  section.bind("length", length, "bytes to add", at_least(0));
  section.bind("temperature", temperature, "logits are divided by it; 0: always the likeliest byte", at_least(0));
  section.bind("top", top, "draw among this many likeliest bytes only; 0: among all", at_least(0));
  section.bind("seed", seed, "another seed is another text");
  check(!prompt.empty(), Code::invalid_argument, section.path() + ".prompt: must not be empty, a model needs a first byte");
}

std::size_t choose_symbol(std::span<const float> logits, double temperature, std::int64_t top, double u) {
  check(std::ranges::none_of(logits, [](float x) { return std::isnan(x); }), Code::out_of_range,
        "the model's logits are NaN, which says nothing about the next symbol: its parameters are damaged, take an earlier checkpoint");
  std::vector<std::size_t> order(logits.size());
  std::iota(order.begin(), order.end(), 0u);
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return logits[a] > logits[b]; });
  if (temperature == 0) return order.front();
  if (top > 0 && static_cast<std::size_t>(top) < order.size()) order.resize(static_cast<std::size_t>(top));
  std::vector<double> weights;
  for (const std::size_t symbol : order) {
    weights.push_back(std::exp((static_cast<double>(logits[symbol]) - static_cast<double>(logits[order.front()])) / temperature));
  }
  double left = u * std::accumulate(weights.begin(), weights.end(), 0.0);
  for (std::size_t i = 0; i < order.size(); ++i) {
    left -= weights[i];
    if (left < 0) return order[i];
  }
  return order.back();   // rounding
}

std::string generate(Communicator& communicator, Section& config, const std::string& checkpoint,
                     const std::function<void(std::string_view)>& show) {
  const GenerateOptions options(config.child("generate"));
  Description description(config, DataUse::none);
  OpenCheckpoint file(find_directory(communicator, description.train.directory, checkpoint).resume_from);
  description.fields = fields_in(file, communicator);
  if (description.fields.empty()) description.fields = open_data(config.child("data").child("train"))->fields();   // an old one
  Setup setup(communicator, std::move(description));
  load_parameters(communicator, setup, file);
  Predictor predict(setup);
  for (const char c : options.prompt) {
    check(static_cast<unsigned char>(c) < predict.symbols(), Code::invalid_argument,
          "generate.prompt: byte " + std::to_string(static_cast<unsigned char>(c)) + " is beyond the model's " +
              std::to_string(predict.symbols()) + " symbols");
  }
  check(predict.symbols() <= 256, Code::invalid_argument, "generate: the model has " + std::to_string(predict.symbols()) + " symbols, a byte has 256");
  if (communicator.rank() != 0) return {};
  std::string text = options.prompt;
  if (show) show(text);
  for (std::int64_t k = 0; k < options.length; ++k) {
    if (communicator.context().stop_requested()) {
      if (show) show("\n");
      throw StopRequested("stopped as asked after " + std::to_string(k) + " of " + std::to_string(options.length) + " bytes");
    }
    const auto u = static_cast<double>(random_uniform(options.seed, stream_of("generate"), static_cast<std::uint64_t>(k)));
    text += static_cast<char>(choose_symbol(predict(text), options.temperature, options.top, u));
    if (show) show(std::string_view(text).substr(text.size() - 1));
  }
  return text;
}

}  // namespace cohort
